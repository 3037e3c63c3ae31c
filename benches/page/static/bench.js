// Runs the exercises on this crate's socket and on a plain WebSocket in turn, and reports to the
// native node.

import init, { Ours, wasmMemory } from './pkg/gossip_bench_page.js';
import { Raw } from './raw.js';

const SIZES = [[64, '64 B'], [1 << 10, '1 KiB'], [16 << 10, '16 KiB'], [64 << 10, '64 KiB']];
const TIMERS = 'raw JavaScript WebSocket, waits by timers';
const TURNS = 'raw JavaScript WebSocket, waits by messages to itself';
const OURS = '**gossip-transport**, encrypted';

const log = document.querySelector('#log');
const samples = [];

function add(column, peer, value) {
  samples.push({ column, peer, value });
  log.textContent += `${column}  ${peer}  ${value.toFixed(1)}\n`;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

// Memory of wasm and of JavaScript in bytes, the latter as exact as the browser reports it.
function memory() {
  return { wasm: wasmMemory(), heap: performance.memory?.usedJSHeapSize ?? 0 };
}

async function run() {
  const plan = await (await fetch('plan.json')).json();
  await init();
  const ours = await Ours.connect(plan.node, plan.secret);
  const peers = [
    [TIMERS, await Raw.connect(plan.raw, Raw.timers)],
    [TURNS, await Raw.connect(plan.raw, Raw.turns)],
    [OURS, ours],
  ];
  for (let round = 0; round < plan.rounds; round += 1) {
    // Each round shifts the order and reverses it.
    const turns = peers.map((_, i) => peers[(i + round) % peers.length]);
    if (round % 2) turns.reverse();
    for (const [len, name] of SIZES) {
      for (const way of ['up', 'down']) {
        for (const [label, peer] of turns) {
          add(`${way}, ${name}`, label, await peer[way](len, plan.millis));
        }
      }
    }
    for (const [label, peer] of turns) {
      add('ping p50', label, median(await peer.ping(64, plan.pings)));
    }
  }
  const soak = [];
  for (let i = 0; i <= plan.soak.steps && plan.soak.messages > 0; i += 1) {
    soak.push({ messages: i * plan.soak.messages, ...memory() });
    if (i < plan.soak.steps) await ours.exchange(64, plan.soak.messages);
  }
  return { samples, soak, browser: navigator.userAgent };
}

run().then(
  (results) => fetch('results', { method: 'POST', body: JSON.stringify(results) }),
  (error) => fetch('failed', { method: 'POST', body: `${error?.stack ?? error}` }),
);
