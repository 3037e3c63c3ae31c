// A page whose members have megabytes of state shows the beginnings of their values, and takes at most a quarter of the
// time for that, while the rest is left to what arrives.
//
// `cargo xtask test` runs it. It needs no module.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

async function load(name) {
  const file = await readFile(new URL(`../../../page/${name}`, import.meta.url), "utf8");
  return import(`data:text/javascript,${encodeURIComponent(file)}`);
}
const { changes, shownKeys } = await load("cluster.js");
const { Pace } = await load("pace.js");

const member = (value) => ({ id: "node", generation: "1", live: true, keys: { kind: "node", short: "a", long: value } });
const before = member(`${"x".repeat(50_000)}1`);
const after = member(`${"x".repeat(50_000)}2`);
const [short, long] = shownKeys(before);
assert.deepEqual(short, ["short", "a", "a"]);
assert.equal(long[1], `${"x".repeat(1000)}…`);
assert.equal(long[2], before.keys.long);
const set = changes([before], [after], new Set(["node"]));
assert.deepEqual(set.map(({ kind, key }) => [kind, key]), [["set", "long"]], "an end that is not shown is a change, too");

const pace = new Pace(16);
assert.equal(pace.wait(1000), 16);
pace.done(1016, 1056);
assert.equal(pace.wait(1056), 120);
assert.equal(pace.wait(1100), 76);
assert.equal(pace.wait(1170), 16);
