//! What can be set.

use std::time::Duration;

use crate::net::Alpn;

/// Limits and times of a socket.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TransportLayerConfig {
    /// The protocols to offer and accept, most wanted first. Default: the message type's own.
    pub alpn: Vec<Alpn>,
    /// Each peer's queue of messages to send.
    pub outgoing: QueueConfig,
    /// The queue of messages received and not yet taken by `recv`.
    pub incoming: IncomingConfig,
    /// How long a dial may take, the handshake included. Default 10 s.
    pub dial_timeout: Duration,
    /// The wait after a first failed dial; it doubles with each further one, with jitter. Default
    /// 200 ms.
    pub backoff_min: Duration,
    /// The longest wait between dials. Default 30 s.
    pub backoff_max: Duration,
    /// A connection without a message in either direction for so long is closed. Default 5 min.
    pub idle_timeout: Duration,
    /// How often a connection that has nothing to send says that it lives. Default 15 s.
    pub keepalive_interval: Duration,
    /// A connection that has taken no byte for so long, while there is something to send, is
    /// closed. Default 30 s.
    pub write_timeout: Duration,
    /// Connections at a time, dials included; the least recently used goes first. Default 1,024.
    pub max_connections: usize,
    /// Handshakes of accepted peers running at a time; more wait their turn. Default 64.
    pub max_pending_handshakes: usize,
}

/// Bounds of one peer's outgoing queue.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QueueConfig {
    /// Messages. Default 1,000.
    pub max_messages: usize,
    /// Bytes of encoded messages. Default 4 MiB.
    pub max_bytes: usize,
    /// Older messages are not sent. Default 30 s.
    pub ttl: Duration,
    /// What happens when the queue is full.
    pub overflow: OverflowPolicy,
}

/// Bounds of the incoming queue.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IncomingConfig {
    /// Messages from one peer. Default 1,000.
    pub max_messages_per_peer: usize,
    /// Bytes from one peer, as received. Default 16 MiB.
    pub max_bytes_per_peer: usize,
    /// Messages in all. Default 10,000.
    pub max_messages: usize,
    /// Bytes in all, as received. Default 64 MiB.
    pub max_bytes: usize,
    /// What happens when it is full. `DropOldest`: the peer with the most queued loses its oldest.
    /// `DropNewest`: the new message is dropped. `Backpressure`: the connection is not read.
    pub overflow: OverflowPolicy,
}

/// What a full queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverflowPolicy {
    /// The oldest message goes: a newer digest supersedes an older one.
    #[default]
    DropOldest,
    /// The new message is not taken.
    DropNewest,
    /// `send` waits until there is room.
    Backpressure,
}

impl Default for TransportLayerConfig {
    fn default() -> Self {
        Self {
            alpn: Vec::new(),
            outgoing: QueueConfig::default(),
            incoming: IncomingConfig::default(),
            dial_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            keepalive_interval: Duration::from_secs(15),
            write_timeout: Duration::from_secs(30),
            max_connections: 1024,
            max_pending_handshakes: 64,
        }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            max_messages: 1000,
            max_bytes: 4 << 20,
            ttl: Duration::from_secs(30),
            overflow: OverflowPolicy::default(),
        }
    }
}

impl Default for IncomingConfig {
    fn default() -> Self {
        Self {
            max_messages_per_peer: 1000,
            max_bytes_per_peer: 16 << 20,
            max_messages: 10_000,
            max_bytes: 64 << 20,
            overflow: OverflowPolicy::default(),
        }
    }
}
