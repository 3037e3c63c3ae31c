//! Messages that a receiver has taken together and returns one by one.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::arrival::Arrival;
use crate::transport_layer::received::Received;

/// Messages that have left the inbox and are not returned yet, in the order of their return.
#[derive(Debug)]
pub(in crate::transport_layer) struct InHand<M> {
    pub(super) messages: VecDeque<(M, usize)>,
    /// The sender of each message; messages that arrived together share one entry.
    pub(super) runs: VecDeque<(SocketAddr, Arrival)>,
}

impl<M> Default for InHand<M> {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            runs: VecDeque::new(),
        }
    }
}

impl<M> InHand<M> {
    /// Returns the next message.
    pub(in crate::transport_layer) fn pop(&mut self) -> Option<Received<M>> {
        let (message, _) = self.messages.pop_front()?;
        let (from, arrival) = self.runs.front_mut()?;
        let received = arrival.received(*from, message);
        arrival.count -= 1;
        if arrival.count == 0 {
            self.runs.pop_front();
        }
        Some(received)
    }

    /// Returns the next message and its sender, unless it is the last one. This is the common case,
    /// so nothing else is copied.
    pub(in crate::transport_layer) fn pop_unless_last(&mut self) -> Option<(SocketAddr, M)> {
        if self.messages.len() < 2 {
            return None;
        }
        let (from, arrival) = self.runs.front_mut()?;
        let from = *from;
        arrival.count -= 1;
        if arrival.count == 0 {
            self.runs.pop_front();
        }
        let (message, _) = self.messages.pop_front()?;
        Some((from, message))
    }

    pub(in crate::transport_layer) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Returns how many messages are from `peer`.
    pub(super) fn count_from(&self, peer: SocketAddr) -> usize {
        let own = self.runs.iter().filter(|(from, _)| *from == peer);
        own.map(|(_, arrival)| arrival.count).sum()
    }
}
