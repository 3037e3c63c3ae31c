//! One direction of a connection.
//!
//! It knows neither the connection nor the listener that use it. Invariant: items arrive in the
//! order in which they were sent, each no earlier than its delay allows.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::select;

use super::config::MemoryConfig;
use super::faults::FaultTable;
use crate::net::CloseCode;
use crate::rt::sync::{Epoch, Mutex, MutexGuard};
use crate::rt::{self, Instant};

/// A queue of items in transit from one host to another.
#[derive(Debug)]
pub(super) struct Pipe {
    faults: Arc<FaultTable>,
    from: IpAddr,
    to: IpAddr,
    max_messages: usize,
    max_bytes: usize,
    state: Mutex<State>,
    changed: Epoch,
}

#[derive(Debug, Default)]
struct State {
    // Each with the time from which on it can be received.
    items: VecDeque<(Instant, Item)>,
    bytes: usize,
    messages: usize,
    // Whether the receiving end is gone, so that nothing will be received any more.
    abandoned: bool,
    broken: bool,
    // Whether a goodbye was sent, behind which nothing may come: the other end does not receive it.
    said_goodbye: bool,
}

/// An item in transit.
#[derive(Debug)]
pub(super) enum Item {
    Message(Bytes),
    Keepalive,
    /// The sender asks for an answer.
    Probe,
    /// The sender has received everything before one or more probes.
    Answer,
    /// The sender has closed the connection.
    Goodbye(CloseCode),
    /// The sender is gone without closing, or the connection was broken.
    Broken,
}

/// The error of sending to a receiving end that is gone.
#[derive(Debug)]
pub(super) struct Abandoned;

/// The item at the front of a pipe, if there is one.
enum Front {
    Item(Item),
    /// An item that can be received at this time.
    Due(Instant),
    /// Nothing, until the pipe changes.
    Nothing,
}

impl Pipe {
    pub(super) fn new(
        faults: Arc<FaultTable>,
        config: &MemoryConfig,
        from: IpAddr,
        to: IpAddr,
    ) -> Self {
        Self {
            faults,
            from,
            to,
            max_messages: config.pipe_messages,
            max_bytes: config.pipe_bytes,
            state: Mutex::default(),
            changed: Epoch::default(),
        }
    }

    /// Returns whether the pipe is between these two hosts, in either direction.
    pub(super) fn is_between(&self, a: IpAddr, b: IpAddr) -> bool {
        (self.from, self.to) == (a, b) || (self.from, self.to) == (b, a)
    }

    /// Sends `message`, waiting until there is room. Cancel-safe: the message has been sent
    /// completely or not at all.
    pub(super) async fn send(&self, message: &Bytes) -> Result<(), Abandoned> {
        loop {
            let seen = self.changed.current();
            if self.try_send(message)? {
                return Ok(());
            }
            self.changed.later_than(seen).await;
        }
    }

