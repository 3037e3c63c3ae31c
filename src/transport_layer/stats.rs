//! Counters of a socket, which always add up.
//!
//! These are plain values; the messages are counted where they are moved, under the same lock.
//! Invariant, in every snapshot, for each peer and in all: submitted = sent + queued + dropped, and
//! received = delivered + incoming_queued + incoming_dropped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::credential::{Grounds, Identity};
use crate::net::{AcceptFailure, Alpn, PartialStats};

/// The reason why a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DropReason {
    /// A queue was full.
    Overflow,
    /// The message was older than the TTL of its queue.
    Expired,
    /// The address cannot be dialled, and there is no live connection to it.
    Unroutable,
    /// A dial failed in a way that no retry can help
    /// ([`ConnectError::NotDialable`](crate::net::ConnectError::NotDialable),
    /// [`NotPermitted`](crate::net::ConnectError::NotPermitted)). After any other failure the
    /// message waits for the next dial, until its TTL ends.
    DialFailed,
    /// The message was longer than the limit.
    TooLarge,
    /// The socket was closed before the message was sent.
    Closed,
    /// The received bytes did not decode to a message.
    DecodeFailed,
    /// The message cannot be expressed in its format.
    EncodeFailed,
    /// The message was queued for the owner of an identity, and another one has answered at the
    /// address.
    IdentityChanged,
    /// The queues of all peers together were full
    /// ([`max_outgoing_bytes`](super::TransportLayerConfig::max_outgoing_bytes)), and this peer had the most.
    TotalOverflow,
}

impl DropReason {
    /// All reasons, in the order of declaration.
    pub const ALL: [Self; 10] = [
        Self::Overflow,
        Self::Expired,
        Self::Unroutable,
        Self::DialFailed,
        Self::TooLarge,
        Self::Closed,
        Self::DecodeFailed,
        Self::EncodeFailed,
        Self::IdentityChanged,
        Self::TotalOverflow,
    ];

    /// Returns a name for metrics: lower-case letters and underscores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Expired => "expired",
            Self::Unroutable => "unroutable",
            Self::DialFailed => "dial_failed",
            Self::TooLarge => "too_large",
            Self::Closed => "closed",
            Self::DecodeFailed => "decode_failed",
            Self::EncodeFailed => "encode_failed",
            Self::IdentityChanged => "identity_changed",
            Self::TotalOverflow => "total_overflow",
        }
    }
}

/// The number of dropped messages for each [`DropReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropCounts([u64; DropReason::ALL.len()]);

impl DropCounts {
    /// Returns the number of messages dropped for `reason`.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }
    /// Returns the number of messages dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
    pub(super) fn add(&mut self, reason: DropReason, count: u64) {
        if let Some(slot) = self.0.get_mut(reason as usize) {
            *slot += count;
        }
    }

    fn merge(&mut self, other: &Self) {
        for (reason, count) in other.iter() {
            self.add(reason, count);
        }
    }

    /// Returns each reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().map(|r| (r, self.count(r)))
    }
}

/// The number of incoming connections that were not accepted for each [`AcceptFailure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AcceptFailures([u64; AcceptFailure::ALL.len()]);

impl AcceptFailures {
    /// Returns the number of connections that were not accepted for `reason`.
    pub fn count(&self, reason: AcceptFailure) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// Returns each reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (AcceptFailure, u64)> + '_ {
        AcceptFailure::ALL.into_iter().map(|r| (r, self.count(r)))
    }

    pub(super) fn add(&mut self, reason: AcceptFailure) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

/// A snapshot of the counters of a socket.
///
/// For each peer and in all, `submitted == sent + queued + dropped` and
/// `received == delivered + incoming_queued + incoming_dropped`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SocketStats {
    /// The sums over all peers, those that are no longer listed included.
    pub total: PeerStats,
    /// Peers that have a queue or a connection, or had one within the last `peer_linger`.
    pub peers: BTreeMap<SocketAddr, PeerStats>,
    /// Live connections.
    pub connections: Vec<ConnectionInfo>,
    /// Dials that were started.
    pub dials: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Incoming connections whose handshake succeeded.
    pub accepted: u64,
    /// Connections of peers with invites that were accepted and closed, because the invite, their host or all leaves
    /// together had as many as they may.
    pub leaves_refused: u64,
    /// Incoming connections whose handshake failed or was refused.
    pub accept_failed: u64,
    /// Incoming connections whose handshake failed or was refused, by reason. Their sum is `accept_failed`,
    /// without those that are [no failure](AcceptFailure::is_failure).
    pub accept_failures: AcceptFailures,
    /// Connections whose address or identity was not what it should be.
    pub naming: NamingStats,
    /// Messages that have been received in part, on all connections of the network. Sockets on clones of
    /// one network share them.
    pub partial: PartialStats,
}

