// What the page knows: the objects of each kind by "namespace/name", kept live by server-sent events.

const kinds = ['nodes', 'nodeinventories', 'pods', 'deployments', 'replicasets', 'services', 'endpointslices', 'events', 'moveplans'];
const silence = 40000; // ms; the server sends a beat every 15 s
const samples = 90; // of each node's load, one every two seconds at most

// heard is when the coordinator last said something; lost is since when it does not, or null; synced is whether the first
// complete state is in; version grows with each change of an object.
export const state = { heard: null, lost: null, synced: false, version: 0, loads: {}, history: new Map() };
for (const kind of kinds) state[kind] = new Map();

let source = null;
let ended = () => {};
let changed = () => {};

export const onChange = (f) => { changed = f; };

export const keyOf = (o) => `${o.metadata.namespace || ''}/${o.metadata.name}`;

// follow opens the stream; over is called when the session is no longer good.
export function follow(over) {
  if (source) source.close();
  ended = over;
  source = new EventSource('events');
  const on = (name, take) => source.addEventListener(name, (e) => {
    state.heard = new Date();
    state.lost = null;
    if (take) { take(JSON.parse(e.data)); changed(); }
  });
  on('reset', ({ kind, items }) => {
    state.version += 1;
    state[kind] = new Map(items.map((o) => [keyOf(o), o]));
  });
  on('change', ({ kind, type, object }) => {
    state.version += 1;
    if (type === 'DELETED') state[kind].delete(keyOf(object));
    else state[kind].set(keyOf(object), object);
  });
  on('load', remember);
  on('sync', () => { state.synced = true; });
  on('beat');
  source.onerror = lose;
}

function remember(loads) {
  state.loads = loads;
  for (const [name, load] of Object.entries(loads)) {
    const past = state.history.get(name) || [];
    past.push(load);
    state.history.set(name, past.slice(-samples));
  }
}

// lose notes that the link is down. The browser tries again by itself unless the server has refused; why it did, the
// session says.
async function lose() {
  state.lost = state.lost || new Date();
  changed();
  const mine = source;
  const answer = await fetch('session').catch(() => null);
  if (mine !== source) return;
  if (answer?.status === 401) {
    stop();
    ended();
  } else if (source.readyState === EventSource.CLOSED) {
    setTimeout(() => mine === source && follow(ended), 2000);
  }
}

// check notices a link that has died without a word: a laptop that slept, a router that forgot.
export function check() {
  if (!source || !state.heard || new Date() - state.heard < silence) return;
  state.lost = state.lost || state.heard;
  follow(ended);
  changed();
}

export function stop() {
  source?.close();
  source = null;
  Object.assign(state, { heard: null, lost: null, synced: false, loads: {}, history: new Map() });
  state.version += 1;
  for (const kind of kinds) state[kind].clear();
  changed();
}
