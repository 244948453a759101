// The drawer: one node or pod in full, with the end of a pod's log.
import { state, keyOf } from './store.js';
import { h } from './dom.js';
import { age, nodeState, owner, podState, taint, why } from './format.js';
import { cell, chip, conditions, empty, eventsOf, facts, meters, podsOn, slots, table } from './parts.js';
import { hardware } from './hardware.js';

const mostLines = 1000;

// log is what is known of the log of one container of one pod.
let log = null;

// details are what the drawer shows of an object.
export function details(kind, key) {
  const o = state[kind]?.get(key);
  if (!o) return empty('It is gone.');
  return kind === 'nodes' ? node(o) : pod(o);
}

function node(n) {
  const name = n.metadata.name;
  const pods = podsOn(name);
  const i = state.nodeinventories.get(`/${name}`)?.inventory;
  return [h('p', { class: 'under' }, chip(nodeState(n)), ...(n.spec?.taints || []).map((t) => h('span', { class: 'quiet' }, taint(t)))), h('div', { class: 'meters' }, meters([n], pods)),
    h('h3', {}, 'Pods'), pods.length ? slots(pods) : empty('none'), h('h3', {}, 'Conditions'), conditions(n), i ? [h('h3', {}, 'Hardware'), hardware(i)] : null, eventsOf(n),
    h('h3', {}, 'Labels'), h('ul', { class: 'labels' }, Object.entries(n.metadata.labels || {}).sort().map(([k, v]) => h('li', {}, `${k}=${v}`)))];
}

function pod(p) {
  const by = owner(p);
  return [h('p', { class: 'under' }, chip(podState(p)), h('span', {}, why(p))),
    facts([['Node', p.spec.nodeName], ['Address', p.status?.podIP], ['Class', p.status?.qosClass], ['Owner', by ? `${by.kind} ${by.name}` : ''], ['Age', age(p.metadata.creationTimestamp)]]),
    h('h3', {}, 'Containers'), table('Containers', ['Container.c-name', 'Image', 'State', 'Restarts.c-restarts'], p.spec.containers.map((c) => container(p, c)), 'none'),
    eventsOf(p), logPart(p), h('h3', {}, 'Conditions'), conditions(p)];
}

function container(p, c) {
  const s = (p.status?.containerStatuses || []).find((x) => x.name === c.name) || {};
  const last = s.lastState?.terminated;
  return h('tr', {}, h('th', { scope: 'row' }, c.name), cell('Image', 'why', c.image),
    cell('State', 'why', containerState(s), last ? `; before that ${last.reason}, exit code ${last.exitCode}, ${age(last.finishedAt)} ago` : ''), cell('Restarts', 'number', s.restartCount || 0));
}

function containerState(c) {
  const s = c.state || {};
  if (s.running) return `running for ${age(s.running.startedAt)}`;
  const other = s.waiting || s.terminated;
  if (!other) return 'unknown';
  return [other.reason, other.exitCode === undefined ? '' : `exit code ${other.exitCode}`, other.message].filter(Boolean).join(', ');
}

function logPart(p) {
  if (!p.spec.nodeName || log?.key !== keyOf(p)) return null;
  const names = p.spec.containers.map((c) => c.name);
  return h('section', { class: 'log', 'data-key': 'log' }, h('h3', {}, 'Log, last 200 lines'),
    names.length > 1 ? h('p', { class: 'under' }, names.map((n) => h('button', { type: 'button', 'data-log': n, 'aria-pressed': String(n === log.container) }, n))) : null,
    h('pre', { tabindex: '0', id: 'log-text', 'aria-label': `Log of ${log.container}` }, log.text || (log.busy ? '…' : 'nothing was written')), log.busy ? null : h('p', { class: 'quiet' }, 'The log has ended.'));
}

// openLog follows the log of a pod's container, the first unless named; told is called when there is more.
export function openLog(key, told, name) {
  closeLog();
  const p = state.pods.get(key);
  if (!p?.spec.nodeName) return;
  const container = name || p.spec.containers[0].name;
  const abort = new AbortController();
  log = { key, container, text: '', busy: true, abort };
  const mine = log;
  const [namespace, pod_] = key.split('/').map(encodeURIComponent);
  const url = `/api/v1/namespaces/${namespace}/pods/${pod_}/log?container=${encodeURIComponent(container)}&tailLines=200&follow=true`;
  follow(url, abort.signal, (text) => { mine.text = `${mine.text}${text}`.split('\n').slice(-mostLines).join('\n'); if (mine === log) told(); })
    .catch((e) => { if (!abort.signal.aborted) mine.text += `\n${e.message}`; })
    .finally(() => { mine.busy = false; if (mine === log) told(); });
}

async function follow(url, signal, take) {
  const answer = await fetch(url, { signal });
  if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.message || `the coordinator answers ${answer.status}`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    take(value);
  }
}

export function closeLog() {
  log?.abort.abort();
  log = null;
}
