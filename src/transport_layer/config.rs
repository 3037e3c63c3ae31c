//! The configuration of a socket.
//!
//! These are plain values. Invariant: every default is finite, so a socket with the default
//! configuration has bounded memory whatever its peers do.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{ConfigError, all_at_least, at_least, setters};
use crate::net::{Alpn, is_dialable};

/// Limits and times of a socket.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TransportLayerConfig {
    /// The application protocols to offer and accept, in order of preference. Default: that of the
    /// message type.
    pub alpn: Vec<Alpn>,
    /// The address that this socket states in handshakes, at which other peers can dial it. They
    /// register it under this address. Port 0 stands for the port that is bound. Default: the bound address; if that cannot be dialled, as in a
    /// browser or if it is unspecified, none is stated, and peers register this socket under the key
    /// address of its identity ([`Identity::address`](crate::Identity::address)).
    pub advertise_addr: Option<SocketAddr>,
    /// The queue of messages to send to each peer.
    pub outgoing: QueueConfig,
    /// The largest number of bytes that wait in the queues of all peers together, without those that the
    /// network is taking (of each connection at most 256 KiB, or one longer message). If it is reached, the
    /// peer with the most bytes loses messages as [`TotalOverflow`](super::DropReason::TotalOverflow), up to
    /// a quarter of its queue at once: its oldest ones under `DropOldest`, and its newest ones under
    /// `DropNewest`. Under `Backpressure`, a peer's senders wait above half of this bound if more than 256
    /// KiB wait for the peer, and above three quarters if more than its share does, which is a quarter
    /// of the bound divided by `max_peers`. Default 256 MiB, the full queues of 64 peers: more peers
    /// do not read at a time only if something is wrong.
    pub max_outgoing_bytes: usize,
    /// The queue of received messages that `recv` has not returned yet.
    pub incoming: IncomingConfig,
    /// The longest time that a dial or the handshake of an incoming connection may take. A dial
    /// includes its handshake. Default 10 s.
    pub dial_timeout: Duration,
    /// The longest wait after a first failed dial. It doubles with each further failure. The actual
    /// wait is drawn at random from the upper half, so that peers do not dial in step. Default 200 ms.
    pub backoff_min: Duration,
    /// The longest wait between dials. Default 30 s.
    pub backoff_max: Duration,
    /// A connection is closed after this time without a message in either direction. The time of
    /// the last received message is recorded once a second, or sixteen times in this time if that
    /// is more often, so the connection may be closed that much earlier. Default 5 min.
    pub idle_timeout: Duration,
    /// The interval of keepalives on a connection that has nothing to send. Default 25 s: several
    /// in the default `silence_timeout`, and less than the half minute or minute after which proxies
    /// close a connection that carries nothing.
    pub keepalive_interval: Duration,
    /// A connection is closed if the network does not take a batch within this time. A batch of more
    /// than 256 KiB, which is one large message, gets as much again for each further 256 KiB. Default
    /// 30 s.
    pub write_timeout: Duration,
    /// A connection is closed if nothing is received from its peer for this time. This is the only
    /// setting for silence. It must be well above the `keepalive_interval` of the peer, and above
    /// the minute to which browsers throttle the timers of hidden tabs. After a freeze of this
    /// process, two seconds are allowed for reading what has arrived in the meantime. Default 90 s.
    pub silence_timeout: Duration,
    /// The largest number of connections with a proved identity, dials included. One more evicts the least
    /// recently used connection of the identity that has the most, and among identities that have as many,
    /// of the host that has the most; those that have messages to send go last. A dial evicts only
    /// connections without messages to send, and none if its address has failed before or another dial of its
    /// host runs: it waits then, and longer each time. Default 1,024.
    pub max_connections: usize,
    /// The largest number of connections without a proved identity (plaintext UDP). They take no place of
    /// the others, and none of these is evicted for them. One more evicts the least recently used one of
    /// the host that has the most; peers that this socket has dialled go last. Default 256.
    pub max_unauthenticated_connections: usize,
    /// The largest number of connections of one identity. One more evicts a connection that its peer does
    /// not need; if there is none, the newcomer is refused while the older connection answers. Peers
    /// without a proved identity are counted by host, and one more evicts the least recently used
    /// connection. Default 16.
    pub max_connections_per_identity: usize,
    /// The largest number of connections of one host (an IPv4 address or the first 64 bits of an
    /// IPv6 address); one more evicts its least recently used one. Default 1,024, as that of
    /// `max_connections`, since all tabs behind a proxy come from the host of the proxy.
    pub max_connections_per_host: usize,
    /// The largest number of incoming handshakes that run at a time. One more ends the oldest of
    /// the host that has the most, which an honest peer would have finished long ago. Default 64.
    pub max_pending_handshakes: usize,
    /// The largest number of peers that are remembered: those with a queue, a connection, a failed
    /// dial or recent traffic. One more forgets the least recently used peer without a connection, and drops
    /// its queued messages as `Overflow`; peers without a proved identity go first, then those of a host that
    /// has more than a quarter of `max_peers`, and peers with queued messages or waiting callers last, of the
    /// host that has the most of them. Connected peers are remembered in any case. Must be above
    /// `max_connections`. Default 4,096.
    pub max_peers: usize,
    /// How long a peer without messages and connection is remembered, with its counters and its
    /// backoff. Default 60 s.
    pub peer_linger: Duration,
}

