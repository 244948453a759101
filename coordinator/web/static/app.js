// The page: session, routes, keyboard, drawer. What is known is in store.js, what is shown in views.js and details.js.
import { state, check, follow, stop, onChange } from './store.js';
import { attention, summary, views } from './views.js';
import { closeLog, details, openLog } from './details.js';
import { $, h, show } from './dom.js';
import { clock } from './format.js';

const names = ['nodes', 'workloads', 'events', 'moves'];
const pace = 200; // ms between two drawings, however much changes
const patience = 2500; // ms that the link may be gone before it is worth a word

let view = 'nodes';
let open = null; // {kind, key} in the drawer
let opener = null; // what had the focus before

function draw() {
  drawLink();
  if (!state.synced) {
    show($('#summary'));
    show($('#alerts'));
    show($('#view'), state.heard ? h('p', { class: 'empty' }, 'Reading the state…') : null);
    return;
  }
  show($('#summary'), summary());
  show($('#alerts'), attention());
  show($('#view'), views[view]($('#filter').value.trim().toLowerCase()));
  for (const a of document.querySelectorAll('nav a')) {
    if (a.dataset.view === view) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
  $('#count-nodes').textContent = state.nodes.size;
  $('#count-workloads').textContent = state.deployments.size;
  $('#count-events').textContent = state.events.size;
  $('#count-moves').textContent = state.moveplans.size;
  document.body.dataset.view = view;
  document.title = `${view[0].toUpperCase()}${view.slice(1)} – Skerry`;
  if (open) drawDrawer();
}

let planned = false;
let drawn = 0;
function schedule() {
  if (planned) return;
  planned = true;
  setTimeout(() => requestAnimationFrame(() => { planned = false; drawn = performance.now(); draw(); }), Math.max(0, drawn + pace - performance.now()));
}

function drawLink() {
  const p = $('#link');
  p.hidden = !state.lost || Date.now() - state.lost < patience;
  if (!p.hidden) p.textContent = state.heard ? `Link to the coordinator lost: data as of ${clock(state.heard)}. Trying again.` : 'The coordinator does not answer. Trying again.';
}

function drawDrawer() {
  const text = $('#log-text');
  const atEnd = !text || text.scrollTop + text.clientHeight > text.scrollHeight - 20;
  show($('#drawer'), h('div', { class: 'drawer-head' }, h('h2', {}, open.key.replace(/^\//, '')),
    h('button', { type: 'button', id: 'close', 'aria-label': 'Close details' }, '×')), details(open.kind, open.key));
  if (atEnd && $('#log-text')) $('#log-text').scrollTop = $('#log-text').scrollHeight;
}

function openDrawer(kind, key) {
  if (!open) opener = document.activeElement;
  open = { kind, key };
  if (kind === 'pods') openLog(key, schedule);
  else closeLog();
  drawDrawer();
  $('#drawer').hidden = false;
  $('#drawer').scrollTop = 0;
  $('#main').inert = matchMedia('(max-width: 46rem)').matches; // the drawer covers it
  $('#drawer').focus();
}

function closeDrawer() {
  if (!open) return;
  const { kind, key } = open;
  open = null;
  closeLog();
  $('#main').inert = false;
  $('#drawer').hidden = true;
  show($('#drawer'));
  const back = opener?.isConnected && opener !== document.body ? opener : $(`#view [data-open="${CSS.escape(`${kind} ${key}`)}"]`);
  (back || $('#main')).focus();
}

function route() {
  const token = location.hash.match(/^#token=(.+)$/);
  if (token) {
    history.replaceState(null, '', '#/nodes'); // a token is nothing to leave in an address bar
    login(decodeURIComponent(token[1]));
  }
  const wanted = location.hash.replace(/^#\//, '');
  if (names.includes(wanted)) view = wanted;
  draw();
  return Boolean(token);
}

// step moves the focus to the next or previous thing that has details.
function step(by) {
  const all = [...document.querySelectorAll('#view [data-open]:not(.slot)')];
  if (!all.length) return;
  const at = all.indexOf(document.activeElement);
  all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))].focus();
}

function key(e) {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const typing = e.target.matches('input, textarea');
  if (e.key === 'Escape' && typing && e.target.id === 'filter') {
    e.target.value = '';
    e.target.blur();
    draw();
  } else if (e.key === 'Escape' && !document.querySelector('dialog[open]')) closeDrawer();
  if (typing || document.querySelector('dialog[open]')) return;
  if (names[e.key - 1]) {
    location.hash = `#/${names[e.key - 1]}`;
    route(); // at once: the next key is for what is shown then
  }
  if (e.key === 'j') step(1);
  else if (e.key === 'k') step(-1);
  else if (e.key === '/') { e.preventDefault(); $('#filter').focus(); } else if (e.key === '?') $('#help').showModal();
  else if (e.key === 'Enter' && e.target.matches('tr[data-open]')) { e.preventDefault(); e.target.click(); }
}

function click(e) {
  const what = e.target.closest('[data-open], [data-log], #close');
  if (what?.id === 'close') closeDrawer();
  else if (what?.dataset.log) openLog(open.key, schedule, what.dataset.log);
  else if (what && getSelection().isCollapsed) { // else somebody is copying a name
    const [kind, ...rest] = what.dataset.open.split(' ');
    openDrawer(kind, rest.join(' '));
  }
}

async function session(method, token) {
  const answer = await fetch('session', {
    method, headers: token ? { 'Content-Type': 'application/json' } : {}, body: token ? JSON.stringify({ token }) : undefined,
  }).catch(() => null);
  if (answer?.ok) return '';
  if (!answer) return 'The coordinator does not answer.';
  const said = await answer.json().catch(() => ({}));
  return said.error || `The coordinator answers ${answer.status}.`;
}

function ask(why) {
  closeDrawer();
  $('#login-error').textContent = why || '';
  if (!$('#login').open) $('#login').showModal();
}

const over = () => ask('The session has ended.');

async function login(token) {
  const fault = await session('POST', token);
  if (fault) { ask(fault); return; }
  $('#token').value = '';
  $('#login').close();
  follow(over);
}

async function logout() {
  const fault = await session('DELETE');
  if (fault) { ask(fault); return; }
  stop();
  ask('');
}

async function start() {
  if (route()) return;
  const answer = await fetch('session').catch(() => null);
  if (answer?.status === 401) ask('');
  else follow(over);
}

onChange(schedule);
addEventListener('hashchange', route);
addEventListener('keydown', key);
document.addEventListener('click', click);
$('.skip').addEventListener('click', (e) => { e.preventDefault(); $('#main').focus(); });
$('#filter').addEventListener('input', draw);
$('#help-open').addEventListener('click', () => $('#help').showModal());
$('#logout').addEventListener('click', logout);
$('#login').addEventListener('cancel', (e) => e.preventDefault());
$('#login-form').addEventListener('submit', (e) => { e.preventDefault(); login($('#token').value.trim()); });
setInterval(() => { check(); drawLink(); }, 1000);
setInterval(schedule, 5000); // ages
start();
