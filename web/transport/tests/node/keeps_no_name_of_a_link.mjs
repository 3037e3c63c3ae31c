// A tab keeps its own name for the next load, and not one that its link gives it: that may be too long for a member,
// and would then stop every page that is loaded in this tab, whatever its link.
//
// `cargo xtask test` runs it. It needs no module.

import assert from "node:assert/strict";
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = await mkdtemp(join(tmpdir(), "gossip-page-"));
try {
  await writeFile(join(folder, "package.json"), '{ "type": "module" }');
  for (const name of ["session.js", "identity.js"]) {
    await copyFile(new URL(`../../../page/${name}`, import.meta.url), join(folder, name));
  }
  const stored = new Map();
  const sessionStorage = {
    getItem: (key) => stored.get(key) ?? null,
    setItem: (key, value) => stored.set(key, value),
  };
  // A page without locks, whose identity is therefore new each time.
  for (const [name, value] of Object.entries({ navigator: {}, sessionStorage })) {
    Object.defineProperty(globalThis, name, { value, configurable: true });
  }
  const { identify } = await import(pathToFileURL(join(folder, "session.js")));
  const identifyAs = async (wanted) => (await identify("cluster", wanted, () => "key")).id;

  const given = "x".repeat(2000);
  assert.equal(await identifyAs(given), given);
  const own = await identifyAs("");
  assert.match(own, /^tab-/);
  assert.equal(await identifyAs(given), given);
  assert.equal(await identifyAs(""), own, "a reloaded tab has its name");
} finally {
  await rm(folder, { recursive: true });
}
