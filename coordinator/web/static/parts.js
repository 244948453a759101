// What several views are made of: chips, tables, meters, lists of facts.
import { state, keyOf } from './store.js';
import { h } from './dom.js';
import { age, cores, inUnitOf, podState, quantity, requests, alive, seen } from './format.js';

const mostRows = 500;

// once keeps what is made of the objects until one of them changes: views ask for the same again and again.
const kept = new Map();
function once(name, make) {
  const known = kept.get(name);
  if (known?.version === state.version) return known.value;
  const value = make();
  kept.set(name, { version: state.version, value });
  return value;
}

const names = new Intl.Collator(undefined, { numeric: true });

// sorted are the objects of a kind by name. The list is shared.
export const sorted = (kind) => once(kind, () => [...state[kind]].sort((a, b) => names.compare(a[0], b[0])).map(([, o]) => o));

export const chip = ({ word, tone }) => h('span', { class: `chip ${tone}` }, word);

export const empty = (text) => h('p', { class: 'empty' }, text);

export function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs.filter(([, v]) => v !== undefined && v !== null && v !== '').map(([k, v]) => h('div', {}, h('dt', {}, k), h('dd', {}, v))));
}

// table takes columns as "Title" or "Title.class"; the class is what style.css gives a width to.
export function table(caption, columns, rows, none) {
  if (!rows.length) return empty(none);
  const heads = columns.map((c) => c.split('.'));
  return [h('div', { class: 'scroll' }, h('table', {}, h('caption', {}, caption),
    h('thead', {}, h('tr', {}, heads.map(([title, cls]) => h('th', { scope: 'col', class: cls }, title)))), h('tbody', {}, rows.slice(0, mostRows)))),
  rows.length > mostRows ? h('p', { class: 'quiet' }, `${rows.length - mostRows} more: narrow the filter`) : null];
}

// cell is a td that a phone shows with its name.
export const cell = (name, cls, ...content) => h('td', { class: cls, 'data-name': name }, ...content);

const share = (n, total) => Math.min(100, total > 0 ? (100 * n) / total : 0).toFixed(1);