impl TransportLayerConfig {
    setters! {
        with_alpn => alpn: Vec<Alpn>,
        with_advertise_addr => advertise_addr: Option<SocketAddr>,
        with_outgoing => outgoing: QueueConfig,
        with_max_outgoing_bytes => max_outgoing_bytes: usize,
        with_incoming => incoming: IncomingConfig,
        with_dial_timeout => dial_timeout: Duration,
        with_backoff_min => backoff_min: Duration,
        with_backoff_max => backoff_max: Duration,
        with_idle_timeout => idle_timeout: Duration,
        with_keepalive_interval => keepalive_interval: Duration,
        with_write_timeout => write_timeout: Duration,
        with_silence_timeout => silence_timeout: Duration,
        with_max_connections => max_connections: usize,
        with_max_unauthenticated_connections => max_unauthenticated_connections: usize,
        with_max_connections_per_identity => max_connections_per_identity: usize,
        with_max_connections_per_host => max_connections_per_host: usize,
        with_max_pending_handshakes => max_pending_handshakes: usize,
        with_max_peers => max_peers: usize,
        with_peer_linger => peer_linger: Duration,
    }

    /// Adapts the longest backoff to a gossip protocol with rounds of `interval`: at most ten
    /// rounds, so that a member that restarts is found again soon, and never more than the default.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        let longest = Self::default().backoff_max;
        self.backoff_max = interval
            .saturating_mul(10)
            .clamp(self.backoff_min, longest.max(self.backoff_min));
        self
    }

    /// Checks every value. [`TransportLayerSocket::new`](super::TransportLayerSocket::new) and
    /// [`TransportLayerTransport::open`](super::TransportLayerTransport::open) call it.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is out of bounds: a count, a byte limit or a time that must
    /// not be zero is zero, a time is longer than 365 days, `backoff_max` is less than `backoff_min`, or `max_peers` is not above
    /// `max_connections`.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.outgoing.validate().map_err(|e| e.inside("outgoing"))?;
        self.incoming.validate().map_err(|e| e.inside("incoming"))?;
        if let Some(addr) = self.advertise_addr {
            // Port 0 stands for the bound port.
            let port = addr.port().max(1);
            if !is_dialable(SocketAddr::new(addr.ip(), port)) {
                let bound = "an address that others can dial, and not a link-local one";
                return Err(ConfigError::new("advertise_addr", addr.to_string(), bound));
            }
        }
        let shortest = Duration::from_millis(1);
        all_at_least(&[
            ("backoff_min", self.backoff_min, Duration::ZERO),
            ("peer_linger", self.peer_linger, Duration::ZERO),
            ("dial_timeout", self.dial_timeout, shortest),
            ("backoff_max", self.backoff_max, self.backoff_min),
            ("idle_timeout", self.idle_timeout, shortest),
            ("keepalive_interval", self.keepalive_interval, shortest),
            ("write_timeout", self.write_timeout, shortest),
            ("silence_timeout", self.silence_timeout, shortest),
        ])?;
        let connections = self.max_connections;
        all_at_least(&[
            ("max_outgoing_bytes", self.max_outgoing_bytes, 1),
            ("max_connections", connections, 1),
            (
                "max_unauthenticated_connections",
                self.max_unauthenticated_connections,
                1,
            ),
            (
                "max_connections_per_identity",
                self.max_connections_per_identity,
                1,
            ),
            ("max_connections_per_host", self.max_connections_per_host, 1),
            ("max_pending_handshakes", self.max_pending_handshakes, 1),
            ("max_peers", self.max_peers, connections.saturating_add(1)),
        ])
    }
}

