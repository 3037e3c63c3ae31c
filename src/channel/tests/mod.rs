//! Two ends of a carrier in memory, and what must hold for each of them at any time.

mod crowd;
mod hostile;
mod life;
mod random;
mod splice;

use std::collections::VecDeque;

use bytes::Bytes;

use super::config::MAX_COST;
use super::entry::Entry;
use super::*;

/// What travels on a carrier.
#[derive(Debug)]
enum Item {
    Zero,
    Control(Bytes),
    Frame(ChannelNumber, Bytes),
}

/// One end, and what it has written that has not arrived yet.
#[derive(Debug)]
struct End {
    channels: Channels,
    written: VecDeque<Item>,
}

impl End {
    fn new(side: Side, config: &ChannelConfig) -> Self {
        config.validate().unwrap();
        Self {
            channels: Channels::new(side, config.clone(), config.max_channels),
            written: VecDeque::new(),
        }
    }

    /// Writes the next record or frame. Returns whether there was one.
    fn write(&mut self) -> bool {
        let turn = self.channels.next_turn(false);
        check(&self.channels);
        self.written.extend(turn.map(|turn| match turn {
            Turn::Zero => Item::Zero,
            Turn::Control(messages) => Item::Control(messages),
            Turn::Frame { number, frame } => Item::Frame(number, frame),
        }));
        !self.written.is_empty()
    }

    fn arrive(&mut self, item: Item) -> Result<(), Violation> {
        let arrived = match item {
            Item::Zero => Ok(()),
            Item::Control(messages) => self.channels.on_control(&messages),
            Item::Frame(number, frame) => self.channels.on_frame(number.get(), frame),
        };
        check(&self.channels);
        arrived
    }

    fn events(&mut self) -> Vec<ChannelEvent> {
        std::iter::from_fn(|| self.channels.next_event()).collect()
    }

    fn take_all(&mut self, number: ChannelNumber) -> Vec<Bytes> {
        std::iter::from_fn(|| self.channels.receive(number)).collect()
    }

    /// Asserts that the only event is the end of the channel, for this reason.
    fn assert_ended(&mut self, number: ChannelNumber, end: ChannelEnd) {
        assert_eq!(self.events(), [ChannelEvent::Ended { number, end }]);
    }
}

/// The two ends of a carrier.
struct Pair {
    dialler: End,
    acceptor: End,
}

impl Pair {
    fn new(config: &ChannelConfig) -> Self {
        Self {
            dialler: End::new(Side::Dialler, config),
            acceptor: End::new(Side::Acceptor, config),
        }
    }

    /// Lets both ends write and read until nothing is left.
    fn run(&mut self) {
        let mut steps = 0;
        loop {
            let wrote = self.dialler.write() | self.acceptor.write();
            if !wrote {
                return;
            }
            while let Some(item) = self.dialler.written.pop_front() {
                self.acceptor.arrive(item).unwrap();
            }
            while let Some(item) = self.acceptor.written.pop_front() {
                self.dialler.arrive(item).unwrap();
            }
            steps += 1;
            assert!(steps < 1_000_000, "the ends never stop writing");
        }
    }

    /// Opens a channel from the dialler. Events before are dropped.
    fn open(&mut self) -> ChannelNumber {
        let number = self.dialler.channels.open(Bytes::new()).unwrap();
        self.run();
        self.acceptor.channels.accept(number, Bytes::new()).unwrap();
        self.run();
        self.dialler.events();
        self.acceptor.events();
        number
    }
}

fn number(number: u32) -> ChannelNumber {
    ChannelNumber(number)
}

fn frame(len: usize, byte: u8) -> Bytes {
    vec![byte; len].into()
}

/// Checks what holds in every state: memory is within the limits, the pools hold what the channels have taken, and the
/// counters add up.
fn check(channels: &Channels) {
    let (config, stats) = (&channels.config, channels.stats());
    let sum = |of: fn(&Entry) -> usize| channels.entries.values().map(of).sum::<usize>();
    let unread = sum(|entry| entry.incoming.held());
    let unsent = sum(|entry| entry.outgoing.held());
    assert!(unread <= channels.common.unread.taken());
    assert!(channels.common.unread.taken() <= config.max_unread_bytes);
    assert!(unsent <= channels.common.unsent.taken());
    assert!(channels.common.unsent.taken() <= config.max_unsent_bytes);
    let mut reserved = 0;
    let mut windows = 0;
    for entry in channels.entries.values() {
        assert!(entry.incoming.held() <= config.max_window);
        assert!(entry.outgoing.held() <= config.max_unsent_per_channel);
        if entry.has_ended_here() {
            assert_eq!(entry.incoming.held() + entry.outgoing.held(), 0);
        } else {
            reserved += entry.outgoing.held().max(MAX_COST as usize);
            windows += entry.incoming.window() as usize;
        }
    }
    assert_eq!(channels.common.unsent.taken(), reserved);
    assert_eq!(channels.common.unread.taken(), windows);
    assert!(channels.theirs <= config.max_channels);
    if !channels.has_ended {
        assert_eq!(channels.ours + channels.theirs, channels.len());
    }
    assert_eq!(
        stats.frames_queued,
        stats.frames_sent + stats.unsent_dropped + stats.unsent_now
    );
    assert_eq!(
        stats.frames_received,
        stats.frames_taken
            + stats.unread_dropped
            + stats.late_dropped
            + stats.breach_dropped
            + stats.unread_now
    );
    assert!(channels.turns.len() <= channels.len());
    assert!(channels.common.control.len() <= channels.len() + stats.violations as usize);
}