// meter is a bar of what is used (dark) and asked for (light) of a total, with the same in words.
function meter(label, { total, asked, used, text, past }) {
  const full = total > 0 && (used ?? 0) > 0.9 * total;
  return h('div', { class: 'meter' },
    h('span', { class: 'meter-label' }, label), past ? spark(past, total) : null, h('span', { class: 'meter-text' }, text),
    h('svg', { class: 'track', viewBox: '0 0 100 8', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      asked ? h('rect', { class: 'asked', width: share(asked, total), height: 8 }) : null,
      used ? h('rect', { class: full ? 'used full' : 'used', width: share(used, total), y: asked === undefined ? 0 : 2, height: asked === undefined ? 8 : 4 }) : null));
}

// spark is a line of the last minutes.
function spark(values, total) {
  if (values.length < 3) return null;
  const top = Math.max(total, ...values) || 1;
  const points = values.map((v, i) => `${((60 * i) / (values.length - 1)).toFixed(1)},${(13 - (12 * v) / top).toFixed(1)}`).join(' ');
  return h('svg', { class: 'spark', viewBox: '0 0 60 14', 'aria-hidden': 'true' }, h('polyline', { points }));
}

const podsByNode = () => once('pods by node', () => Map.groupBy(sorted('pods').filter(alive), (p) => p.spec.nodeName || ''));
export const podsOn = (node) => podsByNode().get(node) || [];

export function asked(pods) {
  return pods.map(requests).reduce((s, r) => ({ cpu: s.cpu + r.cpu, memory: s.memory + r.memory }), { cpu: 0, memory: 0 });
}

// meters are CPU, memory, disk and pod slots of nodes together: of one, or of the fleet.
export function meters(nodes, pods) {
  const total = { cpu: 0, memory: 0, pods: 0, disk: 0 };
  const used = { cpu: 0, memory: 0, disk: 0 };
  let measured = 0;
  for (const n of nodes) {
    const can = n.status?.allocatable || {};
    total.cpu += quantity(can.cpu);
    total.memory += quantity(can.memory);
    total.pods += quantity(can.pods);
    const load = state.loads[n.metadata.name];
    if (!load) continue;
    measured += 1;
    used.cpu += load.cpuMillis / 1000;
    used.memory += load.memoryBytes;
    used.disk += load.diskBytes;
    total.disk += load.diskTotalBytes;
  }
  const want = asked(pods);
  const past = nodes.length === 1 ? state.history.get(nodes[0].metadata.name) || [] : [];
  const words = (u, a, t, unit) => `${measured ? `${u} used · ` : ''}${a} asked of ${t} ${unit}`;
  const [diskUsed, disk, diskUnit] = inUnitOf(total.disk, used.disk);
  return [
    meter('CPU', { total: total.cpu, asked: want.cpu, used: used.cpu, text: words(cores(used.cpu), cores(want.cpu), cores(total.cpu), 'cores'), past: past.map((l) => l.cpuMillis / 1000) }),
    meter('Memory', { total: total.memory, asked: want.memory, used: used.memory, text: words(...inUnitOf(total.memory, used.memory, want.memory)), past: past.map((l) => l.memoryBytes) }),
    meter('Disk', { total: total.disk, used: used.disk, text: measured ? `${diskUsed} used of ${disk} ${diskUnit}` : 'not measured' }),
    meter('Pods', { total: total.pods, used: pods.length, text: `${pods.length} of ${total.pods}` }),
  ];
}

const mostSlots = 120;

// slots are a node's pods, one square each.
export function slots(pods) {
  if (!pods.length) return null;
  return h('div', { class: 'slots' }, pods.slice(0, mostSlots).map((p) => {
    const s = podState(p);
    return h('button', { type: 'button', class: `slot ${s.tone}`, 'data-open': `pods ${keyOf(p)}`, title: `${p.metadata.name}: ${s.word}`, 'aria-label': `Pod ${p.metadata.name}, ${s.word}` });
  }), pods.length > mostSlots ? h('span', { class: 'quiet' }, `and ${pods.length - mostSlots} more`) : null);
}

// newest are the events, the latest first. The list is shared.
export const newest = () => once('newest', () => [...state.events.values()].map((e) => [Date.parse(seen(e)), e]).sort((a, b) => b[0] - a[0]).map(([, e]) => e));

export const eventColumns = ['Seen.c-age', 'Reason.c-reason', 'About.c-about', 'What'];

// eventRow leaves the subject out where it is known.
export function eventRow(e, known) {
  const o = e.involvedObject;
  return h('tr', { 'data-key': `e ${keyOf(e)}` }, cell('Seen', '', age(seen(e))),
    cell('Reason', '', chip({ word: e.reason, tone: e.type === 'Warning' ? 'warn' : 'quiet' })),
    known ? null : h('th', { scope: 'row', class: 'cut', title: o.name }, h('span', { class: 'quiet' }, `${o.kind} ${o.namespace ? `${o.namespace}/` : ''}`), o.name),
    cell('What', 'why', e.message, e.count > 1 ? h('span', { class: 'quiet' }, ` ×${e.count}`) : null));
}

export function conditions(o) {
  return table('Conditions', ['Condition.c-name', 'State.c-age', 'Since.c-age', 'Why'], (o.status?.conditions || []).map((c) => h('tr', {},
    h('th', { scope: 'row' }, c.type), cell('State', '', c.status), cell('Since', '', age(c.lastTransitionTime)), cell('Why', 'why', [c.reason, c.message].filter(Boolean).join(': ')))), 'none');
}

export function eventsOf(o) {
  const own = newest().filter((e) => e.involvedObject.name === o.metadata.name && (e.involvedObject.uid === o.metadata.uid || !e.involvedObject.uid || e.involvedObject.kind === 'Node'));
  return [h('h3', {}, 'Events'), table(`Events of ${o.metadata.name}`, eventColumns.filter((c) => !c.startsWith('About')), own.map((e) => eventRow(e, true)), 'none that are kept')];
}
