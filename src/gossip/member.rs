//! A member as a participant sees it: plain values for whoever asks.

use std::collections::BTreeMap;

use crate::message::{ChitchatId, DeletionStatus, Version};

/// A member as this participant sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Who.
    pub id: ChitchatId,
    /// Live or dead, by the failure detector.
    pub liveness: Liveness,
    /// A member with the same name and a later generation is known: this one has restarted, and
    /// its old self is listed until it is forgotten.
    pub superseded: bool,
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

impl Liveness {
    /// Returns a name for metrics and logs: lower-case letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Myself => "myself",
            Self::Live => "live",
            Self::Dead => "dead",
        }
    }
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
    /// With it, the participant's state would be larger than its peers take.
    #[error("all keys and values together would take {len} bytes, the limit is {max}")]
    StateTooLarge {
        /// Bytes that they would take.
        len: usize,
        /// The limit.
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
