// Small helpers for the document. Text always goes in as text: nothing here parses HTML.

export const byId = (id) => document.getElementById(id);

/** Makes an element: `el("li", { class: "row", "data-key": key }, "text", child)`. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children);
  return element;
}

/** Writes only what differs, so that nothing repaints or is read aloud without need. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes `parent`'s children mirror `items` in order: an element is made once for each key, updated
 * in place, moved where needed (focus and animations survive) and removed with its item.
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

/** 1234567 as "1,234,567". */
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

export function formatAge(millis) {
  const seconds = Math.floor(millis / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}
