// The log of events, newest first.

import { shorten } from "./cluster.js";
import { byId, el } from "./dom.js";

const MAX_ENTRIES = 200;
const MAX_VALUE = 60;

/** Adds the events that `changes` in cluster.js returns. */
export function logEvents(events) {
  for (const event of events) log(event.kind, ...describe(event));
}

/** Adds one entry. `parts` are strings and elements. */
export function log(kind, ...parts) {
  const now = new Date();
  const time = now.toLocaleTimeString("en-GB");
  const entry = el(
    "li",
    { "data-kind": kind },
    el("time", { datetime: now.toISOString() }, time),
    el("span", { class: "log-mark", "aria-hidden": "true" }),
    el("span", { class: "log-text" }, ...parts),
  );
  const place = byId("log");
  place.prepend(entry);
  while (place.childElementCount > MAX_ENTRIES) place.lastElementChild.remove();
}

function describe({ kind, id, key, value }) {
  const name = el("b", {}, id);
  switch (kind) {
    case "joined":
      return [name, " joined"];
    case "died":
      return [name, " died: no heartbeat for too long"];
    case "back":
      return [name, " came back"];
    case "left":
      return [name, " left"];
    case "forgotten":
      return [name, " was forgotten"];
    case "deleted":
      return [name, " deleted ", el("code", {}, key)];
    default:
      return [name, " set ", el("code", {}, key), " = ", el("code", {}, shorten(value, MAX_VALUE))];
  }
}
