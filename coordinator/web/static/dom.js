// Small helpers around the DOM. Text is always set as text: nothing that a cluster says can become markup.

export const $ = (selector) => document.querySelector(selector);

const svgTags = new Set(['svg', 'path', 'rect', 'polyline']);

// h makes an element. Attributes that are null or false are left out.
export function h(tag, attributes, ...children) {
  const e = svgTags.has(tag) ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) e.setAttribute(name, value === true ? '' : value);
  }
  e.append(...children.flat(9).filter((c) => c !== null && c !== undefined && c !== false && c !== ''));
  return e;
}

// show makes parent's children what they are wanted to be and touches nothing that is so already: focus, selections, open
// folds and scrolling stay as the person left them.
export function show(parent, ...children) {
  const wanted = document.createDocumentFragment();
  wanted.append(...children.flat(9).filter((c) => c !== null && c !== undefined && c !== false && c !== ''));
  patchChildren(parent, wanted);
}

// key tells rows apart that move: elements with different keys are never turned into each other.
const key = (node) => node.dataset?.key || node.dataset?.open;

function patchChildren(parent, wanted) {
  const keyed = new Map();
  for (const c of parent.childNodes) if (key(c)) keyed.set(key(c), c);
  let at = parent.firstChild;
  for (const want of [...wanted.childNodes]) {
    const k = key(want);
    const have = k ? keyed.get(k) : at;
    if (!have || have.nodeName !== want.nodeName || key(have) !== k) {
      parent.insertBefore(want, at);
      continue;
    }
    if (have === at) at = at.nextSibling;
    else parent.insertBefore(have, at);
    patch(have, want);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function patch(have, want) {
  if (have.isEqualNode(want)) return;
  if (have.nodeType !== Node.ELEMENT_NODE) {
    have.nodeValue = want.nodeValue;
    return;
  }
  for (const { name } of [...have.attributes]) {
    if (!want.hasAttribute(name) && !(name === 'open' && have.nodeName === 'DETAILS')) have.removeAttribute(name);
  }
  for (const { name, value } of want.attributes) if (have.getAttribute(name) !== value) have.setAttribute(name, value);
  patchChildren(have, want);
}