impl QueueConfig {
    setters! {
        with_max_messages => max_messages: usize,
        with_max_bytes => max_bytes: usize,
        with_ttl => ttl: Duration,
        with_overflow => overflow: OverflowPolicy,
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Fails if a bound is zero, or `ttl` longer than 365 days.
    pub fn validate(&self) -> Result<(), ConfigError> {
        at_least("ttl", self.ttl, Duration::ZERO)?;
        all_at_least(&[
            ("max_messages", self.max_messages, 1),
            ("max_bytes", self.max_bytes, 1),
        ])
    }
}

impl IncomingConfig {
    setters! {
        with_max_messages_per_peer => max_messages_per_peer: usize,
        with_max_bytes_per_peer => max_bytes_per_peer: usize,
        with_max_messages => max_messages: usize,
        with_max_bytes => max_bytes: usize,
        with_overflow => overflow: OverflowPolicy,
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Fails if a bound is zero.
    pub fn validate(&self) -> Result<(), ConfigError> {
        all_at_least(&[
            ("max_messages_per_peer", self.max_messages_per_peer, 1),
            ("max_bytes_per_peer", self.max_bytes_per_peer, 1),
            ("max_messages", self.max_messages, 1),
            ("max_bytes", self.max_bytes, 1),
        ])
    }
}

/// Limits of the outgoing queue of one peer. Messages that the network is taking still count.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QueueConfig {
    /// The largest number of messages. Default 1,000.
    pub max_messages: usize,
    /// The largest number of bytes of encoded messages. A single message with more is dropped as
    /// `TooLarge`. Default 4 MiB.
    pub max_bytes: usize,
    /// The longest time that a message waits to be sent. Default 30 s.
    pub ttl: Duration,
    /// The policy when the queue is full.
    pub overflow: OverflowPolicy,
}

/// Limits of the queue of received messages.
///
/// Peers without a proved identity (plaintext UDP) together have at most half of `max_messages` and of
/// `max_bytes`, since the sources of datagrams can be forged. Under `DropOldest`, their messages are dropped
/// before those of other peers, which they never evict. Under `Backpressure` they wait in a line of their own.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IncomingConfig {
    /// The largest number of messages from one peer. Default 1,000.
    pub max_messages_per_peer: usize,
    /// The largest number of bytes from one peer, as received, or as they are decoded if that takes more
    /// memory ([`Message::memory`](crate::Message::memory)). Default 16 MiB.
    pub max_bytes_per_peer: usize,
    /// The largest number of messages from all peers. Default 10,000.
    pub max_messages: usize,
    /// The largest number of bytes from all peers, counted in the same way. Default 64 MiB.
    pub max_bytes: usize,
    /// The policy when the queue is full. `DropOldest`: the peer with the most messages (or
    /// bytes) loses its oldest message. `DropNewest`: the new message is dropped. `Backpressure`:
    /// the connection is not read any more. Messages that were already read wait beside the queue:
    /// at most 64 KiB or 1,024 messages of each connection, or one longer message. They are
    /// dropped as `Overflow` if the connection ends before there is room.
    pub overflow: OverflowPolicy,
}

/// The policy for messages that find a queue full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverflowPolicy {
    /// The oldest message is dropped. Good for gossip, where a newer digest supersedes an older one.
    #[default]
    DropOldest,
    /// The new message is dropped.
    DropNewest,
    /// The sender waits until there is room.
    Backpressure,
}

