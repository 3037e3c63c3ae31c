//! The events that an engine takes, the outputs that it returns, and its counters.
//!
//! Plain values, without behaviour.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::denial::DenialCounts;
use crate::credential::{Claims, Identity, Refusal, Role};
use crate::message::ChitchatMessage;

/// An event for [`Engine::handle`](super::Engine::handle).
#[derive(Debug, Clone)]
pub enum Event {
    /// A round is due. See [`Engine::next_round`](super::Engine::next_round).
    Round,
    /// Rumours are due, or a question to a peer that has more than fits into a message. See [`Engine::next_rumours`](super::Engine::next_rumours).
    Rumours,
    /// A message was received. A reply to it is sent to `from`.
    Message {
        /// The address of the sender, as the transport layer knows it.
        from: SocketAddr,
        /// The public key that the sender proved to own during the handshake, or
        /// [`Identity::UNPROVED`] on a network without authentication, such as plain UDP. A
        /// [`Role::Leaf`] may change only the member at the address of this key.
        identity: Identity,
        /// The role of the sender in the cluster, by its credential. It decides what of the message is applied.
        role: Role,
        /// The message.
        message: ChitchatMessage,
    },
    /// The seeds have been resolved again. These addresses replace the previous ones.
    Seeds(Vec<SocketAddr>),
    /// Connections have come or gone. These are all that are live now. A driver that never passes
    /// this in, for example because its network has no connections, can reach every address as far
    /// as the engine knows.
    Connections(Vec<Connection>),
    /// The time since 1970-01-01 UTC, which limits the generations of leaves. A driver passes it in before its first
    /// message and in each round, since a clock may be set, and the engine's time may stand still while a machine
    /// sleeps.
    UnixTime(Duration),
}

/// A live connection to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The address under which messages of the peer arrive.
    pub addr: SocketAddr,
    /// True if the peer is known to read version 1 of the format, because it is a socket of this
    /// crate with this crate's engine. Messages to it have that version then.
    pub reads_v1: bool,
    /// The claims of the invite that the peer holds, if it is a [`Role::Leaf`].
    pub invite: Option<Arc<Claims>>,
}

/// Something that the driver of an engine must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a message.
    Send {
        /// The address to send it to.
        to: SocketAddr,
        /// The message. It is at most
        /// [`max_message_len`](super::GossipConfig::max_message_len) bytes long.
        message: ChitchatMessage,
    },
    /// Send the same message to several members. It needs to be encoded only once.
    SendToAll {
        /// The addresses to send it to: at least two, all different.
        to: Vec<SocketAddr>,
        /// The message. It is at most
        /// [`max_message_len`](super::GossipConfig::max_message_len) bytes long.
        message: ChitchatMessage,
    },
    /// Close the connections of a leaf, and tell it why: nothing of what it says about itself is applied, for this
    /// reason. It has a name that is not its to use, or a generation that lies in the future.
    Refuse {
        /// The address of the leaf.
        to: SocketAddr,
        /// The reason: [`Refusal::Name`] or [`Refusal::Clock`].
        reason: Refusal,
    },
    /// Notify the application: members, their liveness or their keys have changed.
    MembershipChanged,
}

/// Counters of an engine, all since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EngineCounts {
    /// Rounds.
    pub rounds: u64,
    /// Messages that carried rumours, one for each receiver.
    pub rumours_sent: u64,
    /// Messages of other members of the cluster: exchanges and rumours, without those of other
    /// clusters.
    pub heard: u64,
    /// Syns from other clusters. Each was answered with a BadCluster.
    pub foreign_syns: u64,
    /// BadClusters received: a peer considers us part of another cluster.
    pub rejections: u64,
    /// Messages that were not read and answered, because their sender has sent too many or too long ones:
    /// more than 16 Syns or SynAcks at once, and in the long run more than 128 in a second and 16 in an
    /// interval; or members and keys that take more than about a quarter of the time, or together with those
    /// of others and with the answers more than about half of it.
    pub limited: u64,
    /// Refused members, counted each time that one is heard of: there are
    /// [`max_members`](super::GossipConfig::max_members) already, or the name is longer than 1,024
    /// bytes.
    pub refused_members: u64,
    /// Updates of a member that were not applied, or only in part: its keys would have exceeded
    /// the limit of one member, or the limit of all members together; or the versions of the changes
    /// do not rise, or a key begins with a character that would crash members of the published crate.
    pub refused_keys: u64,
    /// Reserved keys of members at addresses of their own that no core member has set: keys whose names
    /// begin with `gossip-transport/`, without a proof by a cluster secret. They are passed on as ordinary keys, and
    /// mean nothing. 0 in a cluster without secrets.
    pub refused_reserved_keys: u64,
    /// Parts of messages that were not applied because their sender may not say that.
    pub denied: DenialCounts,
}