    /// Returns whether there was room, which there is none behind a goodbye.
    fn try_send(&self, message: &Bytes) -> Result<bool, Abandoned> {
        let delay = self.faults.get(self.from, self.to).delay;
        let mut state = self.lock();
        if state.said_goodbye {
            // Even if the other end is gone by now: it has answered, and what it has sent is read first.
            return Ok(false);
        }
        if state.abandoned || state.broken {
            return Err(Abandoned);
        }
        let fits = state.messages < self.max_messages
            && (state.bytes == 0 || state.bytes + message.len() <= self.max_bytes);
        if !fits {
            return Ok(false);
        }
        if self.faults.draw_loss(self.from, self.to) {
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

    /// Sends an item that is not a message, which takes no room.
    pub(super) fn push(&self, item: Item) -> Result<(), Abandoned> {
        let delay = self.faults.get(self.from, self.to).delay;
        let mut state = self.lock();
        if state.abandoned || state.broken {
            return Err(Abandoned);
        }
        state.said_goodbye |= matches!(item, Item::Goodbye(_));
        // Between two messages, several items of a kind mean the same as one. Dropping the others
        // bounds the queue.
        let kind = std::mem::discriminant(&item);
        let waiting = state.items.iter().rev().map(|(_, waiting)| waiting);
        let repeats = waiting
            .take_while(|waiting| !matches!(waiting, Item::Message(_)))
            .any(|waiting| std::mem::discriminant(waiting) == kind);
        if !repeats {
            state.items.push_back((Instant::now() + delay, item));
        }
        drop(state);
        self.changed.advance();
        Ok(())
    }

    /// Receives the next item, once it is due and delivery is not suspended. Cancel-safe.
    pub(super) async fn recv(&self) -> Item {
        loop {
            let seen = self.changed.current();
            let due = match self.try_recv() {
                Front::Item(item) => return item,
                Front::Due(due) => due,
                Front::Nothing => {
                    self.changed.later_than(seen).await;
                    continue;
                }
            };
            let clock = pin!(rt::sleep(due.saturating_duration_since(Instant::now())));
            let changed = pin!(self.changed.later_than(seen));
            select(clock, changed).await;
        }
    }

    fn try_recv(&self) -> Front {
        let stalled = self.faults.get(self.from, self.to).stalled;
        let mut state = self.lock();
        if state.broken {
            return Front::Item(Item::Broken);
        }
        if stalled {
            return Front::Nothing;
        }
        match state.items.front() {
            None => return Front::Nothing,
            Some((due, _)) if *due > Instant::now() => return Front::Due(*due),
            Some(_) => {}
        }
        let Some((_, item)) = state.items.pop_front() else {
            return Front::Nothing;
        };
        if let Item::Message(message) = &item {
            state.bytes -= message.len();
            state.messages -= 1;
        }
        drop(state);
        self.changed.advance();
        Front::Item(item)
    }

    /// Drops everything in transit. Sending fails from now on.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        state.items.clear();
        state.bytes = 0;
        state.messages = 0;
        drop(state);
        self.changed.advance();
    }

    /// Breaks the pipe. Sending fails from now on, and the receiving end receives
    /// [`Item::Broken`].
    pub(super) fn break_now(&self) {
        self.lock().broken = true;
        self.changed.advance();
    }

    /// Wakes both ends, so that they notice changed faults.
    pub(super) fn wake(&self) {
        self.changed.advance();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_are_not_messages_do_not_pile_up_while_nothing_is_delivered() {
        let ip = IpAddr::from([10, 0, 0, 1]);
        let faults = Arc::new(FaultTable::new(1));
        let pipe = Pipe::new(faults, &MemoryConfig::default(), ip, ip);
        for _ in 0..100 {
            for item in [Item::Probe, Item::Answer, Item::Keepalive] {
                pipe.push(item).unwrap();
            }
        }
        assert_eq!(pipe.lock().items.len(), 3);
        // A probe behind a message says something else than one before it.
        assert!(pipe.try_send(&Bytes::new()).unwrap());
        pipe.push(Item::Probe).unwrap();
        assert_eq!(pipe.lock().items.len(), 5);
    }

    #[test]
    fn no_message_comes_behind_a_goodbye() {
        let ip = IpAddr::from([10, 0, 0, 1]);
        let faults = Arc::new(FaultTable::new(1));
        let pipe = Pipe::new(faults, &MemoryConfig::default(), ip, ip);
        assert!(pipe.try_send(&Bytes::new()).unwrap());
        pipe.push(Item::Goodbye(CloseCode::RENEWED)).unwrap();
        assert!(!pipe.try_send(&Bytes::new()).unwrap());
        assert_eq!(pipe.lock().items.len(), 2);
        // Nor is its sender told that the connection is lost: the other end has received the goodbye.
        pipe.abandon();
        assert!(!pipe.try_send(&Bytes::new()).unwrap());
    }
}
