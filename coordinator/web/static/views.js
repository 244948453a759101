// What is shown, made anew from the state each time.
import { state, keyOf } from './store.js';
import { h } from './dom.js';
import { age, bytes, condition, nodeState, podState, quantity, requests, restarts, why } from './format.js';

const mostRows = 500;
const byName = (a, b) => keyOf(a).localeCompare(keyOf(b));
const sorted = (kind) => [...state[kind].values()].sort(byName);
const alive = (p) => p.status?.phase !== 'Succeeded' && p.status?.phase !== 'Failed';
const chip = (s) => h('span', { class: `chip ${s.tone}` }, s.word);
const ownerOf = (o) => (o.metadata.ownerReferences || []).find((r) => r.controller);
const matches = (filter, ...texts) => !filter || texts.some((t) => (t || '').toLowerCase().includes(filter));

function figure(label, value, tone) {
  return h('div', { class: `figure ${tone || ''}` }, h('b', {}, value), h('span', {}, label));
}

export function summary() {
  const nodes = sorted('nodes');
  const ready = nodes.filter((n) => condition(n, 'Ready')?.status === 'True').length;
  const pods = sorted('pods').filter(alive);
  const running = pods.filter((p) => podState(p).tone === 'good').length;
  const pending = pods.filter((p) => !p.spec.nodeName).length;
  const moving = sorted('moveplans').filter((m) => !['Done', 'Failed'].includes(m.status?.phase)).length;
  return [
    figure('nodes ready', `${ready}/${nodes.length}`, ready < nodes.length ? 'bad' : 'good'),
    figure('pods running', `${running}/${pods.length}`, running < pods.length ? 'warn' : 'good'),
    figure('pods without a node', pending, pending ? 'bad' : ''),
    figure('moves under way', moving),
  ];
}

// bar shows requested and used shares of what there is.
function bar(label, total, requested, used, text) {
  const share = (n) => `${Math.min(100, total ? (100 * n) / total : 0).toFixed(1)}`;
  return h('div', { class: 'bar-row' },
    h('span', { class: 'bar-label' }, label),
    h('svg', { class: 'meter', viewBox: '0 0 100 8', preserveAspectRatio: 'none', role: 'img', 'aria-label': `${label}: ${text}` },
      h('rect', { class: 'track', width: 100, height: 8 }),
      h('rect', { class: 'asked', width: share(requested), height: 8 }),
      used === null ? null : h('rect', { class: 'used', width: share(used), y: 2, height: 4 })),
    h('span', { class: 'bar-text' }, text));
}

function podsOn(node) { return sorted('pods').filter((p) => p.spec.nodeName === node && alive(p)); }

function bars(n) {
  const pods = podsOn(n.metadata.name);
  const asked = pods.map(requests).reduce((s, r) => ({ cpu: s.cpu + r.cpu, memory: s.memory + r.memory }), { cpu: 0, memory: 0 });
  const load = state.loads[n.metadata.name];
  const can = n.status?.allocatable || {};
  const cpu = quantity(can.cpu);
  const memory = quantity(can.memory);
  return [
    bar('CPU', cpu, asked.cpu, load ? load.cpuMillis / 1000 : null, `${load ? `${(load.cpuMillis / 1000).toFixed(2)} used, ` : ''}${asked.cpu.toFixed(2)} asked of ${Number(cpu.toFixed(2))}`),
    bar('Memory', memory, asked.memory, load ? load.memoryBytes : null, `${load ? `${bytes(load.memoryBytes)} used, ` : ''}${bytes(asked.memory)} asked of ${bytes(memory)}`),
    load ? bar('Disk', load.diskTotalBytes, 0, load.diskBytes, `${bytes(load.diskBytes)} of ${bytes(load.diskTotalBytes)}`) : null,
    bar('Pods', quantity(can.pods), pods.length, null, `${pods.length} of ${can.pods || 0}`),
  ];
}

