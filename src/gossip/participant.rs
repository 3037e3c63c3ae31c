//! Joins the engine to a socket.

use std::collections::BTreeMap;
use std::time::Duration;

use super::GossipConfig;
use crate::message::{ChitchatId, ChitchatMessage, DeletionStatus, Version};
use crate::net::NetTransport;
use crate::transport_layer::{SocketStats, TransportLayerSocket};

/// A member of a cluster. Dropping it leaves without a goodbye.
#[derive(Debug)]
pub struct Participant<T: NetTransport>(std::marker::PhantomData<fn() -> T>);

/// A member as this participant sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Who.
    pub id: ChitchatId,
    /// Live or dead, by the failure detector.
    pub liveness: Liveness,
    /// The highest heartbeat heard of.
    pub heartbeat: u64,
    /// The highest version known.
    pub max_version: Version,
    /// Visible keys; deleted ones are left out.
    pub key_values: BTreeMap<String, MemberValue>,
}

/// A value of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberValue {
    /// The value.
    pub value: String,
    /// When it was set, in versions.
    pub version: Version,
    /// `Set`, or `DeleteAfterTtl` for a key that will go.
    pub status: DeletionStatus,
}

/// What the failure detector says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// This participant itself.
    Myself,
    /// Heartbeats arrive.
    Live,
    /// None for too long, or too few so far.
    Dead,
}

/// Why a key was not set. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// An upstream peer would crash on it.
    #[error("key {key:?} has to begin with an ASCII character")]
    KeyNotAscii {
        /// The key.
        key: String,
    },
    /// It could never be sent, and would hold back every later key.
    #[error("key and value take {len} bytes, a message has room for {max}")]
    TooLong {
        /// Bytes that it takes.
        len: usize,
        /// Bytes that there are.
        max: usize,
    },
    /// The participant has left.
    #[error("the participant has left the cluster")]
    Left,
}

/// Why a key was not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// There is no such key.
    #[error("there is no key {key:?}")]
    NoSuchKey {
        /// The key.
        key: String,
    },
    /// The participant has left.
    #[error("the participant has left the cluster")]
    Left,
}

impl<T: NetTransport> Participant<T> {
    /// Joins the cluster over `socket`. Where the own address is not known (see
    /// [`GossipConfig::advertise_addr`]), waits for the first seed that answers.
    ///
    /// # Errors
    ///
    /// The configuration is invalid, or the socket is closed.
    pub async fn join(
        _socket: TransportLayerSocket<T, ChitchatMessage>,
        _config: GossipConfig,
    ) -> anyhow::Result<Self> {
        todo!()
    }
    /// Who we are.
    pub fn id(&self) -> &ChitchatId {
        todo!()
    }
    /// Sets a key of our own.
    ///
    /// # Errors
    ///
    /// See [`SetError`].
    pub fn set(&self, _key: &str, _value: &str) -> Result<(), SetError> {
        todo!()
    }
    /// Sets a key that goes away everywhere after the grace period.
    ///
    /// # Errors
    ///
    /// See [`SetError`].
    pub fn set_with_ttl(&self, _key: &str, _value: &str) -> Result<(), SetError> {
        todo!()
    }
    /// A key of our own.
    pub fn get(&self, _key: &str) -> Option<String> {
        todo!()
    }
    /// Deletes a key of our own.
    ///
    /// # Errors
    ///
    /// See [`DeleteError`].
    pub fn delete(&self, _key: &str) -> Result<(), DeleteError> {
        todo!()
    }
    /// Every member known, ourselves included, in the order of their ids.
    pub fn members(&self) -> Vec<Member> {
        todo!()
    }
    /// Wakes when members, their liveness or their keys have changed since the last call on the
    /// returned watcher.
    pub fn watch(&self) -> MembershipWatch {
        todo!()
    }
    /// The socket's counters.
    pub fn stats(&self) -> SocketStats {
        todo!()
    }
    /// Tells a few peers our latest state, closes every connection, and stops.
    pub async fn leave(self, _deadline: Duration) {
        todo!()
    }
}

/// Waits for changes of the membership.
#[derive(Debug)]
pub struct MembershipWatch(());

impl MembershipWatch {
    /// Completes when something has changed since it last completed; several changes in between
    /// are one. `false` once the participant has left. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        todo!()
    }
}
