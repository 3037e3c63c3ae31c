// A plain WebSocket for comparison: one `send` for each message, at most 1 MiB of `bufferedAmount`.
// The orders to the native node are those of ../../src/exercise.rs.

const HIGH_WATER = 1 << 20;
// Messages between two readings of the clock, as many as in ../src/lib.rs.
const LOOK_EVERY = 64;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

// Waits for one turn of the event loop, without the 4 ms that nested timers take at least.
function turn() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => resolve(port1.close());
    port2.postMessage(null);
  });
}

// Waits as most pages do.
function timer() {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

export class Raw {
  static turns = turn;
  static timers = timer;

  static connect(url, wait) {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url);
      socket.binaryType = 'arraybuffer';
      socket.onopen = () => resolve(new Raw(socket, wait));
      socket.onerror = () => reject(new Error(`no WebSocket at ${url}`));
    });
  }

  constructor(socket, wait) {
    this.socket = socket;
    this.wait = wait;
  }

  async up(len, millis) {
    const { socket } = this;
    socket.send(encoder.encode('up'));
    const message = new Uint8Array(len).fill(120);
    const report = new Promise((resolve) => {
      socket.onmessage = (event) => resolve(Number(decoder.decode(event.data)));
    });
    const end = performance.now() + millis;
    while (performance.now() < end) {
      for (let i = 0; i < LOOK_EVERY && socket.bufferedAmount < HIGH_WATER; i += 1) {
        socket.send(message);
      }
      if (socket.bufferedAmount >= HIGH_WATER) await this.wait();
    }
    socket.send(encoder.encode('end'));
    return report;
  }

  down(len, millis) {
    const { socket } = this;
    return new Promise((resolve, reject) => {
      let count = 0;
      let begin;
      socket.onmessage = (event) => {
        begin ??= performance.now();
        if (event.data.byteLength === len) {
          count += 1;
        } else if (decoder.decode(event.data) === 'end') {
          resolve((count * 1000) / (performance.now() - begin));
        } else {
          reject(new Error('a message of another length'));
        }
      };
      socket.send(encoder.encode(`down ${len} ${millis}`));
    });
  }

  async ping(len, count) {
    const { socket } = this;
    socket.send(encoder.encode('echo'));
    const message = new Uint8Array(len).fill(120);
    const trips = new Float64Array(count);
    for (let i = 0; i < count; i += 1) {
      const begin = performance.now();
      await new Promise((resolve) => {
        socket.onmessage = resolve;
        socket.send(message);
      });
      trips[i] = (performance.now() - begin) * 1000;
    }
    socket.send(encoder.encode('end'));
    return trips;
  }
}