function dots(pods) {
  return h('div', { class: 'dots' }, pods.slice(0, 120).map((p) => h('button', {
    type: 'button', class: `dot ${podState(p).tone}`, 'data-open': `pods ${keyOf(p)}`, title: `${p.metadata.name}: ${podState(p).word}`, 'aria-label': `Pod ${p.metadata.name}, ${podState(p).word}`,
  })), pods.length > 120 ? h('span', { class: 'quiet' }, `and ${pods.length - 120} more`) : null);
}

function board(i) { return [i?.system?.vendor, i?.system?.product].filter(Boolean).join(' ') || (i?.system?.virtualization ? 'virtual machine' : 'board unknown'); }

function hardwareLine(i) {
  if (!i) return 'not probed yet';
  const count = (n, what) => `${n} ${what}${n === 1 ? '' : 's'}`;
  const physical = (i.links || []).filter((l) => l.physical).length;
  const parts = [i.cpu.model || i.kernel.architecture, count(i.cpu.threads, 'thread'), bytes(i.memory.totalBytes), count((i.disks || []).length, 'disk')];
  if (physical) parts.push(count(physical, 'link'));
  if (i.devices?.length) parts.push(count(i.devices.length, 'device'));
  return parts.join(' · ');
}

function nodeCard(n) {
  const name = n.metadata.name;
  const i = state.nodeinventories.get(`/${name}`)?.inventory;
  const taints = (n.spec?.taints || []).map((t) => `${t.key}:${t.effect}`);
  return h('article', { class: 'card', 'aria-label': `Node ${name}` },
    h('header', {}, h('button', { type: 'button', class: 'name', 'data-open': `nodes ${keyOf(n)}` }, name), chip(nodeState(n)),
      h('span', { class: 'quiet right' }, (n.status?.addresses || []).find((a) => a.type === 'InternalIP')?.address || '')),
    h('p', { class: 'quiet' }, `${board(i)} · ${hardwareLine(i)}`),
    bars(n), dots(podsOn(name)),
    taints.length ? h('p', { class: 'taints' }, taints.join(' ')) : null,
    i ? h('details', { 'data-key': `hw ${name}` }, h('summary', {}, 'Hardware'), hardware(i)) : null);
}

function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs.filter(([, v]) => v !== undefined && v !== null && v !== '').map(([k, v]) => h('div', {}, h('dt', {}, k), h('dd', {}, v))));
}

function hardware(i) {
  const list = (items, say) => (items?.length ? h('ul', {}, items.map((x) => h('li', {}, say(x)))) : null);
  const sensors = (i.sensors || []).map((s) => `${s.chip} ${s.name} ${s.value}${{ temperature: ' °C', fan: ' rpm', voltage: ' V', power: ' W', current: ' A' }[s.kind] || ''}`);
  return facts([
    ['Board', board(i)], ['Virtual', i.system.virtualization], ['Kernel', `${i.kernel.version}, cgroups ${i.kernel.cgroupVersion || 'none'}`], ['OS', i.kernel.osImage],
    ['CPU', `${i.cpu.model || ''} ${i.cpu.sockets}×${i.cpu.cores} cores, ${i.cpu.threads} threads${i.cpu.maxMHz ? `, ${i.cpu.maxMHz} MHz` : ''}`],
    ['Memory', bytes(i.memory.totalBytes)], ['NUMA', i.numa?.length > 1 ? list(i.numa, (n) => `${n.id}: CPUs ${n.cpus}, ${bytes(n.memoryBytes)}`) : null],
    ['Disks', list(i.disks, (d) => `${d.name} ${bytes(d.sizeBytes)} ${d.bus || ''} ${d.rotational ? 'rotational' : 'solid'}${d.removable ? ', removable' : ''} ${d.model || ''}`)],
    ['Links', list((i.links || []).filter((l) => l.physical || (l.type !== 'loopback' && l.addresses?.length)), (l) => `${l.name} ${l.type} ${l.up ? 'up' : 'down'}${l.speedMbps ? ` ${l.speedMbps} Mbit/s` : ''} ${(l.addresses || []).join(' ')}`)],
    ['Devices', list(i.devices, (d) => `${d.class} ${d.path || d.name} ${d.label || ''}`)],
    ['USB', list(i.usb, (u) => `${u.path} ${u.vendor}:${u.product} ${u.name || u.className || ''}`)],
    ['PCI', list(i.pci, (p) => `${p.address} ${p.vendor}:${p.device} ${p.className || p.class} ${p.driver || ''}`)],
    ['Sensors', list(sensors, (s) => s)], ['Power', list(i.power, (p) => `${p.name} ${p.type} ${p.capacityPercent ?? ''}${p.capacityPercent === undefined ? '' : ' %'} ${p.status || ''}`)],
    ['TPM', i.tpm ? `version ${i.tpm.version}` : null],
  ]);
}

