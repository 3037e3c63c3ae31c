// The form that sets this tab's keys, and the list with buttons that delete them.

import { shownKeys } from "./cluster.js";
import { byId, el, mirror, setAttribute, setText } from "./dom.js";

let node = null;
let refresh = () => {};

/** Connects the form, which stays disabled until `setNode`. Changes call `onChanged`. */
export function initKeys(onChanged) {
  refresh = onChanged;
  byId("set-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const key = byId("set-key");
    const value = byId("set-value");
    if (!attempt(() => node.set(key.value.trim(), value.value))) {
      key.focus();
      return;
    }
    key.value = "";
    value.value = "";
    key.focus();
  });
}

/** Sets the node whose keys the form changes. `null` disables the form. */
export function setNode(newNode) {
  node = newNode;
  byId("set-button").disabled = node === null;
}

export function showOwnKeys(member) {
  const keys = member ? shownKeys(member) : [];
  byId("own-keys-empty").hidden = keys.length > 0;
  mirror(byId("own-keys"), keys, ([key]) => key, createItem, updateItem);
}

function createItem([key]) {
  const name = el("span", { class: "chip-key" }, key);
  const value = el("span", { class: "chip-value" });
  const button = el(
    "button",
    {
      type: "button",
      class: "quiet danger",
      "data-testid": "delete-button",
      "data-key": key,
      "aria-label": `Delete ${key}`,
    },
    "Delete",
  );
  button.addEventListener("click", () => attempt(() => node.delete(key)));
  const item = el("li", {}, el("span", { class: "own-key" }, name, value), button);
  item.parts = { value };
  return item;
}

function updateItem(item, [, shown]) {
  setText(item.parts.value, shown);
  setAttribute(item.parts.value, "title", shown);
}

/** Runs `action` and shows the error that it throws. Returns whether it succeeded. */
function attempt(action) {
  const place = byId("set-error");
  try {
    if (node === null) throw new Error("This tab is not a member yet.");
    action();
    place.hidden = true;
    refresh();
    return true;
  } catch (error) {
    setText(place, error.message);
    place.hidden = false;
    return false;
  }
}
