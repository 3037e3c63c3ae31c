// `new TransportSocket()` throws at once, and says what to use instead: an object without a socket would fail
// later, in each method, with a text that helps nobody.
//
// `cargo xtask test` runs it with the folder of the module.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [, , pkg] = process.argv;
const exported = await import(pathToFileURL(join(pkg, "gossip_web_transport.js")));
await exported.default({
  module_or_path: await readFile(join(pkg, "gossip_web_transport_bg.wasm")),
});
const isClass = (value) => typeof value === "function" && /^class\b/.test(value);
const classes = Object.entries(exported).filter(([, value]) => isClass(value));
assert.deepEqual(classes.map(([name]) => name), ["TransportSocket"]);
for (const [name, Class] of classes) {
  for (const args of [[], [{}], [1, 2]]) {
    assert.throws(
      () => new Class(...args),
      (error) => error instanceof TypeError && error.message.includes(`${name}.open(`),
    );
  }
}
// The real ones work still.
const socket = await exported.TransportSocket.open({ secret: exported.generateClusterSecret() });
assert(socket instanceof exported.TransportSocket);
await socket.close();