function table(caption, heads, rows, empty) {
  if (!rows.length) return h('p', { class: 'empty' }, empty);
  const cut = rows.length > mostRows ? h('p', { class: 'quiet' }, `${rows.length - mostRows} more: narrow the filter`) : null;
  return [h('div', { class: 'scroll', 'data-scroll': caption, tabindex: '-1' }, h('table', {}, h('caption', {}, caption),
    h('thead', {}, h('tr', {}, heads.map((t) => h('th', { scope: 'col' }, t)))), h('tbody', {}, rows.slice(0, mostRows)))), cut];
}

function podRow(p) {
  const statuses = p.status?.containerStatuses || [];
  return h('tr', { tabindex: '0', 'data-open': `pods ${keyOf(p)}` },
    h('th', { scope: 'row' }, p.metadata.name), h('td', {}, chip(podState(p))), h('td', {}, `${statuses.filter((c) => c.ready).length}/${p.spec.containers.length}`),
    h('td', {}, restarts(p)), h('td', {}, age(p.metadata.creationTimestamp)), h('td', {}, p.spec.nodeName || '–'), h('td', { class: 'why' }, why(p)));
}

// workloads groups pods under their deployments.
function workloads(filter) {
  const sets = new Map(sorted('replicasets').map((r) => [r.metadata.uid, r]));
  const groups = new Map();
  for (const p of sorted('pods')) {
    const set = sets.get(ownerOf(p)?.uid);
    const uid = (set && ownerOf(set)?.uid) || ownerOf(p)?.uid || 'alone';
    if (!groups.has(uid)) groups.set(uid, []);
    groups.get(uid).push(p);
  }
  const heads = ['Pod', 'State', 'Ready', 'Restarts', 'Age', 'Node', 'Why there'];
  const blocks = [];
  for (const d of sorted('deployments')) {
    const all = groups.get(d.metadata.uid) || [];
    groups.delete(d.metadata.uid);
    const pods = all.filter((p) => matches(filter, p.metadata.name, p.metadata.namespace, p.spec.nodeName, podState(p).word, d.metadata.name));
    if (!pods.length && !matches(filter, d.metadata.name, d.metadata.namespace)) continue;
    blocks.push(h('section', { class: 'group' }, h('h2', {}, h('span', { class: 'quiet' }, `${d.metadata.namespace}/`), d.metadata.name, ' ', chip(rollout(d)),
      h('span', { class: 'quiet' }, (d.spec.template.spec.containers || []).map((c) => c.image).join(', '))),
    table(`Pods of ${d.metadata.name}`, heads, pods.map(podRow), 'no pods')));
  }
  const rest = [...groups.values()].flat().filter((p) => matches(filter, p.metadata.name, p.metadata.namespace, p.spec.nodeName, podState(p).word));
  if (rest.length) blocks.push(h('section', { class: 'group' }, h('h2', {}, 'Other pods'), table('Other pods', heads, rest.map(podRow), '')));
  const services = sorted('services').filter((s) => matches(filter, s.metadata.name, s.metadata.namespace));
  blocks.push(h('section', { class: 'group' }, h('h2', {}, 'Services'), table('Services', ['Service', 'Address', 'Ports', 'Ready endpoints'], services.map(serviceRow), 'no services')));
  return blocks;
}

