//! A transport for nodes of the published `chitchat` crate, over the sockets of this crate.
//!
//! [`ChitchatTransport`] implements `chitchat::transport::Transport`. An existing service changes
//! the line that creates its transport, and then gossips over any [`NetTransport`]: encrypted and
//! authenticated, with bounded and counted queues, and with replies over the connection that a
//! message came over.
//!
//! There is no engine here: the node is upstream's. Invariant: the messages are upstream's own, to
//! the byte, so nodes of this crate and of upstream can share a cluster over the same sockets.
//!
//! | file | contents |
//! |---|---|
//! | `mod` | the implementations of upstream's two traits, and their counters |
//! | `codec` | conversion of upstream's envelopes to bytes and back |
//! | `error` | [`EnvelopeError`] |
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

mod codec;
mod error;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use ::chitchat_013::ChitchatEnvelope;
use ::chitchat_013::transport::{RecvOutcome, SendOutcome, Socket, Transport};
use async_trait::async_trait;
use bytes::Bytes;

use crate::credential::NetCredential;
use crate::message::{ChitchatMessage, Message as _};
use crate::net::NetTransport;
use crate::rt::sync::Mutex;
use crate::transport_layer::{
    OverflowPolicy, SocketStats, TransportLayerConfig, TransportLayerSocket,
    TransportLayerTransport,
};
use codec::Codec;

pub use error::EnvelopeError;

/// A transport for `chitchat::spawn_chitchat`, over the network `T`.
///
/// Each socket that it opens is a [`TransportLayerSocket`] of encoded messages, which speaks the
/// protocol of [`ChitchatMessage`]. Its peers may therefore be participants of this crate as well.
///
/// Its sockets share the identity of the credential, and a socket refuses peers with its own identity. So
/// each node needs a transport of its own, with a credential of its own.
#[derive(Debug)]
pub struct ChitchatTransport<T: NetTransport> {
    transport: TransportLayerTransport<T, Bytes>,
    opened: Mutex<Opened<T>>,
    counts: Arc<Counters>,
}

type Opened<T> = Weak<TransportLayerSocket<T, Bytes>>;

/// Counters of the messages that could not be converted, for all sockets of a [`ChitchatTransport`].
///
/// Messages that queues and connections drop are counted by [`ChitchatTransport::stats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ChitchatCounts {
    /// Envelopes of the node that could not be encoded. [`EnvelopeError`] lists the causes.
    pub encode_failed: u64,
    /// Messages of peers that are not envelopes, or that would crash the node.
    pub decode_failed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    encode_failed: AtomicU64,
    decode_failed: AtomicU64,
}

impl<T: NetTransport> ChitchatTransport<T> {
    /// Creates a transport with the default configuration.
    pub fn new(network: T, credential: NetCredential) -> Self {
        Self::with_config(network, credential, TransportLayerConfig::default())
    }

    /// Creates a transport with `config`. If it names no protocol, that of [`ChitchatMessage`] is
    /// used.
    ///
    /// Outgoing queues with [`OverflowPolicy::Backpressure`] get [`OverflowPolicy::DropOldest`]
    /// instead. Upstream's only loop waits for each `send`, so with back-pressure a single slow peer
    /// would stall the node.
    pub fn with_config(
        network: T,
        credential: NetCredential,
        mut config: TransportLayerConfig,
    ) -> Self {
        // The default would be the protocol of `Bytes`, which participants do not speak.
        if config.alpn.is_empty() {
            config.alpn.push(ChitchatMessage::ALPN);
        }
        if config.outgoing.overflow == OverflowPolicy::Backpressure {
            config.outgoing.overflow = OverflowPolicy::DropOldest;
        }
        // Upstream's engine believes every peer everything, so guests are not let in.
        let trust = credential.trust().clone().refusing_invites();
        let credential = credential.with_trust(trust);
        Self {
            transport: TransportLayerTransport::with_config(network, credential, config),
            opened: Mutex::default(),
            counts: Arc::default(),
        }
    }

    /// Returns the statistics of the socket that was opened last, or `None` after its node has been
    /// dropped.
    pub fn stats(&self) -> Option<SocketStats> {
        let opened = self.opened.lock();
        Some(opened.upgrade()?.stats())
    }

    /// Returns the counters of messages that could not be converted.
    pub fn counts(&self) -> ChitchatCounts {
        ChitchatCounts {
            encode_failed: self.counts.encode_failed.load(Ordering::Relaxed),
            decode_failed: self.counts.decode_failed.load(Ordering::Relaxed),
        }
    }
}

#[async_trait]
impl<T: NetTransport> Transport for ChitchatTransport<T> {
    /// Binds `listen_addr`, and two UDP sockets on loopback for the codec.
    ///
    /// # Errors
    ///
    /// Fails if one of them cannot be bound.
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
    /// A message that has been received but not decoded, because `recv` was dropped meanwhile.
    undecoded: Option<(SocketAddr, Bytes)>,
    counts: Arc<Counters>,
}

#[async_trait]
impl<T: NetTransport> Socket for ChitchatSocket<T> {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.socket.local_addr())
    }

    /// Queues `envelope` without waiting for the network. An envelope that cannot be encoded is
    /// counted and dropped, and the returned number of bytes is zero. An envelope for a key address
    /// without a connection, as that of a tab of another node, is dropped and counted as
    /// [`Unroutable`](crate::transport_layer::DropReason::Unroutable).
    ///
    /// # Errors
    ///
    /// Fails only if the socket is closed.
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
                    tracing::warn!(%to, count, %error, "cannot encode envelope");
                }
                return Ok(SendOutcome { num_bytes_sent: 0 });
            }
        };
        let num_bytes_sent = bytes.len();
        let queued = self.socket.send(to, bytes).await;
        queued.map_err(|_| crate::transport_layer::ClosedError)?;
        Ok(SendOutcome { num_bytes_sent })
    }

    /// Returns the next envelope. Cancel-safe. Messages that are not envelopes are counted and
    /// skipped.
    ///
    /// # Errors
    ///
    /// Fails only if the socket is closed.
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
                        tracing::warn!(%from, count, %error, "cannot decode envelope");
                    }
                }
            }
        }
    }
}
