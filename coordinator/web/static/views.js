// What is shown, made anew from the state each time.
import { state, keyOf } from './store.js';
import { h } from './dom.js';
import { age, alive, condition, count, fits, nodeState, owner, podState, restarts, rollout, taint, why } from './format.js';
import { cell, chip, empty, eventColumns, eventRow, meters, newest, podsOn, slots, sorted, table } from './parts.js';
import { hardware, hardwareLine } from './hardware.js';

function figure(label, value, tone) {
  return h('div', { class: `figure ${tone || ''}` }, h('b', {}, value), h('span', {}, label));
}

export function summary() {
  const nodes = sorted('nodes');
  const ready = nodes.filter((n) => condition(n, 'Ready')?.status === 'True').length;
  const pods = sorted('pods').filter(alive);
  const running = pods.filter((p) => podState(p).tone === 'good').length;
  const moving = sorted('moveplans').filter((m) => !['Done', 'Failed'].includes(m.status?.phase)).length;
  const attention = alerts().length;
  return [
    figure('nodes ready', `${ready}/${nodes.length}`, ready < nodes.length ? 'bad' : 'good'),
    figure('pods running', `${running}/${pods.length}`, running < pods.length ? 'warn' : 'good'),
    figure(attention === 1 ? 'alert' : 'alerts', attention, attention ? 'warn' : 'good'),
    figure('moves under way', moving),
    ...meters(nodes, pods.filter((p) => p.spec.nodeName)),
  ];
}

// alerts are what a person should look at, worst first.
function alerts() {
  const out = [];
  for (const n of state.nodes.values()) {
    const s = nodeState(n);
    if (s.tone === 'bad' || s.word.startsWith('short')) out.push({ ...s, kind: 'nodes', key: keyOf(n), name: `Node ${n.metadata.name}`, since: condition(n, 'Ready')?.lastTransitionTime });
  }
  for (const p of state.pods.values()) {
    const s = podState(p);
    if (s.tone === 'bad') out.push({ tone: s.tone, word: `${s.word}: ${trouble(p)}`, kind: 'pods', key: keyOf(p), name: `Pod ${keyOf(p)}`, since: p.metadata.creationTimestamp });
  }
  for (const d of state.deployments.values()) {
    const s = rollout(d);
    if (s.tone === 'bad') out.push({ tone: s.tone, word: `rollout ${s.word}`, name: `Deployment ${keyOf(d)}`, since: condition(d, 'Progressing')?.lastTransitionTime });
  }
  return out.sort((a, b) => (a.tone === b.tone ? a.name.localeCompare(b.name) : a.tone === 'bad' ? -1 : 1));
}

function trouble(p) {
  if (!p.spec.nodeName) return why(p);
  const c = (p.status?.containerStatuses || []).find((s) => s.state?.waiting || s.state?.terminated);
  const last = c?.lastState?.terminated;
  const waiting = c?.state?.waiting?.message || p.status?.message || '';
  return [waiting, last ? `last exit code ${last.exitCode}` : '', restarts(p) ? count(restarts(p), 'restart') : ''].filter(Boolean).join(', ');
}

const mostAlerts = 6;

export function attention() {
  const all = alerts();
  if (!all.length) return [];
  return h('ul', { class: `alerts ${all[0].tone}` }, all.slice(0, mostAlerts).map((a) => h('li', { class: a.tone, 'data-key': `a ${a.name}` },
    a.kind ? h('button', { type: 'button', class: 'name', 'data-open': `${a.kind} ${a.key}` }, a.name) : h('b', {}, a.name), h('span', { class: 'what' }, a.word), h('span', { class: 'quiet' }, age(a.since)))),
  all.length > mostAlerts ? h('li', { class: 'quiet' }, `and ${all.length - mostAlerts} more`) : null);
}

function nodeRow(n) {
  const name = n.metadata.name;
  const pods = podsOn(name);
  const i = state.nodeinventories.get(`/${name}`)?.inventory;
  const marks = (n.spec?.taints || []).map(taint);
  return h('article', { class: 'node', 'data-key': `n ${name}`, 'aria-label': `Node ${name}` },
    h('header', {}, h('button', { type: 'button', class: 'name', 'data-open': `nodes ${keyOf(n)}` }, name), chip(nodeState(n)),
      h('span', { class: 'quiet' }, (n.status?.addresses || []).find((a) => a.type === 'InternalIP')?.address || '')),
    meters([n], pods),
    h('details', { 'data-key': `hw ${name}` }, h('summary', { title: 'Hardware' }, hardwareLine(i)), i ? hardware(i) : null),
    slots(pods), marks.length ? h('p', { class: 'taints' }, marks.join(' · ')) : null);
}

const mostNodes = 200;

const podColumns = ['Pod.c-pod', 'State.c-state', 'Ready.c-age', 'Restarts.c-restarts', 'Age.c-age', 'Node.c-node', 'Why there'];

function podRow(p) {
  const statuses = p.status?.containerStatuses || [];
  return h('tr', { tabindex: '0', 'data-open': `pods ${keyOf(p)}` },
    h('th', { scope: 'row', class: 'cut', title: p.metadata.name }, p.metadata.name), cell('State', '', chip(podState(p))),
    cell('Ready', 'number', `${statuses.filter((c) => c.ready).length}/${p.spec.containers.length}`),
    cell('Restarts', 'number', restarts(p)), cell('Age', 'number', age(p.metadata.creationTimestamp)), cell('Node', 'cut', p.spec.nodeName || '–'), cell('Why there', 'why', why(p)));
}

const podFits = (filter, p, ...more) => fits(filter, p.metadata.name, p.metadata.namespace, p.spec.nodeName, podState(p).word, ...more);

