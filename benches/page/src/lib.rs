//! This crate's side of the browser benchmark: the same exercises as `static/raw.js`, through a
//! socket of this crate.
//!
//! `../../src/exercise.rs` describes the orders to the native node. The crate is empty on every other
//! target, so that the workspace builds there.

#![cfg(target_family = "wasm")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use gossip_transport::rt::Instant;
use gossip_transport::transport_layer::OverflowPolicy;
use gossip_transport::websocket::WebSocketTransport;
use gossip_transport::{
    ClusterSecret, NetCredential, TransportLayerConfig, TransportLayerSocket,
    TransportLayerTransport, Trust,
};
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

const NO_LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Messages between two readings of the clock, as many as in `static/raw.js`.
const LOOK_EVERY: u32 = 64;

/// An encrypted connection to the native node, with the socket's queues on both ends.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Ours {
    socket: TransportLayerSocket<WebSocketTransport, Bytes>,
    node: SocketAddr,
}

#[wasm_bindgen]
impl Ours {
    /// Connects to `node`, an IP address and a port.
    pub async fn connect(node: String, secret: String) -> Result<Ours, JsError> {
        open(&node, &secret).await.map_err(|error| thrown(&error))
    }

    /// Sends messages of `len` bytes for `millis` ms; returns how many per second the node received.
    pub async fn up(&self, len: usize, millis: u32) -> Result<f64, JsError> {
        let rate = self.send_for(len, millis).await;
        rate.map_err(|error| thrown(&error))
    }

    /// Has the node send messages of `len` bytes for `millis` ms; returns how many per second arrived.
    pub async fn down(&self, len: usize, millis: u32) -> Result<f64, JsError> {
        let rate = self.receive_for(len, millis).await;
        rate.map_err(|error| thrown(&error))
    }

    /// Measures `count` round trips of a message of `len` bytes, in microseconds each.
    pub async fn ping(&self, len: usize, count: usize) -> Result<Vec<f64>, JsError> {
        let trips = self.round_trips(len, count).await;
        trips.map_err(|error| thrown(&error))
    }

    /// Exchanges `count` messages of `len` bytes, half of them each way.
    pub async fn exchange(&self, len: usize, count: u32) -> Result<(), JsError> {
        let exchanged = self.round_trips_at_once(len, count).await;
        exchanged.map_err(|error| thrown(&error))
    }
}

impl Ours {
    async fn send(&self, message: impl Into<Bytes>) -> anyhow::Result<()> {
        Ok(self.socket.send(self.node, message.into()).await?)
    }

    async fn recv(&self) -> anyhow::Result<Bytes> {
        Ok(self.socket.recv().await?.1)
    }

    async fn send_for(&self, len: usize, millis: u32) -> anyhow::Result<f64> {
        self.send("up").await?;
        let message = Bytes::from(vec![b'x'; len]);
        let limit = Duration::from_millis(millis.into());
        let begin = Instant::now();
        while begin.elapsed() < limit {
            for _ in 0..LOOK_EVERY {
                self.send(message.clone()).await?;
            }
        }
        self.send("end").await?;
        let rate = self.recv().await?;
        Ok(std::str::from_utf8(&rate)?.parse()?)
    }

    async fn receive_for(&self, len: usize, millis: u32) -> anyhow::Result<f64> {
        self.send(format!("down {len} {millis}")).await?;
        let mut count = 0_u32;
        let mut begin = None;
        loop {
            let message = self.recv().await?;
            let begin = *begin.get_or_insert_with(Instant::now);
            if message.len() == len {
                count += 1;
            } else if message == "end" {
                return Ok(f64::from(count) / begin.elapsed().as_secs_f64());
            } else {
                bail!("a message of another length");
            }
        }
    }

    async fn round_trips(&self, len: usize, count: usize) -> anyhow::Result<Vec<f64>> {
        self.send("echo").await?;
        let message = Bytes::from(vec![b'x'; len]);
        let mut trips = Vec::with_capacity(count);
        for _ in 0..count {
            let begin = Instant::now();
            self.send(message.clone()).await?;
            self.recv().await?;
            trips.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        self.send("end").await?;
        Ok(trips)
    }

    async fn round_trips_at_once(&self, len: usize, count: u32) -> anyhow::Result<()> {
        const AT_ONCE: u32 = 100;
        self.send("echo").await?;
        let message = Bytes::from(vec![b'x'; len]);
        for _ in 0..count.div_ceil(2 * AT_ONCE) {
            for _ in 0..AT_ONCE {
                self.send(message.clone()).await?;
            }
            for _ in 0..AT_ONCE {
                self.recv().await?;
            }
        }
        self.send("end").await
    }
}

async fn open(node: &str, secret: &str) -> anyhow::Result<Ours> {
    let node = node.parse().context("the node's address")?;
    let mut config = TransportLayerConfig::default();
    // A benchmark that drops messages would measure the dropping.
    config.outgoing.overflow = OverflowPolicy::Backpressure;
    config.incoming.overflow = OverflowPolicy::Backpressure;
    let secret: ClusterSecret = secret.parse()?;
    let credential = NetCredential::generate(Trust::secret(secret));
    let network = WebSocketTransport::default();
    let transport = TransportLayerTransport::with_config(network, credential, config);
    let socket = transport.open(NO_LISTENER).await?;
    let outgoing = socket.get_or_create_outgoing_connection(node)?;
    outgoing.connected(Duration::from_secs(10)).await?;
    Ok(Ours { socket, node })
}

fn thrown(error: &anyhow::Error) -> JsError {
    JsError::new(&format!("{error:#}"))
}

/// Returns the size of the wasm memory, in bytes.
#[wasm_bindgen(js_name = wasmMemory)]
pub fn wasm_memory() -> f64 {
    use wasm_bindgen::JsCast as _;
    let memory = wasm_bindgen::memory().unchecked_into::<js_sys::WebAssembly::Memory>();
    let buffer = memory.buffer().unchecked_into::<js_sys::ArrayBuffer>();
    f64::from(buffer.byte_length())
}

/// Runs when the module is loaded. Makes a panic print its message to the console.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}
