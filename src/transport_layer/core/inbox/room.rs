//! The bounds of the inbox, and what they leave room for.
//!
//! Peers without a proved identity together have half of the inbox, so that datagrams, whose sources
//! can be forged, never fill the other half. Peers with one may have all of it.

use std::ops::{AddAssign, SubAssign};

use crate::transport_layer::config::IncomingConfig;
use crate::transport_layer::core::pool::Pool;

/// The bound that a message does not fit into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport_layer) enum Bound {
    Peer,
    Messages,
    Bytes,
}

/// A number of messages, and of their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl AddAssign for Sizes {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}

impl SubAssign for Sizes {
    fn sub_assign(&mut self, other: Self) {
        self.messages -= other.messages;
        self.bytes -= other.bytes;
    }
}

/// What is in the inbox, the messages in the hand of a receiver included.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    /// Messages and bytes of all peers.
    pub(super) all: Sizes,
    /// Messages and bytes of peers without a proved identity.
    pub(super) unproved: Sizes,
}

impl Load {
    pub(super) fn add(&mut self, pool: Pool, sizes: Sizes) {
        self.all += sizes;
        if pool == Pool::Unproved {
            self.unproved += sizes;
        }
    }

    pub(super) fn remove(&mut self, pool: Pool, sizes: Sizes) {
        self.all -= sizes;
        if pool == Pool::Unproved {
            self.unproved -= sizes;
        }
    }

    /// Returns the pool that has fewer messages.
    pub(super) fn smaller(&self) -> Pool {
        if self.unproved.messages < self.all.messages - self.unproved.messages {
            Pool::Unproved
        } else {
            Pool::Proved
        }
    }
}

/// Returns what the peers of `pool` together may have. Half of the inbox is at least one message.
pub(super) fn most_of(config: &IncomingConfig, pool: Pool) -> Sizes {
    match pool {
        Pool::Proved => Sizes {
            messages: config.max_messages,
            bytes: config.max_bytes,
        },
        Pool::Unproved => Sizes {
            messages: config.max_messages.div_ceil(2),
            bytes: config.max_bytes.div_ceil(2),
        },
    }
}

/// Returns the length of the longest message of a peer of `pool` that there can be room for.
pub(super) fn most_of_one(config: &IncomingConfig, pool: Pool) -> usize {
    config.max_bytes_per_peer.min(most_of(config, pool).bytes)
}

/// Returns the bytes with which a message counts that has `len` bytes and takes `memory`. If there can be
/// room for its bytes and not for its memory, it takes all the room of its peer.
pub(super) fn held(memory: usize, len: usize, most: usize) -> usize {
    memory.min(most).max(len)
}

/// Returns the bound that is exceeded if a peer of `pool` adds `more` to what it and the inbox `have`.
pub(super) fn missing_room(
    config: &IncomingConfig,
    pool: Pool,
    (peer, have): (Sizes, Load),
    more: Sizes,
) -> Option<Bound> {
    let over = |have: usize, add: usize, max: usize| have.saturating_add(add) > max;
    if over(peer.messages, more.messages, config.max_messages_per_peer)
        || over(peer.bytes, more.bytes, config.max_bytes_per_peer)
    {
        return Some(Bound::Peer);
    }
    let unproved = (pool == Pool::Unproved).then(|| (have.unproved, most_of(config, pool)));
    let bounds = [Some((have.all, most_of(config, Pool::Proved))), unproved];
    let mut bounds = bounds.into_iter().flatten();
    bounds.find_map(|(have, most)| {
        if over(have.messages, more.messages, most.messages) {
            Some(Bound::Messages)
        } else {
            over(have.bytes, more.bytes, most.bytes).then_some(Bound::Bytes)
        }
    })
}
