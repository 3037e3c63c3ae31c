// Helpers for the document. Text is always inserted as text; nothing here parses HTML.

export const byId = (id) => document.getElementById(id);

/** Returns a new element: `el("li", { class: "row", "data-key": key }, "text", child)`. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Returns a new SVG element. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children);
  return element;
}

/**
 * Sets an attribute, or removes it for `null`, `undefined` and `false`. Does nothing if that changes
 * nothing, so that browsers do not repaint and screen readers do not repeat it.
 */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** Sets the text of an element, unless it is the same. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes the children of `parent` match `items`, in order. The element of a key is created once, updated
 * in place, moved only if needed (which keeps focus and animations) and removed with its item.
 */
export function mirror(parent, items, key, create, update) {
  const existing = new Map([...parent.children].map((child) => [child.mirrorKey, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const itemKey = key(item);
    let child = existing.get(itemKey);
    existing.delete(itemKey);
    if (!child) {
      child = create(item);
      child.mirrorKey = itemKey;
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
  for (const child of existing.values()) child.remove();
}

/** Formats 1234567 as "1,234,567". */
export const formatCount = (count) => Math.round(count).toLocaleString("en-US");

export function formatBytes(bytes) {
  if (bytes < 1000) return `${Math.round(bytes)} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let unit = -1;
  let amount = bytes;
  do {
    amount /= 1000;
    unit += 1;
  } while (amount >= 999.5 && unit < units.length - 1);
  return `${amount.toFixed(amount < 10 ? 1 : 0)} ${units[unit]}`;
}

const KEY_ADDRESS = /^\[(2001:2[0-9a-f]:[0-9a-f]+):/;

/**
 * Formats an address. That of a member that nobody can dial, such as a tab, is made from its key: it says
 * nothing about where the member is, and its beginning tells it from others ("key 2001:23:7992:…").
 */
export function formatAddr(addr) {
  const key = KEY_ADDRESS.exec(addr);
  return key ? `key ${key[1]}:…` : addr;
}

export function formatAge(millis) {
  const seconds = Math.floor(millis / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}
