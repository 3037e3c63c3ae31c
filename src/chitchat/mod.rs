//! Under a node of the published `chitchat` crate: our sockets as its transport.
//!
//! [`ChitchatTransport`] implements `chitchat::transport::Transport`. An existing service changes
//! the line that makes its transport, and gossips over any [`NetTransport`] from then on: encrypted,
//! authenticated, with bounded and counted queues, replies over the connection that a message came
//! by. The messages are upstream's own, to the byte, so that nodes of this crate and of upstream
//! share a cluster over the same sockets.
//!
//! | where | what |
//! |---|---|
//! | this file | the two traits, and what is counted |
//! | `codec` | upstream's envelopes to bytes and back, from outside |
//!
//! ```no_run
//! # use chitchat_013 as chitchat;
//! use chitchat::{ChitchatConfig, spawn_chitchat};
//! use gossip_transport::chitchat::ChitchatTransport;
//! use gossip_transport::tcp::TcpTransport;
//! use gossip_transport::{ClusterSecret, NetCredential, Trust};
//!
//! # async fn run(config: ChitchatConfig, secret: ClusterSecret) -> anyhow::Result<()> {
//! let credential = NetCredential::generate(Trust::secret(secret));
//! let transport = ChitchatTransport::new(TcpTransport::default(), credential);
//! let node = spawn_chitchat(config, Vec::new(), &transport).await?;
//! # Ok(()) }
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use ::chitchat_013::ChitchatEnvelope;
use ::chitchat_013::transport::{RecvOutcome, SendOutcome, Socket, Transport};
use async_trait::async_trait;
use bytes::Bytes;

mod codec;

pub use codec::EnvelopeError;

use crate::credential::NetCredential;
use crate::net::NetTransport;
use crate::rt::sync::Mutex;
use crate::transport_layer::{
    OverflowPolicy, SocketStats, TransportLayerConfig, TransportLayerSocket,
    TransportLayerTransport,
};
use codec::Codec;

/// A transport for `chitchat::spawn_chitchat`, over the network `T`.
///
/// Each socket that it opens is a [`TransportLayerSocket`] of messages as bytes, which speaks the
/// protocol of [`ChitchatMessage`]: participants of this crate are peers.
#[derive(Debug)]
pub struct ChitchatTransport<T: NetTransport> {
    transport: TransportLayerTransport<T, Bytes>,
    opened: Mutex<Opened<T>>,
    counts: Arc<Counters>,
}

type Opened<T> = Weak<TransportLayerSocket<T, Bytes>>;

/// Messages that did not get through the codec, of all sockets of a [`ChitchatTransport`].
///
/// What is dropped by queues and connections is in [`ChitchatTransport::stats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ChitchatCounts {
    /// Envelopes of the node that could not be encoded; see [`EnvelopeError`].
    pub encode_failed: u64,
    /// Messages of peers that are no envelopes, or such as would bring the node down.
    pub decode_failed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    encode_failed: AtomicU64,
    decode_failed: AtomicU64,
}

impl<T: NetTransport> ChitchatTransport<T> {
    /// With the default configuration.
    pub fn new(network: T, credential: NetCredential) -> Self {
        Self::with_config(network, credential, TransportLayerConfig::default())
    }

    /// With `config`; if it names no protocol, that of [`ChitchatMessage`] is used.
    ///
    /// Upstream's only loop waits for each `send`: under [`OverflowPolicy::Backpressure`] one peer
    /// that is slow would hold up the node, so the outgoing queues drop their oldest instead.
    pub fn with_config(
        network: T,
        credential: NetCredential,
        mut config: TransportLayerConfig,
    ) -> Self {
        if config.outgoing.overflow == OverflowPolicy::Backpressure {
            config.outgoing.overflow = OverflowPolicy::DropOldest;
        }
        Self {
            transport: TransportLayerTransport::with_config(network, credential, config),
            opened: Mutex::default(),
            counts: Arc::default(),
        }
    }

    /// Connections, queues and counters of the socket that was opened last; `None` once its node
    /// is gone.
    pub fn stats(&self) -> Option<SocketStats> {
        let opened = self.opened.lock();
        Some(opened.upgrade()?.stats())
    }

    /// What did not get through the codec.
    pub fn counts(&self) -> ChitchatCounts {
        ChitchatCounts {
            encode_failed: self.counts.encode_failed.load(Ordering::Relaxed),
            decode_failed: self.counts.decode_failed.load(Ordering::Relaxed),
        }
    }
}

#[async_trait]
impl<T: NetTransport> Transport for ChitchatTransport<T> {
    /// Binds `listen_addr`, and a pair of sockets on loopback for the codec.
    async fn open(&self, listen_addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let codec = Codec::open().await?;
        let socket = Arc::new(self.transport.open(listen_addr).await?);
        *self.opened.lock() = Arc::downgrade(&socket);
        Ok(Box::new(ChitchatSocket {
            socket,
            codec,
            undecoded: None,
            counts: Arc::clone(&self.counts),
        }))
    }
}

struct ChitchatSocket<T: NetTransport> {
    socket: Arc<TransportLayerSocket<T, Bytes>>,
    codec: Codec,
    /// Received, and not decoded yet: `recv` was dropped meanwhile.
    undecoded: Option<(SocketAddr, Bytes)>,
    counts: Arc<Counters>,
}

#[async_trait]
impl<T: NetTransport> Socket for ChitchatSocket<T> {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.socket.local_addr())
    }

    /// Queues `envelope`: waits for no network. An envelope that cannot be encoded is counted, and
    /// zero bytes are sent.
    async fn send(
        &mut self,
        to: SocketAddr,
        envelope: ChitchatEnvelope,
    ) -> anyhow::Result<SendOutcome> {
        let bytes = match self.codec.encode(envelope).await {
            Ok(bytes) => bytes,
            Err(error) => {
                let count = 1 + self.counts.encode_failed.fetch_add(1, Ordering::Relaxed);
                if count.is_power_of_two() {
                    tracing::warn!(%to, count, %error, "an envelope of chitchat is not sent");
                }
                return Ok(SendOutcome { num_bytes_sent: 0 });
            }
        };
        let num_bytes_sent = bytes.len();
        let queued = self.socket.send(to, bytes).await;
        queued.map_err(|_| crate::transport_layer::ClosedError)?;
        Ok(SendOutcome { num_bytes_sent })
    }

    /// The next envelope. Cancel-safe.
    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            let (from_addr, bytes) = match &self.undecoded {
                Some(received) => received.clone(),
                None => self.undecoded.insert(self.socket.recv().await?).clone(),
            };
            let decoded = self.codec.decode(&bytes).await;
            self.undecoded = None;
            match decoded {
                Ok(envelope) => {
                    return Ok(RecvOutcome {
                        from_addr,
                        envelope,
                        num_bytes_received: bytes.len(),
                    });
                }
                Err(error) => {
                    let count = 1 + self.counts.decode_failed.fetch_add(1, Ordering::Relaxed);
                    if count.is_power_of_two() {
                        let from = from_addr;
                        tracing::warn!(%from, count, %error, "a message is no envelope of chitchat");
                    }
                }
            }
        }
    }
}
