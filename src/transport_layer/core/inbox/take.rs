//! Taking messages out of the inbox.
//!
//! A receiver takes several messages under one lock and returns them one by one without it.
//! Messages in hand count as queued until they are returned, and against the bounds until the last
//! of them is returned.

use std::net::SocketAddr;
use std::task::Waker;

use super::in_hand::InHand;
use super::room::Sizes;
use super::{Inbox, SPARE_QUEUES};
use crate::transport_layer::received::Received;

/// A receiver takes at most this many messages at a time, besides the one that it returns at once.
const IN_HAND: usize = 63;
/// A receiver takes at most this many bytes at a time. Messages in hand cannot be evicted, so more
/// is not worth it.
const IN_HAND_BYTES: usize = 64 << 10;
/// Divides the bounds of the inbox: a receiver has at most a sixteenth of them in hand.
const IN_HAND_PART: usize = 16;

impl<M> Inbox<M> {
    /// Takes the next message, which counts as delivered. Moves some more into `in_hand`, which
    /// must be empty, unless `others` (receivers) wait for messages too.
    ///
    /// When `in_hand` is empty again, [`settle`](Self::settle) must be called.
    pub(in crate::transport_layer) fn take(
        &mut self,
        in_hand: &mut InHand<M>,
        others: bool,
        wakers: &mut Vec<Waker>,
    ) -> Option<Received<M>> {
        self.next_len()?;
        let from = self.turns.pop()?;
        let share = self.peers.get_mut(&from)?;
        let (first, len) = share.pop(from)?;
        share.counters.delivered += 1;
        wakers.extend(share.readers.first());
        let taken = Sizes {
            messages: 1,
            bytes: len,
        };
        self.load.remove(share.pool, taken);
        let keep = share.known || !share.is_idle();
        self.turn_taken(from);
        if !keep {
            self.fold_if_done(from);
        }
        if !others {
            self.fill(in_hand);
        }
        self.wake_readers(wakers);
        Some(first)
    }

    /// Counts the messages that were in hand as delivered, and frees their room.
    pub(in crate::transport_layer) fn settle(&mut self, wakers: &mut Vec<Waker>) {
        while let Some(from) = self.in_hand.pop() {
            let Some(share) = self.peers.get_mut(&from) else {
                continue;
            };
            let taken = Sizes {
                messages: std::mem::take(&mut share.in_hand),
                bytes: std::mem::take(&mut share.in_hand_bytes),
            };
            share.counters.delivered += taken.messages as u64;
            wakers.extend(share.readers.first());
            self.load.remove(share.pool, taken);
            self.fold_if_done(from);
        }
        self.wake_readers(wakers);
    }

    fn fill(&mut self, in_hand: &mut InHand<M>) {
        let config = &self.config;
        let most = config.max_messages.min(config.max_messages_per_peer) / IN_HAND_PART;
        let most = most.min(IN_HAND);
        let most_bytes = config.max_bytes.min(config.max_bytes_per_peer) / IN_HAND_PART;
        let mut room = most_bytes.min(IN_HAND_BYTES);
        while in_hand.len() < most
            && let Some(next) = self.next_len()
            && next <= room
            && let Some(from) = self.turns.pop()
            && let Some(share) = self.peers.get_mut(&from)
        {
            // While no other peer has messages, this peer gets all turns.
            let turns = if self.turns.is_empty() { most } else { 1 };
            let most = most.min(in_hand.len() + turns);
            let (count, bytes) = share.hand_over(from, in_hand, most, room);
            room -= bytes;
            if share.in_hand == 0 {
                self.in_hand.push(from);
            }
            share.in_hand += count;
            share.in_hand_bytes += bytes;
            self.turn_taken(from);
        }
    }

    /// Returns the length of the next message. Removes peers without messages from the turns.
    fn next_len(&mut self) -> Option<usize> {
        while let Some(from) = self.turns.front() {
            let share = self.peers.get_mut(&from);
            if let Some((_, len)) = share.as_ref().and_then(|share| share.messages.front()) {
                return Some(*len);
            }
            if let Some(share) = share {
                share.in_turn = false;
            }
            self.turns.skip();
        }
        None
    }

    /// Puts a peer whose messages were taken at the end of the turns, if it has more.
    fn turn_taken(&mut self, from: SocketAddr) {
        let peers = self.peers.len();
        let Some(share) = self.peers.get_mut(&from) else {
            return;
        };
        share.in_turn = !share.messages.is_empty();
        if share.in_turn {
            self.turns.push(share.pool, from);
        } else if let Some(emptied) = share.give_back()
            && self.spare.len() < SPARE_QUEUES
        {
            self.spare.push(emptied);
        }
        if !std::mem::replace(&mut share.noted, true) && self.ranking.note(from, peers) {
            self.update_ranking();
        }
    }
}
