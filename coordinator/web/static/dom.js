// Small helpers around the DOM. Text is always set as text: nothing that a cluster says can become markup.

export const $ = (selector) => document.querySelector(selector);

const svgTags = new Set(['svg', 'path', 'rect', 'title']);

// h makes an element. Attributes that are null or false are left out; functions become listeners.
export function h(tag, attributes, ...children) {
  const e = svgTags.has(tag) ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') e.addEventListener(name.slice(2), value);
    else e.setAttribute(name, value === true ? '' : value);
  }
  e.append(...children.flat(9).filter((c) => c !== null && c !== undefined && c !== false && c !== ''));
  return e;
}

// replace puts new children in place of the old ones, and keeps what a person holds: focus, open folds, scrolling.
export function replace(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? keyOf(document.activeElement) : null;
  const folds = new Set([...parent.querySelectorAll('details[open][data-key]')].map((d) => d.dataset.key));
  const scrolled = [...parent.querySelectorAll('[data-scroll]')].map((e) => [e.dataset.scroll, e.scrollLeft, e.scrollTop]);
  parent.replaceChildren(...children.flat(9).filter(Boolean));
  for (const d of parent.querySelectorAll('details[data-key]')) if (folds.has(d.dataset.key)) d.open = true;
  for (const [name, left, top] of scrolled) {
    const e = parent.querySelector(`[data-scroll="${name}"]`);
    if (e) { e.scrollLeft = left; e.scrollTop = top; }
  }
  if (focused) parent.querySelector(focused)?.focus({ preventScroll: true });
}

function keyOf(e) {
  if (e.dataset.open) return `[data-open="${CSS.escape(e.dataset.open)}"]`;
  if (e.dataset.key) return `[data-key="${CSS.escape(e.dataset.key)}"]`;
  if (e.matches('summary') && e.parentElement.dataset.key) return `[data-key="${CSS.escape(e.parentElement.dataset.key)}"] > summary`;
  return null;
}