function serviceRow(s) {
  let ready = 0;
  for (const e of state.endpointslices.values()) {
    if (e.metadata.namespace === s.metadata.namespace && e.metadata.labels?.['kubernetes.io/service-name'] === s.metadata.name) {
      ready += (e.endpoints || []).filter((x) => x.conditions?.ready !== false).length;
    }
  }
  return h('tr', {}, h('th', { scope: 'row' }, `${s.metadata.namespace}/${s.metadata.name}`), h('td', {}, s.spec.clusterIP || '–'),
    h('td', {}, (s.spec.ports || []).map((p) => `${p.port}/${p.protocol}`).join(' ')), h('td', {}, ready));
}

function rollout(d) {
  const want = d.spec.replicas ?? 1;
  const s = d.status || {};
  if (condition(d, 'Progressing')?.reason === 'ProgressDeadlineExceeded') return { word: 'rollout stuck', tone: 'bad' };
  if ((s.updatedReplicas || 0) < want || (s.replicas || 0) > (s.updatedReplicas || 0)) return { word: `rolling out ${s.updatedReplicas || 0}/${want}`, tone: 'warn' };
  const available = s.availableReplicas || 0;
  return { word: `${available}/${want} available`, tone: available < want ? 'warn' : 'good' };
}

const seen = (e) => e.lastTimestamp || e.eventTime || e.metadata.creationTimestamp;
const newest = () => [...state.events.values()].sort((a, b) => new Date(seen(b)) - new Date(seen(a)));

function eventRow(e) {
  return h('tr', {}, h('td', {}, age(seen(e))), h('td', {}, h('span', { class: `chip ${e.type === 'Warning' ? 'warn' : 'quiet'}` }, e.reason)),
    h('th', { scope: 'row' }, `${e.involvedObject.kind} ${e.involvedObject.namespace ? `${e.involvedObject.namespace}/` : ''}${e.involvedObject.name}`),
    h('td', { class: 'why' }, e.message, e.count > 1 ? h('span', { class: 'quiet' }, ` ×${e.count}`) : null));
}

const eventHeads = ['Seen', 'Reason', 'About', 'What'];

export const views = {
  nodes(filter) {
    const nodes = sorted('nodes').filter((n) => matches(filter, n.metadata.name, nodeState(n).word, board(state.nodeinventories.get(`/${n.metadata.name}`)?.inventory), ...Object.entries(n.metadata.labels || {}).map((l) => l.join('='))));
    return nodes.length ? h('div', { class: 'cards' }, nodes.map(nodeCard)) : h('p', { class: 'empty' }, filter ? 'no node matches' : 'no nodes have joined: make a token with “skerry token create”');
  },
  workloads,
  events(filter) {
    const events = newest().filter((e) => matches(filter, e.reason, e.message, e.type, e.involvedObject.name, e.involvedObject.namespace, e.involvedObject.kind));
    return table('Events, newest first', eventHeads, events.map(eventRow), 'no events');
  },
  moves(filter) {
    const moves = sorted('moveplans').sort((a, b) => new Date(b.metadata.creationTimestamp) - new Date(a.metadata.creationTimestamp)).filter((m) => matches(filter, m.spec.pod.name, m.spec.from, m.spec.to, m.status?.phase));
    return table('Moves between nodes, newest first', ['Age', 'Pod', 'From', 'To', 'Phase', 'Gain', 'Cost', 'Why'], moves.map((m) => h('tr', {}, h('td', {}, age(m.metadata.creationTimestamp)), h('th', { scope: 'row' }, m.spec.pod.name),
      h('td', {}, m.spec.from), h('td', {}, m.spec.to), h('td', {}, chip({ word: m.status?.phase || 'Planned', tone: { Done: 'good', Failed: 'bad' }[m.status?.phase] || 'warn' })), h('td', {}, m.spec.gain.toFixed(3)), h('td', {}, m.spec.cost.toFixed(3)),
      h('td', { class: 'why' }, m.spec.reason, m.status?.message ? ` – ${m.status.message}` : ''))), 'nothing was moved: the load is even, or rebalancing is off');
  },
};

