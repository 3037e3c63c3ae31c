//! Readers whose messages have no room, and the lines in which they wait.

use super::*;

/// An inbox under `Backpressure` with a reader of peer 1 and one of peer 2 that wait.
struct Readers {
    fixture: Fixture<u8>,
    places: [ReaderPlace; 2],
    wakers: [Waker; 2],
}

impl Readers {
    /// `queued` messages of peer 1 fill the inbox for the peers `from`.
    fn new(config: IncomingConfig, queued: u8, from: [u8; 2]) -> Self {
        let config = config.with_overflow(OverflowPolicy::Backpressure);
        let mut readers = Self {
            fixture: Fixture::new(config),
            places: Default::default(),
            wakers: [waker(), waker()],
        };
        readers.fixture.push(1, (0..queued).map(|n| (n, 1)));
        for (index, from) in from.into_iter().enumerate() {
            assert!(!readers.push(index, from, &mut Vec::new()));
        }
        readers
    }

    /// The reader looks for room again. Returns whether it has found some.
    fn push(&mut self, reader: usize, from: u8, woken: &mut Vec<Waker>) -> bool {
        let (place, waker) = (&mut self.places[reader], &self.wakers[reader]);
        let pushed =
            self.fixture
                .inbox
                .push_or_wait(source(peer(from)), (99, 1), place, waker, woken);
        assert_eq!(place.is_taken(), pushed.is_err());
        pushed.is_ok()
    }
}

#[test]
fn the_first_reader_in_line_is_woken_when_there_is_room() {
    type Act = fn(&mut Readers, &mut Vec<Waker>);
    let by_peer = || IncomingConfig::default().with_max_messages_per_peer(32);
    let in_all = || IncomingConfig::default().with_max_messages(32);
    fn take(readers: &mut Readers, woken: &mut Vec<Waker>) {
        let fixture = &mut readers.fixture;
        fixture.inbox.take(&mut fixture.in_hand, false, woken);
    }
    fn settle(readers: &mut Readers, woken: &mut Vec<Waker>) {
        take(readers, woken);
        woken.clear();
        while readers.fixture.in_hand.pop().is_some() {}
        readers.fixture.inbox.settle(woken);
    }
    fn served(readers: &mut Readers, woken: &mut Vec<Waker>) {
        settle(readers, woken);
        woken.clear();
        assert!(readers.push(0, 1, woken));
    }
    fn leave(readers: &mut Readers, woken: &mut Vec<Waker>) {
        let place = &mut readers.places[0];
        readers.fixture.inbox.leave(peer(1), place, woken);
    }
    let cases: [(&str, IncomingConfig, [u8; 2], Act, usize); 8] = [
        (
            "a message of the peer was taken",
            by_peer(),
            [1, 1],
            take,
            0,
        ),
        ("a message was taken", in_all(), [1, 2], take, 0),
        (
            "the hand of a receiver is empty",
            by_peer(),
            [1, 1],
            settle,
            0,
        ),
        ("the hand is empty", in_all(), [1, 2], settle, 0),
        ("the first was served", by_peer(), [1, 1], served, 1),
        ("the first was served, in all", in_all(), [1, 2], served, 1),
        ("the first has left", by_peer(), [1, 1], leave, 1),
        ("the first has left, in all", in_all(), [1, 2], leave, 1),
    ];
    for (what, config, from, act, expected) in cases {
        let mut readers = Readers::new(config, 32, from);
        let mut woken = Vec::new();
        act(&mut readers, &mut woken);
        let is_woken = |waker: &Waker| woken.iter().any(|one| one.will_wake(waker));
        assert!(is_woken(&readers.wakers[expected]), "{what}");
        assert!(!is_woken(&readers.wakers[1 - expected]), "{what}");
    }
}

#[test]
fn a_message_that_has_waited_for_room_wakes_a_receiver() {
    let config = IncomingConfig::default().with_max_messages_per_peer(1);
    let mut readers = Readers::new(config, 1, [1, 1]);
    let (mut ticket, receiver) = (None, waker());
    readers.fixture.inbox.receivers.join(&mut ticket, &receiver);
    readers.fixture.recv().unwrap();
    let mut woken = Vec::new();
    assert!(readers.push(0, 1, &mut woken));
    assert!(woken.iter().any(|one| one.will_wake(&receiver)));
    // And so does the end.
    woken.clear();
    readers.fixture.inbox.close(&mut woken);
    assert!(woken.iter().any(|one| one.will_wake(&receiver)));
}

#[test]
fn messages_do_not_overtake_a_reader_that_waits_for_the_whole_inbox() {
    let config = IncomingConfig::default().with_max_messages(16);
    let mut readers = Readers::new(config, 16, [1, 2]);
    readers.fixture.recv().unwrap();
    for from in [1, 2, 3] {
        assert_eq!(readers.fixture.push(from, [(0, 1)]), 1, "from {from}");
    }
    let woken = &mut Vec::new();
    assert!(!readers.push(1, 2, woken));
    assert!(readers.push(0, 1, woken));
}

#[test]
fn a_reader_waits_in_one_line_only() {
    let config = IncomingConfig::default()
        .with_max_messages_per_peer(1)
        .with_max_messages(2);
    let mut readers = Readers::new(config, 1, [1, 1]);
    readers.fixture.recv().unwrap();
    readers.fixture.push(2, [(0, 1)]);
    readers.fixture.push(3, [(0, 1)]);
    // Its peer has room, and the inbox has none.
    assert!(!readers.push(0, 1, &mut Vec::new()));
    let inbox = &readers.fixture.inbox;
    assert_eq!(inbox.readers.len(), 1);
    assert_eq!(inbox.peers[&peer(1)].readers.len(), 1);
    // Nothing is kept for an unknown peer once its readers have left.
    for place in &mut readers.places {
        let inbox = &mut readers.fixture.inbox;
        inbox.leave(peer(1), place, &mut Vec::new());
    }
    let inbox = &readers.fixture.inbox;
    assert!(inbox.readers.is_empty() && !inbox.peers.contains_key(&peer(1)));
}