impl Default for TransportLayerConfig {
    fn default() -> Self {
        Self {
            alpn: Vec::new(),
            advertise_addr: None,
            outgoing: QueueConfig::default(),
            max_outgoing_bytes: 256 << 20,
            incoming: IncomingConfig::default(),
            dial_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            keepalive_interval: Duration::from_secs(25),
            write_timeout: Duration::from_secs(30),
            silence_timeout: Duration::from_secs(90),
            max_connections: 1024,
            max_unauthenticated_connections: 256,
            max_connections_per_identity: 16,
            max_connections_per_host: 1024,
            max_pending_handshakes: 64,
            max_peers: 4096,
            peer_linger: Duration::from_secs(60),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_out_of_bounds_is_named() {
        let config = TransportLayerConfig::default;
        let (queue, inbox) = (QueueConfig::default, IncomingConfig::default);
        let zero = Duration::ZERO;
        let cases = [
            (config().with_dial_timeout(zero), "dial_timeout"),
            (
                config().with_backoff_max(Duration::from_millis(199)),
                "backoff_max",
            ),
            (config().with_idle_timeout(zero), "idle_timeout"),
            (config().with_keepalive_interval(zero), "keepalive_interval"),
            (config().with_write_timeout(zero), "write_timeout"),
            (config().with_silence_timeout(zero), "silence_timeout"),
            (config().with_max_connections(0), "max_connections"),
            (
                config().with_max_connections_per_identity(0),
                "max_connections_per_identity",
            ),
            (
                config().with_max_connections_per_host(0),
                "max_connections_per_host",
            ),
            (
                config().with_max_pending_handshakes(0),
                "max_pending_handshakes",
            ),
            (
                config().with_max_unauthenticated_connections(0),
                "max_unauthenticated_connections",
            ),
            (config().with_max_peers(1024), "max_peers"),
            (config().with_max_outgoing_bytes(0), "max_outgoing_bytes"),
            (
                config().with_outgoing(queue().with_max_messages(0)),
                "outgoing.max_messages",
            ),
            (
                config().with_outgoing(queue().with_max_bytes(0)),
                "outgoing.max_bytes",
            ),
            (
                config().with_incoming(inbox().with_max_messages_per_peer(0)),
                "incoming.max_messages_per_peer",
            ),
            (
                config().with_incoming(inbox().with_max_bytes_per_peer(0)),
                "incoming.max_bytes_per_peer",
            ),
            (
                config().with_incoming(inbox().with_max_messages(0)),
                "incoming.max_messages",
            ),
            (
                config().with_incoming(inbox().with_max_bytes(0)),
                "incoming.max_bytes",
            ),
        ];
        for (config, field) in cases {
            assert_eq!(config.validate().unwrap_err().field, field);
        }
        assert_eq!(config().with_max_peers(1025).validate(), Ok(()));
    }

    #[test]
    fn a_time_that_would_overflow_the_clock_is_refused() {
        type Set = fn(TransportLayerConfig, Duration) -> TransportLayerConfig;
        let fields: [(Set, &str); 9] = [
            (TransportLayerConfig::with_dial_timeout, "dial_timeout"),
            (TransportLayerConfig::with_backoff_min, "backoff_min"),
            (TransportLayerConfig::with_backoff_max, "backoff_max"),
            (TransportLayerConfig::with_idle_timeout, "idle_timeout"),
            (
                TransportLayerConfig::with_keepalive_interval,
                "keepalive_interval",
            ),
            (TransportLayerConfig::with_write_timeout, "write_timeout"),
            (
                TransportLayerConfig::with_silence_timeout,
                "silence_timeout",
            ),
            (TransportLayerConfig::with_peer_linger, "peer_linger"),
            (
                |config, ttl| config.with_outgoing(QueueConfig::default().with_ttl(ttl)),
                "outgoing.ttl",
            ),
        ];
        for (set, field) in fields {
            let config = set(TransportLayerConfig::default(), Duration::MAX);
            let error = config.validate().unwrap_err();
            assert_eq!(error.field, field);
            assert_eq!(error.bound, "at most 31536000s");
        }
    }

    #[test]
    fn the_longest_backoff_is_ten_rounds_within_the_defaults() {
        let cases = [(10, 200), (1000, 10_000), (60_000, 30_000)];
        for (interval, longest) in cases {
            let interval = Duration::from_millis(interval);
            let config = TransportLayerConfig::default().with_interval(interval);
            assert_eq!(config.backoff_max, Duration::from_millis(longest));
        }
    }
}
