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
  return `${n} B`;
}

export function age(time) {
  if (!time) return '';
  const s = Math.max(0, Math.round((Date.now() - new Date(time)) / 1000));
  if (s < 120) return `${s}s`;
  if (s < 7200) return `${Math.floor(s / 60)}m`;
  if (s < 172800) return `${Math.floor(s / 3600)}h`;
  return `${Math.floor(s / 86400)}d`;
}

export const condition = (o, type) => (o.status?.conditions || []).find((c) => c.type === type);

// nodeState is one word and a tone for a node.
export function nodeState(n) {
  const ready = condition(n, 'Ready');
  if (ready?.status === 'Unknown') return { word: `silent for ${age(ready.lastTransitionTime)}`, tone: 'bad' };
  if (ready?.status !== 'True') return { word: 'not ready', tone: 'bad' };
  if (n.spec?.unschedulable) return { word: 'cordoned', tone: 'warn' };
  const pressed = (n.status.conditions || []).find((c) => c.type.endsWith('Pressure') && c.status === 'True');
  if (pressed) return { word: pressed.type.replace('Pressure', ' pressure').toLowerCase(), tone: 'warn' };
  return { word: 'ready', tone: 'good' };
}

// podState is what kubectl's STATUS column says, and a tone.
export function podState(p) {
  if (p.metadata.deletionTimestamp) return { word: 'Terminating', tone: 'quiet' };
  const statuses = [...(p.status?.initContainerStatuses || []), ...(p.status?.containerStatuses || [])];
  const waiting = statuses.find((c) => c.state?.waiting?.reason && c.state.waiting.reason !== 'ContainerCreating' && c.state.waiting.reason !== 'PodInitializing');
  if (waiting) return { word: waiting.state.waiting.reason, tone: 'bad' };
  const phase = p.status?.reason || p.status?.phase || 'Pending';
  if (phase === 'Running') return condition(p, 'Ready')?.status === 'True' ? { word: 'Running', tone: 'good' } : { word: 'Not ready', tone: 'warn' };
  if (phase === 'Succeeded') return { word: 'Completed', tone: 'quiet' };
  return { word: phase, tone: phase === 'Failed' ? 'bad' : 'warn' };
}

export const restarts = (p) => (p.status?.containerStatuses || []).reduce((n, c) => n + (c.restartCount || 0), 0);

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
