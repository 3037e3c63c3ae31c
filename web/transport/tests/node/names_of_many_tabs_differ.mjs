// Tabs on different machines, which no lock tells apart, have different names: members with one name are taken for
// lives of one member, of which a page shows one.
//
// `cargo xtask test` runs it. It needs no module.

import assert from "node:assert/strict";
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const TABS = 500;

/** SplitMix64, so that this passes always or never. */
let state = 2n;
function random() {
  state = (state + 0x9e3779b97f4a7c15n) & 0xffffffffffffffffn;
  let mixed = state;
  mixed = ((mixed ^ (mixed >> 30n)) * 0xbf58476d1ce4e5b9n) & 0xffffffffffffffffn;
  mixed = ((mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn) & 0xffffffffffffffffn;
  return mixed ^ (mixed >> 31n);
}
const getRandomValues = (array) => array.map((_, n, all) => (all[n] = Number(random() & 0xffffffffn)));

const folder = await mkdtemp(join(tmpdir(), "gossip-page-"));
try {
  await writeFile(join(folder, "package.json"), '{ "type": "module" }');
  for (const name of ["session.js", "identity.js"]) {
    await copyFile(new URL(`../../../page/${name}`, import.meta.url), join(folder, name));
  }
  // A page without locks and without storage.
  for (const [name, value] of Object.entries({ navigator: {}, crypto: { getRandomValues } })) {
    Object.defineProperty(globalThis, name, { value, configurable: true });
  }
  const { identify } = await import(pathToFileURL(join(folder, "session.js")));
  const names = new Set();
  for (let tab = 0; tab < TABS; tab += 1) names.add((await identify("cluster", "", () => "key")).id);
  assert.equal(names.size, TABS);
} finally {
  await rm(folder, { recursive: true });
}
