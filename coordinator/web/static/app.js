// The page: session, routes, keyboard. What is known is in store.js, what is shown in views.js.
import { state, follow, stop, onChange } from './store.js';
import { summary, views, details, logTail } from './views.js';
import { $, h, replace } from './dom.js';

const names = ['nodes', 'workloads', 'events', 'moves'];
let view = 'nodes';
let open = null; // {kind, key} in the drawer
let opener = null; // what had the focus before
let logs = null; // the drawer's log, with what it is of

function draw() {
  replace($('#summary'), summary());
  replace($('#view'), views[view]($('#filter').value.trim().toLowerCase()));
  for (const a of document.querySelectorAll('nav a')) {
    if (a.dataset.view === view) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
  $('#count-nodes').textContent = state.nodes.size;
  $('#count-workloads').textContent = state.deployments.size;
  $('#count-events').textContent = state.events.size;
  $('#count-moves').textContent = state.moveplans.size;
  document.title = `${view[0].toUpperCase()}${view.slice(1)} – Skerry`;
  if (open) drawDrawer();
  drawLink();
}

let pending = false;
function schedule() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => { pending = false; draw(); });
}

function drawLink() {
  const p = $('#link');
  p.hidden = state.linked || !state.since;
  if (!p.hidden) p.textContent = `Link to the coordinator lost: data as of ${state.since.toLocaleTimeString()}. Trying again.`;
}

function drawDrawer() {
  const d = $('#drawer');
  const body = details(open.kind, open.key);
  replace(d, h('div', { class: 'drawer-head' },
    h('h2', {}, open.key.replace(/^\//, '')),
    h('button', { type: 'button', 'data-key': 'drawer-close', 'aria-label': 'Close details', onclick: close }, '×')),
  body, logs && logs.key === open.key ? logs.node : null);
  d.hidden = false;
}

function show(kind, key) {
  opener = document.activeElement;
  open = { kind, key };
  logs = null;
  drawDrawer();
  setTimeout(() => open && $('#drawer .drawer-head button').focus(), 50); // after the key that opened it is done: it must not press the button
  if (kind === 'pods') logTail(key).then((node) => { logs = { key, node }; schedule(); });
}

function close() {
  if (!open) return;
  const { kind, key } = open;
  open = null;
  $('#drawer').hidden = true;
  const row = document.querySelector(`[data-open="${CSS.escape(kind + ' ' + key)}"]`);
  (row || opener || $('#main')).focus();
}

function route() {
  const wanted = location.hash.replace(/^#\//, '');
  if (!names.includes(wanted)) return;
  if (view !== wanted) $('#filter').value = '';
  view = wanted;
  draw();
}

function rows() { return [...document.querySelectorAll('#view [data-open]')]; }

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(document.activeElement);
  all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step))].focus();
}

function key(e) {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const typing = e.target.matches('input, textarea');
  if (e.key === 'Escape') {
    if (typing && e.target.id === 'filter') { e.target.value = ''; e.target.blur(); draw(); } else close();
    return;
  }
  if (typing || document.querySelector('dialog[open]')) return;
  if (names[e.key - 1]) location.hash = `#/${names[e.key - 1]}`;
  else if (e.key === 'j') move(1);
  else if (e.key === 'k') move(-1);
  else if (e.key === '/') { e.preventDefault(); $('#filter').focus(); }
  else if (e.key === '?') $('#help').showModal();
  else if (e.key === 'Enter' && e.target.matches('tr[data-open]')) { e.preventDefault(); e.target.click(); }
}

async function session(method, token) {
  const answer = await fetch('session', {
    method, headers: token ? { 'Content-Type': 'application/json' } : {}, body: token ? JSON.stringify({ token }) : undefined,
  });
  if (answer.ok) return '';
  const said = await answer.json().catch(() => ({}));
  return said.error || `the coordinator answers ${answer.status}`;
}

function ask(why) {
  $('#login-error').textContent = why || '';
  if (!$('#login').open) $('#login').showModal();
}

async function login(token) {
  const fault = await session('POST', token);
  if (fault) { ask(fault); return; }
  $('#token').value = '';
  $('#login').close();
  follow(() => ask('The session has ended.'));
}

async function logout() {
  stop();
  await session('DELETE');
  ask('');
}

async function start() {
  const given = location.hash.match(/^#token=(.+)$/);
  if (given) history.replaceState(null, '', '#/nodes'); // a token is nothing to leave in an address bar
  route();
  if (given) { await login(decodeURIComponent(given[1])); return; }
  const answer = await fetch('session');
  if (answer.ok) follow(() => ask('The session has ended.'));
  else ask('');
}

onChange(schedule);
addEventListener('hashchange', route);
addEventListener('keydown', key);
document.addEventListener('click', (e) => {
  const row = e.target.closest('[data-open]');
  if (!row) return;
  const [kind, ...rest] = row.dataset.open.split(' ');
  show(kind, rest.join(' '));
});
$('#filter').addEventListener('input', draw);
$('#help-open').addEventListener('click', () => $('#help').showModal());
$('#logout').addEventListener('click', logout);
$('#login').addEventListener('cancel', (e) => e.preventDefault());
$('#login-form').addEventListener('submit', (e) => { e.preventDefault(); login($('#token').value.trim()); });
setInterval(schedule, 10000); // ages
start();
