//! What happened, in numbers that add up.
//!
//! Plain values: the counting is done where the messages are, under the lock that moves them.
//! Invariant, in every snapshot, for each peer and in all: submitted = sent + queued + dropped, and
//! received = delivered + incoming_queued + incoming_dropped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::credential::Identity;

/// Why a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DropReason {
    /// A queue was full.
    Overflow,
    /// Older than its queue's TTL.
    Expired,
    /// The address cannot be dialled and no connection with it is alive.
    Unroutable,
    /// A dial failed in a way that no retry can mend
    /// ([`ConnectError::NotDialable`](crate::net::ConnectError::NotDialable),
    /// [`NotPermitted`](crate::net::ConnectError::NotPermitted)). After any other failure the
    /// message waits for the next dial, until its TTL ends.
    DialFailed,
    /// Longer than the limit.
    TooLarge,
    /// The socket or the connection was closed with the message in hand.
    Closed,
    /// Received, and no valid message.
    DecodeFailed,
    /// Submitted, and its format cannot express it.
    EncodeFailed,
}

impl DropReason {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 8] = [
        Self::Overflow,
        Self::Expired,
        Self::Unroutable,
        Self::DialFailed,
        Self::TooLarge,
        Self::Closed,
        Self::DecodeFailed,
        Self::EncodeFailed,
    ];

    /// A name for metrics: lower-case letters and underscores.
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
        }
    }
}

/// A count for each [`DropReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropCounts([u64; DropReason::ALL.len()]);

impl DropCounts {
    /// Messages dropped for `reason`.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }
    /// Messages dropped for any reason.
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

    /// Each reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().map(|r| (r, self.count(r)))
    }
}

/// A snapshot of a socket. For each peer and in all: `submitted == sent + queued + dropped`, and
/// `received == delivered + incoming_queued + incoming_dropped`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SocketStats {
    /// Sums over all peers, those no longer listed included.
    pub total: PeerStats,
    /// Peers with a queue or a connection, or with one not long ago (`peer_linger`).
    pub peers: BTreeMap<SocketAddr, PeerStats>,
    /// Live connections.
    pub connections: Vec<ConnectionInfo>,
    /// Dials begun.
    pub dials: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Accepted connections whose handshake succeeded.
    pub accepted: u64,
    /// Accepted connections whose handshake failed or was refused.
    pub accept_failed: u64,
}

/// Counters of one peer, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStats {
    /// What the socket is doing about this peer; in the total, the best of all.
    pub state: PeerState,
    /// While [`BackingOff`](PeerState::BackingOff): how long until the next dial, which needs
    /// something to send. `None` in the total.
    pub next_dial: Option<Duration>,
    /// Messages given to `send`.
    pub submitted: u64,
    /// Messages that the network has taken.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Messages waiting.
    pub queued: u64,
    /// Bytes of them.
    pub queued_bytes: u64,
    /// Messages that were not sent, by reason.
    pub dropped: DropCounts,
    /// Messages that arrived.
    pub received: u64,
    /// Bytes of them.
    pub received_bytes: u64,
    /// Messages that `recv` has given.
    pub delivered: u64,
    /// Messages waiting for `recv`.
    pub incoming_queued: u64,
    /// Messages that arrived and were not delivered, by reason.
    pub incoming_dropped: DropCounts,
}

impl PeerStats {
    /// Adds `other`'s counts; the better state of the two stays.
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

/// What the socket is doing about a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PeerState {
    /// Nothing: no connection and nothing to send.
    #[default]
    Idle,
    /// Waiting before the next dial.
    BackingOff,
    /// Dialling or shaking hands.
    Dialing,
    /// At least one live connection.
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
    /// The peer's address, as `recv` gives it.
    pub remote_addr: SocketAddr,
    /// Our address as the peer sees it, where the network can know it.
    pub local_addr: SocketAddr,
    /// The identity that the peer proved.
    pub remote_identity: Identity,
    /// Which side dialled.
    pub direction: Direction,
    /// Since when.
    pub age: Duration,
    /// How long the peer has been silent.
    pub silence: Duration,
}

/// Which side dialled a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// We did.
    Outgoing,
    /// The peer did.
    Incoming,
}