// grouped gives the pods of each deployment, or other controller, by its uid.
function grouped() {
  const groups = new Map();
  for (const p of sorted('pods')) {
    const direct = owner(p);
    const set = direct?.kind === 'ReplicaSet' ? state.replicasets.get(`${p.metadata.namespace}/${direct.name}`) : null;
    const uid = (set && owner(set)?.uid) || direct?.uid || 'alone';
    if (!groups.has(uid)) groups.set(uid, []);
    groups.get(uid).push(p);
  }
  return groups;
}

function group(title, ...content) { return h('section', { class: 'group', 'data-key': `g ${title.textContent}` }, title, ...content); }

function workloads(filter) {
  const groups = grouped();
  const blocks = [];
  for (const d of sorted('deployments')) {
    const all = groups.get(d.metadata.uid) || [];
    groups.delete(d.metadata.uid);
    const own = fits(filter, d.metadata.name, d.metadata.namespace, rollout(d).word);
    const pods = own ? all : all.filter((p) => podFits(filter, p, d.metadata.name));
    if (!own && !pods.length) continue;
    const images = (d.spec.template.spec.containers || []).map((c) => c.image).join(', ');
    blocks.push(group(h('h2', {}, h('span', { class: 'quiet' }, `${d.metadata.namespace}/`), d.metadata.name),
      h('p', { class: 'under' }, chip(rollout(d)), h('span', { class: 'quiet' }, `${images} · ${age(d.metadata.creationTimestamp)} old`)),
      table(`Pods of ${d.metadata.name}`, podColumns, pods.map(podRow), 'no pods')));
  }
  const rest = [...groups.values()].flat().filter((p) => podFits(filter, p));
  if (rest.length) blocks.push(group(h('h2', {}, 'Other pods'), table('Other pods', podColumns, rest.map(podRow), '')));
  const services = sorted('services').filter((s) => fits(filter, s.metadata.name, s.metadata.namespace));
  blocks.push(group(h('h2', {}, 'Services'), table('Services', ['Service.c-pod', 'Address.c-state', 'Ports.c-node', 'Ready endpoints'], services.map(serviceRow), 'no services')));
  return blocks;
}

function serviceRow(s) {
  const places = [...state.endpointslices.values()]
    .filter((e) => e.metadata.namespace === s.metadata.namespace && e.metadata.labels?.['kubernetes.io/service-name'] === s.metadata.name)
    .flatMap((e) => (e.endpoints || []).filter((x) => x.conditions?.ready !== false)).map((x) => x.nodeName || '?');
  const per = Object.entries(places.reduce((m, n) => ({ ...m, [n]: (m[n] || 0) + 1 }), {})).sort().map(([n, c]) => `${n}${c > 1 ? ` ×${c}` : ''}`).join(', ');
  return h('tr', { 'data-key': `s ${keyOf(s)}` }, h('th', { scope: 'row', class: 'cut' }, h('span', { class: 'quiet' }, `${s.metadata.namespace}/`), s.metadata.name), cell('Address', '', s.spec.clusterIP || '–'),
    cell('Ports', '', (s.spec.ports || []).map((p) => `${p.port}/${p.protocol}`).join(' ')), cell('Ready', 'why', String(places.length), per ? h('span', { class: 'quiet' }, ` on ${per}`) : null));
}

function moveRow(m) {
  const tone = { Done: 'good', Failed: 'bad' }[m.status?.phase] || 'warn';
  return h('tr', { 'data-key': `m ${keyOf(m)}` }, cell('Age', 'number', age(m.metadata.creationTimestamp)), h('th', { scope: 'row', class: 'cut', title: m.spec.pod.name }, m.spec.pod.name),
    cell('From', 'cut', m.spec.from), cell('To', 'cut', m.spec.to), cell('Phase', '', chip({ word: m.status?.phase || 'Planned', tone })),
    cell('Gain', 'number', m.spec.gain.toFixed(3)), cell('Cost', 'number', m.spec.cost.toFixed(3)), cell('Why', 'why', m.spec.reason, m.status?.message ? ` – ${m.status.message}` : ''));
}

export const views = {
  nodes(filter) {
    const nodes = sorted('nodes').filter((n) => fits(filter, n.metadata.name, nodeState(n).word, hardwareLine(state.nodeinventories.get(`/${n.metadata.name}`)?.inventory),
      ...Object.entries(n.metadata.labels || {}).map((l) => l.join('=')), ...podsOn(n.metadata.name).map(keyOf)));
    if (nodes.length) return [...nodes.slice(0, mostNodes).map(nodeRow), nodes.length > mostNodes ? h('p', { class: 'quiet' }, `${nodes.length - mostNodes} more: narrow the filter`) : null];
    return empty(filter ? 'No node, and no pod on one, fits the filter.' : 'No nodes have joined: make a token with “skerry token create”.');
  },
  workloads,
  events(filter) {
    const events = newest().filter((e) => fits(filter, e.reason, e.message, e.type, e.involvedObject.name, e.involvedObject.namespace, e.involvedObject.kind));
    return table('Events, newest first', eventColumns, events.map((e) => eventRow(e)), filter ? 'No event fits the filter.' : 'No events.');
  },
  moves(filter) {
    const moves = [...sorted('moveplans')].sort((a, b) => new Date(b.metadata.creationTimestamp) - new Date(a.metadata.creationTimestamp))
      .filter((m) => fits(filter, m.spec.pod.name, m.spec.from, m.spec.to, m.status?.phase));
    return table('Moves between nodes, newest first', ['Age.c-age', 'Pod.c-pod', 'From.c-node', 'To.c-node', 'Phase.c-state', 'Gain.c-age', 'Cost.c-age', 'Why'], moves.map(moveRow),
      filter ? 'No move fits the filter.' : 'Nothing was moved: the load is even, or rebalancing is off.');
  },
};
