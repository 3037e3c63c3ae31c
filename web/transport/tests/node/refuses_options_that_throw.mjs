// An option whose getter or proxy throws is a `TypeError` that names it, and never counts as missing.
//
// `cargo xtask test` runs it with the folder of the module. A promise that never settles ends the process
// with code 13.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [, , pkg] = process.argv;
const { default: init, generateClusterSecret, TransportSocket } = await import(
  pathToFileURL(join(pkg, "gossip_web_transport.js"))
);
await init({ module_or_path: await readFile(join(pkg, "gossip_web_transport_bg.wasm")) });

const fail = () => {
  throw new RangeError("from the page");
};
const revoked = Proxy.revocable([], {});
revoked.revoke();
const secret = generateClusterSecret();
const refused = {
  // Without its keys, the socket would trust more peers than it should.
  trust: [{ secret, get trust() { return fail(); } }, { secret, trust: revoked.proxy }],
  "trust must be": [
    { trust: new Proxy(["key"], { get: fail }) },
    { trust: Object.defineProperty(["key"], 0, { get: fail }) },
    { trust: new Proxy([], { get: (_, name) => (name === "length" ? 1 : fail()) }) },
    { trust: new Array(1e9) },
  ],
  protocol: [{ secret, get protocol() { return fail(); } }, new Proxy({}, { get: fail })],
  secret: [{ get secret() { return fail(); } }],
};
for (const [named, all] of Object.entries(refused)) {
  for (const options of all) {
    await assert.rejects(TransportSocket.open(options), (error) => {
      assert(error instanceof TypeError && error.message.startsWith(named), error);
      return true;
    });
  }
}
const socket = await TransportSocket.open({ secret });
await socket.close();
