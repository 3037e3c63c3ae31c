//! Two ends with random users, delays and reads.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What the users of both ends know of one direction of a channel.
#[derive(Debug, Default)]
struct Stream {
    /// The length and first byte of each frame that was queued.
    queued: Vec<(usize, u8)>,
    /// How many of them have been taken, in order.
    taken: usize,
    /// Whether the sender has finished it, instead of ending it at once.
    is_finished: bool,
}

/// One end and its user.
#[derive(Debug)]
struct User {
    end: End,
    /// The channels that it has asked for or was asked for.
    known: Vec<ChannelNumber>,
    ends: BTreeMap<ChannelNumber, ChannelEnd>,
    /// What it sends on each channel.
    streams: BTreeMap<ChannelNumber, Stream>,
    /// The channels that it has ended at once, or refused.
    aborted: Vec<ChannelNumber>,
}

impl User {
    fn new(side: Side, config: &ChannelConfig) -> Self {
        Self {
            end: End::new(side, config),
            known: Vec::new(),
            ends: BTreeMap::new(),
            streams: BTreeMap::new(),
            aborted: Vec::new(),
        }
    }

    /// Returns one of the channels that are not over.
    fn pick(&self, choice: usize) -> Option<ChannelNumber> {
        let live = &self.end.channels.entries;
        live.keys().nth(choice % live.len().max(1)).copied()
    }

    fn note_events(&mut self) {
        check(&self.end.channels);
        for event in self.end.events() {
            match event {
                ChannelEvent::Requested { number, .. } => self.known.push(number),
                ChannelEvent::Ended { number, end } => {
                    assert!(self.known.contains(&number));
                    assert!(
                        self.ends.insert(number, end).is_none(),
                        "{number} ended twice"
                    );
                }
                ChannelEvent::Opened { number, .. }
                | ChannelEvent::Readable { number }
                | ChannelEvent::Writable { number } => {
                    assert!(!self.ends.contains_key(&number), "an event after the end");
                }
            }
        }
    }

    fn send(&mut self, number: ChannelNumber, len: usize) {
        let queued = self.streams.get(&number).map(|stream| stream.queued.len());
        let byte = queued.unwrap_or_default() as u8;
        let can_send = self.end.channels.can_send(number, len);
        let sent = self.end.channels.send(number, frame(len, byte));
        assert_eq!(sent.is_ok(), can_send);
        if can_send {
            let stream = self.streams.entry(number).or_default();
            stream.queued.push((len, byte));
        }
    }

    fn finish(&mut self, number: ChannelNumber) {
        let is_open = self.end.channels.entries.get(&number);
        if is_open.is_some_and(|entry| entry.may_send()) {
            self.streams.entry(number).or_default().is_finished = true;
            self.end.channels.finish(number, ChannelCode(300));
        }
    }

    fn abort(&mut self, number: ChannelNumber) {
        self.end.channels.abort(number, ChannelCode(301));
        self.aborted.push(number);
    }

    /// Takes a frame and compares it with what the peer has sent.
    fn take(&mut self, number: ChannelNumber, peer: &mut Self) -> bool {
        let next = self.end.channels.next_len(number);
        let Some(frame) = self.end.channels.receive(number) else {
            assert_eq!(next, None);
            return false;
        };
        assert_eq!(next, Some(frame.len()));
        let stream = peer.streams.get_mut(&number).unwrap();
        let (len, byte) = stream.queued[stream.taken];
        assert_eq!(frame.len(), len);
        assert!(frame.iter().all(|found| *found == byte), "another frame");
        stream.taken += 1;
        true
    }

    /// Does one thing that a user or a carrier can do.
    fn step(&mut self, peer: &mut Self, action: u8, choice: usize) {
        let number = self.pick(choice / 64);
        let burst = 1 + choice % 8;
        match (action, number) {
            (0, _) => self.known.extend(self.end.channels.open(Bytes::new())),
            (1, Some(number)) if choice.is_multiple_of(16) => {
                self.end.channels.refuse(number, ChannelCode(302));
            }
            (1 | 2, Some(number)) => drop(self.end.channels.accept(number, Bytes::new())),
            (3, Some(number)) => self.send(number, choice % 100),
            (4..=6, Some(number)) => {
                for _ in 0..burst {
                    self.send(number, MAX_FRAME_LEN - choice % 100);
                }
            }
            (7 | 8, Some(number)) => {
                for _ in 0..burst {
                    self.take(number, peer);
                }
            }
            (9, Some(number)) if choice.is_multiple_of(16) => self.finish(number),
            (9, Some(number)) if choice % 32 == 1 => self.abort(number),
            (9..=12, _) => {
                for _ in 0..burst {
                    self.end.write();
                }
            }
            _ => {
                for _ in 0..burst {
                    if let Some(item) = peer.end.written.pop_front() {
                        self.end.arrive(item).unwrap();
                    }
                }
            }
        }
        self.note_events();
    }

