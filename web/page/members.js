// The table of members.

import { kindOf, shownKeys } from "./cluster.js";
import { byId, el, formatAddr, formatCount, mirror, setAttribute, setText, svg } from "./dom.js";

export function showMembers(members) {
  byId("members-empty").hidden = members.length > 0;
  mirror(byId("members"), members, (member) => member.id, createRow, updateRow);
}

function createRow() {
  const cell = (label, ...children) => el("td", { role: "cell", "data-label": label }, ...children);
  const name = el("span", { class: "name" });
  const kind = el("span", { class: "kind" });
  const icon = el("span", { class: "icon" });
  const addr = el("span", { class: "mono" });
  const state = el("span", { class: "pill" });
  const heartbeat = el("span", { class: "heartbeat" });
  const keys = el("ul", { class: "chips", "aria-label": "Keys" });
  const row = el(
    "tr",
    { role: "row", "data-testid": "member" },
    cell("Member", el("span", { class: "member-cell" }, icon, el("span", {}, name, kind))),
    cell("Address", addr),
    cell("State", state),
    cell("Heartbeat", heartbeat),
    cell("Keys", keys),
  );
  row.cells[3].classList.add("number");
  row.parts = { name, kind, icon, addr, state, heartbeat, keys };
  return row;
}

function updateRow(row, member) {
  const { parts } = row;
  const kind = kindOf(member);
  setAttribute(row, "data-id", member.id);
  setAttribute(row, "data-addr", member.addr);
  setAttribute(row, "data-live", String(member.live));
  setAttribute(row, "data-self", String(member.self));
  setText(parts.name, member.id);
  setText(parts.kind, member.self ? "this tab" : kind === "tab" ? "browser tab" : "native node");
  if (parts.icon.dataset.kind !== kind) {
    parts.icon.dataset.kind = kind;
    parts.icon.replaceChildren(icon(kind));
  }
  setText(parts.addr, formatAddr(member.addr));
  setAttribute(parts.addr, "title", member.addr);
  setText(parts.state, member.live ? "live" : "dead");
  setAttribute(parts.state, "data-live", String(member.live));
  setText(parts.heartbeat, formatCount(member.heartbeat));
  mirror(parts.keys, shownKeys(member), ([key]) => key, createChip, updateChip);
}

function createChip() {
  const key = el("span", { class: "chip-key" });
  const value = el("span", { class: "chip-value" });
  const chip = el("li", { class: "chip", "data-testid": "key" }, key, value);
  chip.parts = { key, value };
  return chip;
}

function updateChip(chip, [key, shown, value]) {
  if (chip.latest === value) return;
  const isChanged = chip.latest !== undefined;
  chip.latest = value;
  setAttribute(chip, "data-key", key);
  setAttribute(chip, "data-value", shown);
  setAttribute(chip, "title", `${key} = ${shown}`);
  setText(chip.parts.key, key);
  setText(chip.parts.value, shown);
  if (isChanged) beat(chip);
}

/** Highlights an element for a moment. */
function beat(element) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const animation of element.getAnimations()) animation.cancel();
  element.animate([{ color: "var(--accent)" }, { color: "inherit" }], {
    duration: 700,
    easing: "ease-out",
  });
}

function icon(kind) {
  const shape =
    kind === "tab"
      ? svg("path", { d: "M4 5.5A1.5 1.5 0 0 1 5.5 4h9A1.5 1.5 0 0 1 16 5.5v9a1.5 1.5 0 0 1-1.5 1.5h-9A1.5 1.5 0 0 1 4 14.5zM4 7.8h12" })
      : svg("path", { d: "M10 3 16 6.5v7L10 17 4 13.5v-7z" });
  return svg("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, shape);
}