function conditions(o) {
  return table('Conditions', ['Condition', 'State', 'Since', 'Why'], (o.status?.conditions || []).map((c) => h('tr', {}, h('th', { scope: 'row' }, c.type), h('td', {}, c.status), h('td', {}, age(c.lastTransitionTime)), h('td', { class: 'why' }, [c.reason, c.message].filter(Boolean).join(': ')))), 'none');
}

function eventsOf(o) {
  const events = newest().filter((e) => e.involvedObject.name === o.metadata.name && (e.involvedObject.uid === o.metadata.uid || !e.involvedObject.uid || e.involvedObject.kind === 'Node'));
  return [h('h3', {}, 'Events'), table(`Events of ${o.metadata.name}`, eventHeads, events.map(eventRow), 'none')];
}

function containerState(c) {
  const s = c.state || {};
  if (s.running) return `running since ${age(s.running.startedAt)}`;
  const other = s.waiting || s.terminated;
  if (!other) return 'unknown';
  return [other.reason, other.exitCode === undefined ? '' : `exit code ${other.exitCode}`, other.message].filter(Boolean).join(', ');
}

// details fills the drawer.
export function details(kind, key) {
  const o = state[kind]?.get(key);
  if (!o) return h('p', { class: 'empty' }, 'It is gone.');
  if (kind === 'nodes') {
    const i = state.nodeinventories.get(`/${o.metadata.name}`)?.inventory;
    return [h('p', {}, chip(nodeState(o))), bars(o), conditions(o), i ? [h('h3', {}, 'Hardware'), hardware(i)] : null,
      h('h3', {}, 'Labels'), h('ul', { class: 'labels' }, Object.entries(o.metadata.labels || {}).sort().map(([k, v]) => h('li', {}, `${k}=${v}`))), eventsOf(o)];
  }
  return [h('p', {}, chip(podState(o)), ' ', why(o)),
    facts([['Node', o.spec.nodeName], ['Address', o.status?.podIP], ['Class', o.status?.qosClass], ['Owner', ownerOf(o) ? `${ownerOf(o).kind} ${ownerOf(o).name}` : ''], ['Created', age(o.metadata.creationTimestamp)]]),
    table('Containers', ['Container', 'Image', 'State', 'Restarts'], o.spec.containers.map((c) => {
      const s = (o.status?.containerStatuses || []).find((x) => x.name === c.name) || {};
      return h('tr', {}, h('th', { scope: 'row' }, c.name), h('td', {}, c.image), h('td', { class: 'why' }, containerState(s)), h('td', {}, s.restartCount || 0));
    }), 'none'),
    conditions(o), eventsOf(o)];
}

// logTail reads the end of the first container's log.
export async function logTail(key) {
  const [namespace, name] = key.split('/');
  const answer = await fetch(`/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}/log?tailLines=200`).catch((e) => ({ ok: false, text: () => e.message }));
  let text = await answer.text();
  if (!answer.ok) { try { text = JSON.parse(text).message; } catch { /* it is text already */ } }
  return h('section', {}, h('h3', {}, 'Log, last 200 lines'), h('pre', { class: 'log', tabindex: '0', 'data-key': 'log', 'data-scroll': 'log' }, text || 'nothing was written'));
}
