// A process whose socket had to wait for buffer space ends by itself once the socket is closed.
//
// `cargo xtask test` runs it with the folder of the module and the addresses of native peers, and fails if
// the process does not end in time.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [, , pkg, facts] = process.argv;
const { addr, secret } = JSON.parse(facts);
const { default: init, TransportSocket } = await import(pathToFileURL(join(pkg, "gossip_web_transport.js")));
await init({ module_or_path: await readFile(join(pkg, "gossip_web_transport_bg.wasm")) });

// Far more than the 256 KiB that a socket passes on before it waits.
const messages = 16;
const data = new Uint8Array(1024 * 1024).fill(7);

const socket = await TransportSocket.open({ secret });
for (let i = 0; i < messages; i++) {
  await socket.send(addr, data);
  const { data: echo } = await socket.recv();
  assert.equal(Buffer.compare(echo, data), 0);
}
await socket.close();
console.log("closed");