    /// Answers and reads everything, and passes on what is written. Returns whether anything has happened.
    fn drain(&mut self, peer: &mut Self) -> bool {
        let mut progress = false;
        for number in self.known.clone() {
            let _ = self.end.channels.accept(number, Bytes::new());
            while self.take(number, peer) {
                progress = true;
            }
        }
        while self.end.channels.next_turn(false).is_some_and(|turn| {
            self.end.written.push_back(match turn {
                Turn::Zero => Item::Zero,
                Turn::Control(messages) => Item::Control(messages),
                Turn::Frame { number, frame } => Item::Frame(number, frame),
            });
            true
        }) {}
        while let Some(item) = self.end.written.pop_front() {
            progress = true;
            peer.end.arrive(item).unwrap();
        }
        self.note_events();
        peer.note_events();
        progress
    }

    /// Checks the channels when nothing is left to do.
    fn check_ends(&self, peer: &Self) {
        let stats = self.end.channels.stats();
        assert_eq!((stats.unsent_now, stats.unread_now), (0, 0), "not drained");
        assert_eq!(stats.overruns + stats.early + stats.violations, 0);
        for (number, stream) in &self.streams {
            let (ours, theirs) = (self.ends.get(number), peer.ends.get(number));
            assert_eq!(ours.is_some(), theirs.is_some(), "one end does not know");
            let is_whole = stream.taken == stream.queued.len();
            assert!(is_whole || ours.is_some(), "lost without a reason");
            let peer_ends = peer.aborted.contains(number)
                || peer
                    .streams
                    .get(number)
                    .is_some_and(|stream| stream.is_finished);
            if stream.is_finished && !self.aborted.contains(number) && !peer_ends {
                assert!(is_whole, "lost though it was finished");
            }
        }
        for (number, end) in &self.ends {
            assert!(
                !self.end.channels.entries.contains_key(number),
                "{number} is left"
            );
            // No room at the peer, which therefore has not heard of it.
            let no_room = ChannelEnd::Refused(ChannelCode::NO_ROOM);
            let is_known = peer.ends.contains_key(number);
            let is_silent = !peer.known.contains(number);
            assert!(is_known || is_silent, "{number}");
            assert!(
                is_known || *end == no_room || self.aborted.contains(number),
                "{end}"
            );
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<(bool, u8, usize)>> {
    prop::collection::vec((any::<bool>(), 0_u8..17, 0_usize..4096), 1..1500)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_frame_arrives_in_order_or_its_channel_ends_for_a_reason_at_both_ends(
        steps in steps(),
        has_little_room: bool,
    ) {
        let config = if has_little_room {
            ChannelConfig::default()
                .with_max_channels(4)
                .with_max_window(3 * SMALLEST_WINDOW)
                .with_max_unread_bytes(6 * SMALLEST_WINDOW)
                .with_max_unsent_bytes(7 * MAX_COST as usize)
        } else {
            ChannelConfig::default().with_max_channels(8)
        };
        let mut dialler = User::new(Side::Dialler, &config);
        let mut acceptor = User::new(Side::Acceptor, &config);
        for (is_dialler, action, choice) in steps {
            if is_dialler {
                dialler.step(&mut acceptor, action, choice);
            } else {
                acceptor.step(&mut dialler, action, choice);
            }
        }
        let mut rounds = 0;
        while dialler.drain(&mut acceptor) | acceptor.drain(&mut dialler) {
            rounds += 1;
            prop_assert!(rounds < 10_000, "the ends never stop");
        }
        dialler.check_ends(&acceptor);
        acceptor.check_ends(&dialler);
        // What is left is open at both ends, and still works.
        for number in dialler.end.channels.entries.keys() {
            prop_assert!(acceptor.end.channels.entries.contains_key(number));
        }
        prop_assert_eq!(dialler.end.channels.len(), acceptor.end.channels.len());
    }
}
