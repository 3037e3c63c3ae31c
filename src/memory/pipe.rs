//! One direction of a connection.
//!
//! Invariant: items arrive in the order in which they were put in, none before its time.

use std::collections::VecDeque;
use std::net::IpAddr;

use bytes::Bytes;
use futures::future::{Either, select};

use super::MemoryNetwork;
use crate::net::CloseCode;
use crate::rt::sync::{Epoch, Mutex, MutexGuard};
use crate::rt::{self, Instant};

#[derive(Debug)]
pub(super) struct Pipe {
    network: MemoryNetwork,
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    state: Mutex<State>,
    pub(super) changed: Epoch,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<(Instant, Item)>,
    bytes: usize,
    messages: usize,
    // The receiving end is gone: nobody will ever take anything.
    abandoned: bool,
    broken: bool,
}

/// What travels.
#[derive(Debug)]
pub(super) enum Item {
    Message(Bytes),
    Keepalive,
    /// The sender said goodbye.
    Goodbye(CloseCode),
    /// The sender vanished without a word, or the connection was broken.
    Broken,
}

/// The other end is gone.
#[derive(Debug)]
pub(super) struct Abandoned;

impl Pipe {
    pub(super) fn new(network: MemoryNetwork, from: IpAddr, to: IpAddr) -> Self {
        Self {
            network,
            from,
            to,
            state: Mutex::default(),
            changed: Epoch::default(),
        }
    }

    /// Puts `message` in, once there is room. Cancel-safe: it is in, or it is not.
    pub(super) async fn send(&self, message: &Bytes) -> Result<(), Abandoned> {
        loop {
            let seen = self.changed.current();
            if self.try_send(message)? {
                return Ok(());
            }
            self.changed.later_than(seen).await;
        }
    }

    fn try_send(&self, message: &Bytes) -> Result<bool, Abandoned> {
        let config = self.network.config();
        let delay = self.network.faults(self.from, self.to).delay;
        let mut state = self.lock();
        if state.abandoned || state.broken {
            return Err(Abandoned);
        }
        let fits = state.messages < config.pipe_messages
            && (state.bytes == 0 || state.bytes + message.len() <= config.pipe_bytes);
        if !fits {
            return Ok(false);
        }
        if self.network.loses(self.from, self.to) {
            return Ok(true);
        }
        state.bytes += message.len();
        state.messages += 1;
        let due = Instant::now() + delay;
        state.items.push_back((due, Item::Message(message.clone())));
        drop(state);
        self.changed.advance();
        Ok(true)
    }

    /// Puts in what needs no room.
    pub(super) fn push(&self, item: Item) -> Result<(), Abandoned> {
        let delay = self.network.faults(self.from, self.to).delay;
        let mut state = self.lock();
        if state.abandoned || state.broken {
            return Err(Abandoned);
        }
        // One keepalive says as much as many: so they need no bound.
        let repeats = matches!(item, Item::Keepalive)
            && matches!(state.items.back(), Some((_, Item::Keepalive)));
        if !repeats {
            state.items.push_back((Instant::now() + delay, item));
        }
        drop(state);
        self.changed.advance();
        Ok(())
    }

    /// The next item, when it is due and the link is not stalled. Cancel-safe.
    pub(super) async fn recv(&self) -> Item {
        loop {
            let seen = self.changed.current();
            let due = match self.try_recv() {
                Next::Item(item) => return item,
                Next::Due(due) => due,
                Next::Unknown => {
                    self.changed.later_than(seen).await;
                    continue;
                }
            };
            let clock = std::pin::pin!(rt::sleep(due.saturating_duration_since(Instant::now())));
            let changed = std::pin::pin!(self.changed.later_than(seen));
            match select(clock, changed).await {
                Either::Left(_) | Either::Right(_) => {}
            }
        }
    }

    fn try_recv(&self) -> Next {
        let stalled = self.network.faults(self.from, self.to).stalled;
        let mut state = self.lock();
        if state.broken {
            return Next::Item(Item::Broken);
        }
        if stalled {
            return Next::Unknown;
        }
        match state.items.front() {
            None => return Next::Unknown,
            Some((due, _)) if *due > Instant::now() => return Next::Due(*due),
            Some(_) => {}
        }
        let Some((_, item)) = state.items.pop_front() else {
            return Next::Unknown;
        };
        if let Item::Message(message) = &item {
            state.bytes -= message.len();
            state.messages -= 1;
        }
        drop(state);
        self.changed.advance();
        Next::Item(item)
    }

    /// Nobody will receive any more.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        state.items.clear();
        state.bytes = 0;
        state.messages = 0;
        drop(state);
        self.changed.advance();
    }

    pub(super) fn break_now(&self) {
        self.lock().broken = true;
        self.changed.advance();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

enum Next {
    Item(Item),
    Due(Instant),
    Unknown,
}
