//! The inbox behind its lock, and the futures that wait for messages or for room.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use crate::credential::Identity;
use crate::rt::sync::{Mutex, Ticket};
use crate::transport_layer::config::IncomingConfig;
use crate::transport_layer::core::{InHand, Inbox, ReaderPlace, Source};
use crate::transport_layer::error::ClosedError;
use crate::transport_layer::received::Received;
use crate::transport_layer::stats::PeerStats;

/// The inbox of a socket, shared by the tasks that read connections and the callers of `recv`.
///
/// Lock order: what receivers have in hand, then the inbox.
#[derive(Debug)]
pub(super) struct SharedInbox<M> {
    /// Messages that were taken out of the inbox together and are returned one by one, so that most
    /// calls of `recv` do not compete with the readers for a lock.
    in_hand: Mutex<InHand<M>>,
    inbox: Mutex<Inbox<M>>,
}

impl<M> SharedInbox<M> {
    /// Creates an empty inbox, in which a message counts with the `memory` that it takes, or its length.
    pub(super) fn new(config: IncomingConfig, memory: fn(&M) -> usize) -> Self {
        Self {
            in_hand: Mutex::default(),
            inbox: Mutex::new(Inbox::new(config, memory)),
        }
    }

    /// Adds messages, each with its length in bytes, according to the overflow policy. Under
    /// `Backpressure` the messages for which there is no room stay in `messages`.
    pub(super) fn push_many(&self, source: Source, messages: &mut VecDeque<(M, usize)>) {
        let receiver = {
            let mut inbox = self.inbox.lock();
            inbox.push_many(source, messages);
            inbox.receivers.first()
        };
        if let Some(waker) = receiver {
            waker.wake();
        }
    }

    /// Adds one message, waiting for room under `Backpressure`. If the future is dropped first, the
    /// message is lost and not counted.
    pub(super) async fn push(&self, source: Source, message: (M, usize)) {
        let mut reader = WaitingReader {
            shared: self,
            from: source.from,
            place: ReaderPlace::default(),
        };
        let len = message.1;
        let mut message = Some(message.0);
        poll_fn(|cx| {
            let Some(taken) = message.take() else {
                return Poll::Ready(());
            };
            let mut wakers = Vec::new();
            let place = &mut reader.place;
            let pushed = {
                let mut inbox = self.inbox.lock();
                inbox.push_or_wait(source, (taken, len), place, cx.waker(), &mut wakers)
            };
            wakers.into_iter().for_each(Waker::wake);
            match pushed {
                Ok(()) => Poll::Ready(()),
                Err(taken) => {
                    message = Some(taken);
                    Poll::Pending
                }
            }
        })
        .await;
    }

    /// Counts `len` bytes that did not decode to a message. Returns the count of this peer.
    pub(super) fn count_undecodable(&self, from: SocketAddr, len: usize) -> u64 {
        self.inbox.lock().count_undecodable(from, len)
    }

    /// Counts messages, by their lengths in bytes, that found no room and are dropped.
    pub(super) fn count_dropped(&self, from: SocketAddr, lens: impl Iterator<Item = usize>) {
        self.inbox.lock().count_dropped(from, lens);
    }

    /// Returns the next message and its sender. Cancel-safe.
    pub(super) async fn recv(&self) -> Result<(SocketAddr, M), ClosedError> {
        let in_hand = self.in_hand.lock().pop_unless_last();
        if let Some(received) = in_hand {
            return Ok(received);
        }
        let received = self.recv_detailed().await?;
        Ok((received.from, received.message))
    }

    /// Returns the next message with what is known of its sender. Cancel-safe.
    pub(super) async fn recv_detailed(&self) -> Result<Received<M>, ClosedError> {
        let mut receiver = Receiver {
            shared: self,
            ticket: None,
        };
        poll_fn(|cx| self.poll_recv(&mut receiver.ticket, cx)).await
    }

    fn poll_recv(
        &self,
        ticket: &mut Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Received<M>, ClosedError>> {
        let mut in_hand = self.in_hand.lock();
        let ready = in_hand.pop();
        let mut wakers = Vec::new();
        let mut inbox = self.inbox.lock();
        let received = match ready {
            Some(ready) => {
                if in_hand.is_empty() {
                    inbox.settle(&mut wakers);
                }
                Some(Ok(ready))
            }
            None => {
                let others = inbox.receivers.len() > usize::from(ticket.is_some());
                match inbox.take(&mut in_hand, others, &mut wakers) {
                    Some(first) => Some(Ok(first)),
                    None if inbox.is_closed() => Some(Err(ClosedError)),
                    None => None,
                }
            }
        };
        if received.is_some() {
            inbox.receivers.leave(ticket);
            if inbox.is_closed() || !inbox.is_empty() {
                wakers.extend(inbox.receivers.first());
            }
        } else {
            inbox.receivers.join(ticket, cx.waker());
        }
        drop(inbox);
        drop(in_hand);
        wakers.into_iter().for_each(Waker::wake);
        received.map_or(Poll::Pending, Poll::Ready)
    }

    /// Ends `recv` once every queued message has been returned.
    pub(super) fn close(&self) {
        let mut wakers = Vec::new();
        self.inbox.lock().close(&mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Keeps the counters of `peer` until [`forget`](Self::forget).
    pub(super) fn remember(&self, peer: SocketAddr) {
        self.inbox.lock().remember(peer);
    }

    /// Returns whether messages of `peer` wait for `recv`.
    pub(super) fn has_messages_of(&self, peer: SocketAddr, identity: Identity) -> bool {
        self.inbox.lock().has_messages_of(peer, identity)
    }

    /// Adds the counters of `peer` to the total once its messages have been taken.
    pub(super) fn forget(&self, peer: SocketAddr) {
        self.inbox.lock().forget(peer);
    }

    /// Adds the counters to `peers`, and those of peers that are no longer listed to `total`.
    pub(super) fn stats(&self, total: &mut PeerStats, peers: &mut BTreeMap<SocketAddr, PeerStats>) {
        let in_hand = self.in_hand.lock();
        self.inbox.lock().stats(&in_hand, total, peers);
    }
}

/// A reader that waits for room. Dropping it gives up its place in line.
struct WaitingReader<'a, M> {
    shared: &'a SharedInbox<M>,
    from: SocketAddr,
    place: ReaderPlace,
}

impl<M> Drop for WaitingReader<'_, M> {
    fn drop(&mut self) {
        if !self.place.is_taken() {
            return;
        }
        let mut wakers = Vec::new();
        let mut inbox = self.shared.inbox.lock();
        inbox.leave(self.from, &mut self.place, &mut wakers);
        drop(inbox);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A caller of `recv` that waits for a message. Dropping it gives up its place in line.
struct Receiver<'a, M> {
    shared: &'a SharedInbox<M>,
    ticket: Ticket,
}

impl<M> Drop for Receiver<'_, M> {
    fn drop(&mut self) {
        if self.ticket.is_none() {
            return;
        }
        let next = {
            let mut inbox = self.shared.inbox.lock();
            let was_first = inbox.receivers.leave(&mut self.ticket);
            inbox.receivers.first().filter(|_| was_first)
        };
        if let Some(waker) = next {
            waker.wake();
        }
    }
}