/// Counts of connections whose address or identity was not what it should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamingStats {
    /// Addresses that peers have stated and that were ignored: ours, one that cannot be dialled, the
    /// key address of another identity, or a loopback address of a peer that is not on this machine.
    pub stated_addrs_ignored: u64,
    /// Addresses that peers have stated and that are registered to another identity.
    pub stated_addrs_contested: u64,
    /// Connections that were refused because another connection of the same identity was alive.
    pub duplicates_refused: u64,
    /// Dials that were answered by another identity than the one that the address belongs to.
    pub wrong_identities: u64,
    /// Connections without authentication that were refused because their address belongs to an
    /// authenticated peer.
    pub unauthenticated_refused: u64,
    /// Addresses of authenticated peers that connections without authentication have taken over, after
    /// the peer had not been connected for `peer_linger`.
    pub downgraded: u64,
}

/// The counters of one peer, or of all peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStats {
    /// The state of the connection with this peer. In the total, the best state of all peers.
    pub state: PeerState,
    /// The time until the next dial, while the state is [`BackingOff`](PeerState::BackingOff). It is
    /// dialled only if there is something to send. `None` in the total.
    pub next_dial: Option<Duration>,
    /// Messages passed to `send`.
    pub submitted: u64,
    /// Messages that the network has taken, which does not mean that the peer has received them.
    pub sent: u64,
    /// Bytes of the messages in `sent`.
    pub sent_bytes: u64,
    /// Messages that wait to be sent.
    pub queued: u64,
    /// Bytes of the messages in `queued`.
    pub queued_bytes: u64,
    /// Messages that were not sent, by reason.
    pub dropped: DropCounts,
    /// Messages that were received.
    pub received: u64,
    /// Bytes of the messages in `received`.
    pub received_bytes: u64,
    /// Messages that `recv` has returned.
    pub delivered: u64,
    /// Messages that wait for `recv`.
    pub incoming_queued: u64,
    /// Messages that were received and dropped, by reason.
    pub incoming_dropped: DropCounts,
}

impl PeerStats {
    /// Adds the counts of `other`, and keeps the better state of the two.
    pub(super) fn merge(&mut self, other: &Self) {
        if other.state > self.state {
            self.state = other.state;
        }
        self.submitted += other.submitted;
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.queued += other.queued;
        self.queued_bytes += other.queued_bytes;
        self.dropped.merge(&other.dropped);
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.delivered += other.delivered;
        self.incoming_queued += other.incoming_queued;
        self.incoming_dropped.merge(&other.incoming_dropped);
    }
}

/// The state of the connection with a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PeerState {
    /// There is no connection and nothing to send.
    #[default]
    Idle,
    /// The last dial failed, and the next one is not due yet.
    BackingOff,
    /// A dial or its handshake is running.
    Dialing,
    /// There is at least one live connection.
    Connected,
}

impl PeerState {
    /// Returns a name for metrics and JSON: lower-case letters and underscores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::BackingOff => "backing_off",
            Self::Dialing => "dialing",
            Self::Connected => "connected",
        }
    }
}

/// A live connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The address under which the peer is registered, as `recv` returns it.
    pub remote_addr: SocketAddr,
    /// The address of the other end on the network: as dialled, or where the connection came from,
    /// which may be a proxy.
    pub network_addr: SocketAddr,
    /// Our address as the peer sees it if the network knows it, otherwise as it is bound here.
    pub local_addr: SocketAddr,
    /// The identity that the peer has proved.
    pub remote_identity: Identity,
    /// What else it has proved: that it knows a cluster secret, and which one.
    pub grounds: Grounds,
    /// The application protocol that both sides have agreed on. Over UDP, where nothing is agreed on, that of chitchat.
    pub alpn: Alpn,
    /// The side that dialled.
    pub direction: Direction,
    /// The time since the connection was established.
    pub age: Duration,
    /// The time since anything was received from the peer.
    pub silence: Duration,
}

/// The side that dialled a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// This side dialled.
    Outgoing,
    /// The peer dialled.
    Incoming,
}
