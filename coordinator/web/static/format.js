// Quantities, ages and states in words.

const units = { Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, k: 1e3, M: 1e6, G: 1e9, T: 1e12, m: 1e-3 };

// quantity reads a Kubernetes quantity: 250m, 64Mi, 2.
export function quantity(q) {
  const found = /^([0-9.eE+-]+)(Ki|Mi|Gi|Ti|k|M|G|T|m)?$/.exec(q || '0');
  return found ? Number(found[1]) * (units[found[2]] || 1) : 0;
}

export function bytes(n) {
  for (const [unit, size] of [['TiB', 2 ** 40], ['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10]]) {
    if (n >= size) return `${(n / size).toFixed(n >= 10 * size ? 0 : 1)} ${unit}`;
  }
  return `${Math.round(n)} B`;
}

// inUnitOf says numbers of bytes in the unit of the last.
export function inUnitOf(total, ...numbers) {
  const [unit, size] = [['TiB', 2 ** 40], ['GiB', 2 ** 30], ['MiB', 2 ** 20]].find(([, s]) => total >= s) || ['KiB', 2 ** 10];
  return [...numbers, total].map((n) => { const v = n / size; return v >= 10 || v === 0 ? v.toFixed(0) : v.toFixed(1); }).concat(unit);
}

export const cores = (n) => (n >= 10 ? n.toFixed(0) : n.toFixed(n && n < 0.1 ? 2 : 1));

export const count = (n, what) => `${n} ${what}${n === 1 ? '' : 's'}`;

export function age(time) {
  if (!time) return '';
  const s = Math.max(0, Math.round((Date.now() - new Date(time)) / 1000));
  if (s < 120) return `${s}s`;
  if (s < 7200) return `${Math.floor(s / 60)}m`;
  if (s < 172800) return `${Math.floor(s / 3600)}h`;
  return `${Math.floor(s / 86400)}d`;
}

export const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });

export const condition = (o, type) => (o.status?.conditions || []).find((c) => c.type === type);

// nodeState is a word and a tone for a node.
export function nodeState(n) {
  const ready = condition(n, 'Ready');
  if (ready?.status === 'Unknown') return { word: `unreachable since ${clock(ready.lastTransitionTime)}`, tone: 'bad' };
  if (!ready) return { word: 'not heard of yet', tone: 'warn' };
  if (ready.status !== 'True') return { word: `not ready: ${ready.message || ready.reason}`, tone: 'bad' };
  const pressed = n.status.conditions.find((c) => c.type.endsWith('Pressure') && c.status === 'True');
  if (pressed) return { word: `short of ${{ MemoryPressure: 'memory', DiskPressure: 'disk', PIDPressure: 'process ids' }[pressed.type]}`, tone: 'warn' };
  if (n.spec?.unschedulable) return { word: 'cordoned', tone: 'warn' };
  return { word: 'ready', tone: 'good' };
}

const taints = {
  unreachable: 'not heard of', 'not-ready': 'not ready', unschedulable: 'cordoned', 'memory-pressure': 'short of memory', 'disk-pressure': 'short of disk', 'pid-pressure': 'short of process ids',
};
const effects = { NoSchedule: 'no new pods', PreferNoSchedule: 'new pods go elsewhere if they can', NoExecute: 'pods leave' };

export function taint(t) {
  const own = t.key.replace(/^node\.kubernetes\.io\//, '');
  const what = taints[own] || `${t.key}${t.value ? `=${t.value}` : ''}`;
  return `${what}: ${effects[t.effect] || t.effect}${t.timeAdded ? ` since ${clock(t.timeAdded)}` : ''}`;
}

const starting = ['ContainerCreating', 'PodInitializing'];

// podState is what kubectl's STATUS column says, and a tone.
export function podState(p) {
  if (p.metadata.deletionTimestamp) return { word: 'Terminating', tone: 'quiet' };
  const statuses = [...(p.status?.initContainerStatuses || []), ...(p.status?.containerStatuses || [])];
  const waiting = statuses.find((c) => c.state?.waiting?.reason && !starting.includes(c.state.waiting.reason));
  if (waiting) return { word: waiting.state.waiting.reason, tone: 'bad' };
  const phase = p.status?.reason || p.status?.phase || 'Pending';
  if (phase === 'Running') return condition(p, 'Ready')?.status === 'True' ? { word: 'Running', tone: 'good' } : { word: 'Not ready', tone: 'warn' };
  if (phase === 'Succeeded') return { word: 'Completed', tone: 'quiet' };
  if (phase === 'Pending' && !p.spec.nodeName) return { word: 'Unplaced', tone: 'bad' };
  return { word: phase, tone: phase === 'Failed' ? 'bad' : 'warn' };
}

// rollout is a word and a tone for a deployment.
export function rollout(d) {
  const want = d.spec.replicas ?? 1;
  const s = d.status || {};
  const available = s.availableReplicas || 0;
  if (condition(d, 'Progressing')?.reason === 'ProgressDeadlineExceeded') return { word: `stuck at ${s.updatedReplicas || 0}/${want}`, tone: 'bad' };
  if (d.spec.paused) return { word: `paused, ${available}/${want} available`, tone: 'warn' };
  if ((s.observedGeneration || 0) < (d.metadata.generation || 0) || (s.updatedReplicas || 0) < want || (s.replicas || 0) > (s.updatedReplicas || 0)) {
    return { word: `rolling out ${s.updatedReplicas || 0}/${want}`, tone: 'warn' };
  }
  return { word: `${available}/${want} available`, tone: available < want ? 'warn' : 'good' };
}

export const alive = (p) => p.status?.phase !== 'Succeeded' && p.status?.phase !== 'Failed';

export const restarts = (p) => (p.status?.containerStatuses || []).reduce((n, c) => n + (c.restartCount || 0), 0);

export const owner = (o) => (o.metadata.ownerReferences || []).find((r) => r.controller);

// why says why a pod is where it is, or why it is nowhere.
export function why(p) {
  if (!p.spec.nodeName) return condition(p, 'PodScheduled')?.message || 'not placed yet';
  return p.metadata.annotations?.['skerry.dev/placement'] || `bound to ${p.spec.nodeName}`;
}

export function requests(p) {
  const sum = { cpu: 0, memory: 0 };
  for (const c of p.spec.containers) {
    sum.cpu += quantity(c.resources?.requests?.cpu);
    sum.memory += quantity(c.resources?.requests?.memory);
  }
  return sum;
}

export const seen = (e) => e.lastTimestamp || e.series?.lastObservedTime || e.eventTime || e.metadata.creationTimestamp;

// fits is whether each word of the filter is in one of the texts.
export function fits(filter, ...texts) {
  if (!filter) return true;
  const all = texts.join(' ').toLowerCase();
  return filter.split(/\s+/).every((word) => all.includes(word));
}
