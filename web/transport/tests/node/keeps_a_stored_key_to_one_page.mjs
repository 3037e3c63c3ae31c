// A page that holds the stored key is reloaded when the browser restores it from its cache: it has let go of the
// lock when it was hidden, so another page may use the key by now. That holds from the moment at which it has the
// key, whether it has joined already or not.
//
// `cargo xtask test` runs it. It needs no module.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

const file = await readFile(new URL("../../../page/identity.js", import.meta.url), "utf8");
const { claimIdentity } = await import(`data:text/javascript,${encodeURIComponent(file)}`);

const locks = new Set();
const stored = new Map();

/** Makes this process look like a new page, and returns that: `fire` makes it the page again, with an event. */
function page() {
  const target = new EventTarget();
  const seen = { reloads: 0 };
  const request = async (name, options, held) => {
    if (locks.has(name)) return held(null);
    locks.add(name);
    await held({ name });
    locks.delete(name);
  };
  const globals = {
    navigator: { locks: { request } },
    performance: { getEntriesByType: () => [{ type: "navigate" }] },
    localStorage: {
      getItem: (key) => stored.get(key) ?? null,
      setItem: (key, value) => stored.set(key, value),
    },
    location: { reload: () => (seen.reloads += 1) },
    addEventListener: target.addEventListener.bind(target),
  };
  const show = () => {
    for (const [name, value] of Object.entries(globals)) {
      Object.defineProperty(globalThis, name, { value, configurable: true });
    }
  };
  seen.fire = (type, persisted) => {
    show();
    target.dispatchEvent(Object.assign(new Event(type), { persisted }));
  };
  show();
  return seen;
}

let count = 0;
const create = () => {
  count += 1;
  return { id: `tab-${count}`, secretKey: `gossip-key-${"a".repeat(51)}${"abc"[count]}` };
};
const settled = () => new Promise((resolve) => setTimeout(resolve));

const first = page();
const one = await claimIdentity("cluster", create);
first.fire("pageshow", false);
assert.equal(first.reloads, 0, "it is shown for the first time");
first.fire("pagehide", true);
await settled();
const second = page();
const two = await claimIdentity("cluster", create);
assert.deepEqual(two, one, "the first one is hidden, so the key is free");
first.fire("pageshow", true);
assert.equal(first.reloads, 1, "the second one has the key");
const third = page();
const three = await claimIdentity("cluster", create);
assert.notEqual(three.secretKey, two.secretKey);
third.fire("pageshow", true);
assert.equal(third.reloads, 0, "nobody else has its key");
assert.equal(second.reloads, 0);
