// What the page knows: the objects of each kind by "namespace/name", kept live by server-sent events.

const kinds = ['nodes', 'nodeinventories', 'pods', 'deployments', 'replicasets', 'services', 'endpointslices', 'events', 'moveplans'];

export const state = { linked: false, since: null, loads: {} };
for (const kind of kinds) state[kind] = new Map();

let source = null;
let changed = () => {};

export const onChange = (f) => { changed = f; };

export const keyOf = (o) => `${o.metadata.namespace || ''}/${o.metadata.name}`;

// follow opens the stream; ended is called when the session is no longer good.
export function follow(ended) {
  stop();
  source = new EventSource('events');
  const heard = () => { state.linked = true; state.since = new Date(); };
  source.onopen = () => { heard(); changed(); };
  source.onerror = async () => {
    state.linked = false;
    changed();
    // The browser does not say why; the session does.
    const answer = await fetch('session').catch(() => null);
    if (answer && answer.status === 401) { stop(); ended(); } else if (source && source.readyState === EventSource.CLOSED) setTimeout(() => source && follow(ended), 2000);
  };
  source.addEventListener('reset', (e) => {
    heard();
    const { kind, items } = JSON.parse(e.data);
    state[kind] = new Map(items.map((o) => [keyOf(o), o]));
    changed();
  });
  source.addEventListener('change', (e) => {
    heard();
    const { kind, type, object } = JSON.parse(e.data);
    if (type === 'DELETED') state[kind].delete(keyOf(object));
    else state[kind].set(keyOf(object), object);
    changed();
  });
  source.addEventListener('load', (e) => { heard(); state.loads = JSON.parse(e.data); changed(); });
}

export function stop() {
  if (source) source.close();
  source = null;
  state.linked = false;
  state.since = null;
  for (const kind of kinds) state[kind].clear();
  changed();
}
