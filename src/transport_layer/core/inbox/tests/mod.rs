mod readers;
mod unproved;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::task::Waker;

use proptest::prelude::*;

use super::{InHand, Inbox, Origin, ReaderPlace, SPARE_QUEUES, Sizes, Source};
use crate::credential::{Identity, Role};
use crate::rt::Instant;
use crate::transport_layer::core::pool::Pool;
use crate::transport_layer::received::Received;
use crate::transport_layer::{DropReason, IncomingConfig, OverflowPolicy, PeerStats};

fn peer(n: u8) -> SocketAddr {
    ([10, 0, 0, n], 7000).into()
}

fn source(from: SocketAddr) -> Source {
    source_of(Pool::Proved, from)
}

fn source_of(pool: Pool, from: SocketAddr) -> Source {
    let identity = match pool {
        Pool::Proved => Identity::from_bytes([1; 32]),
        Pool::Unproved => Identity::UNPROVED,
    };
    let role = Role::Core;
    Source {
        from,
        origin: Origin { identity, role },
        at: Instant::now(),
    }
}

/// An inbox, and a receiver that takes from it as the driver does.
struct Fixture<M> {
    inbox: Inbox<M>,
    in_hand: InHand<M>,
}

impl<M> Fixture<M> {
    fn new(config: IncomingConfig) -> Self {
        Self {
            inbox: Inbox::new(config, |_| 0),
            in_hand: InHand::default(),
        }
    }

    fn push(&mut self, from: u8, messages: impl IntoIterator<Item = (M, usize)>) -> usize {
        self.push_of(Pool::Proved, from, messages)
    }

    fn push_of(
        &mut self,
        pool: Pool,
        from: u8,
        messages: impl IntoIterator<Item = (M, usize)>,
    ) -> usize {
        let mut messages = messages.into_iter().collect();
        let source = source_of(pool, peer(from));
        self.inbox.push_many(source, &mut messages);
        messages.len()
    }

    fn recv(&mut self) -> Option<Received<M>> {
        let wakers = &mut Vec::new();
        let Some(ready) = self.in_hand.pop() else {
            return self.inbox.take(&mut self.in_hand, false, wakers);
        };
        if self.in_hand.is_empty() {
            self.inbox.settle(wakers);
        }
        Some(ready)
    }

    fn stats(&self) -> (PeerStats, BTreeMap<SocketAddr, PeerStats>) {
        let (mut total, mut peers) = (PeerStats::default(), BTreeMap::new());
        self.inbox.stats(&self.in_hand, &mut total, &mut peers);
        (total, peers)
    }
}

#[test]
fn memory_of_a_burst_goes_to_the_next_peer_that_needs_it() {
    let mut fixture = Fixture::new(IncomingConfig::default());
    (1..=9).for_each(|n| fixture.inbox.remember(peer(n)));
    let drain = |fixture: &mut Fixture<usize>| {
        let received = std::iter::from_fn(|| fixture.recv());
        received
            .map(|one| (one.from, one.message))
            .collect::<Vec<_>>()
    };
    fixture.push(1, (0..500).map(|n| (n, 1)));
    assert_eq!(drain(&mut fixture).len(), 500);
    assert_eq!(fixture.inbox.spare.len(), 1);
    assert_eq!(fixture.inbox.peers[&peer(1)].messages.capacity(), 0);
    // A batch behind messages that wait does not replace their queue.
    fixture.push(2, (0..3).map(|n| (n, 1)));
    fixture.push(2, (3..400).map(|n| (n, 1)));
    assert_eq!(fixture.inbox.spare.len(), 1);
    fixture.push(3, (0..400).map(|n| (n, 1)));
    assert_eq!(fixture.inbox.spare.len(), 0);
    let received = drain(&mut fixture);
    for from in [peer(2), peer(3)] {
        let own = received.iter().filter(|(addr, _)| *addr == from);
        assert!(own.map(|(_, n)| *n).eq(0..400));
    }
    for n in 1..=9 {
        fixture.push(n, (0..100).map(|n| (n, 1)));
    }
    drain(&mut fixture);
    assert_eq!(fixture.inbox.spare.len(), SPARE_QUEUES);
}

#[test]
fn a_message_carries_its_sender_and_the_time_of_its_arrival() {
    let mut fixture = Fixture::new(IncomingConfig::default());
    let mut expected = Vec::new();
    let start = Instant::now();
    // Reads of two messages each, of connections from one address: some of the same identity, some at
    // the same time.
    for (n, (identity, millis)) in [(1, 0), (2, 0), (2, 1), (2, 1), (1, 2)]
        .into_iter()
        .enumerate()
    {
        let identity = Identity::from_bytes([identity; 32]);
        let origin = Origin {
            identity,
            role: Role::Core,
        };
        let at = start + std::time::Duration::from_millis(millis);
        let from = peer(1);
        let mut messages = VecDeque::from([(n, 1), (n, 1)]);
        let source = Source { from, origin, at };
        fixture.inbox.push_many(source, &mut messages);
        expected.extend([(identity, at, n), (identity, at, n)]);
    }
    let received = std::iter::from_fn(|| fixture.recv());
    let received: Vec<_> = received
        .map(|one| (one.identity, one.at, one.message))
        .collect();
    assert_eq!(received, expected);
}

#[test]
fn messages_in_hand_count_as_queued_and_against_the_bounds_until_the_last_is_returned() {
    let mut fixture = Fixture::new(IncomingConfig {
        max_messages_per_peer: 64,
        overflow: OverflowPolicy::DropNewest,
        ..IncomingConfig::default()
    });
    assert_eq!(fixture.push(1, (0..64).map(|n| (n, 1))), 0);
    // One is returned, and four (a sixteenth of the bound) are in hand.
    assert_eq!(fixture.recv().unwrap().message, 0);
    assert_eq!(fixture.in_hand.len(), 4);
    let (_, peers) = fixture.stats();
    assert_eq!(peers[&peer(1)].incoming_queued, 63);
    // There is room for the one that was returned, and for none that is in hand.
    fixture.push(1, (64..66).map(|n| (n, 1)));
    assert_eq!(fixture.stats().1[&peer(1)].incoming_dropped.total(), 1);
    for n in 1..4 {
        assert_eq!(fixture.recv().unwrap().message, n);
        let (_, peers) = fixture.stats();
        assert_eq!(peers[&peer(1)].delivered, n as u64 + 1);
        assert_eq!(peers[&peer(1)].incoming_queued, 64 - n as u64);
    }
    fixture.push(1, [(66, 1)]);
    assert_eq!(fixture.stats().1[&peer(1)].incoming_dropped.total(), 2);
    assert_eq!(fixture.recv().unwrap().message, 4);
    fixture.push(1, (67..72).map(|n| (n, 1)));
    assert_eq!(fixture.stats().1[&peer(1)].incoming_dropped.total(), 3);
}

#[test]
fn a_receiver_takes_a_part_of_the_bytes_that_a_peer_may_have() {
    let mut fixture = Fixture::new(IncomingConfig {
        max_bytes_per_peer: 160,
        ..IncomingConfig::default()
    });
    fixture.push(1, (0..64).map(|n| (n, 1)));
    fixture.recv();
    assert_eq!(fixture.in_hand.len(), 10);
}

#[test]
fn a_receiver_takes_one_message_at_a_time_while_others_wait() {
    let mut fixture = Fixture::new(IncomingConfig::default());
    fixture.push(1, (0..64).map(|n| (n, 1)));
    let taken = fixture
        .inbox
        .take(&mut fixture.in_hand, true, &mut Vec::new());
    assert_eq!(taken.unwrap().message, 0);
    assert!(fixture.in_hand.is_empty());
}

proptest! {
    #[test]
    fn received_is_delivered_and_queued_and_dropped_after_any_operation(
        (policy, scale) in (0..3, prop_oneof![Just(1_usize), Just(50)]),
        operations in proptest::collection::vec((0..9, 0..6_u8, 0..70_usize), 1..300),
    ) {
        let overflow = match policy {
            0 => OverflowPolicy::DropOldest,
            1 => OverflowPolicy::DropNewest,
            _ => OverflowPolicy::Backpressure,
        };
        // At the larger scale a receiver takes several messages at once.
        let config = IncomingConfig {
            max_messages_per_peer: 4 * scale,
            max_bytes_per_peer: 60 * scale,
            max_messages: 9 * scale,
            max_bytes: 120 * scale,
            overflow,
        };
        let mut fixture = Fixture::new(config.clone());
        let mut received = 0;
        let mut last = BTreeMap::new();
        for (index, (operation, from, len)) in operations.into_iter().enumerate() {
            match operation {
                0..=3 => {
                    // Of several at once, some may fit.
                    let count = if operation == 0 { 1 } else { 3 * scale };
                    // Peers 4 and 5 never prove an identity, and the one at 3 changes.
                    let is_proved = from < 3 || from == 3 && index % 16 < 8;
                    let pool = if is_proved { Pool::Proved } else { Pool::Unproved };
                    let left = fixture.push_of(pool, from, (0..count).map(|_| (index, len / 3)));
                    prop_assert!(left == 0 || overflow == OverflowPolicy::Backpressure);
                    received += (count - left) as u64;
                }
                4 => {
                    fixture.inbox.count_undecodable(peer(from), len);
                    received += 1;
                }
                5 => fixture.inbox.remember(peer(from)),
                6 => fixture.inbox.forget(peer(from)),
                _ => for _ in 0..=len {
                    let Some(one) = fixture.recv() else { break };
                    prop_assert!(last.insert(one.from, one.message).is_none_or(|last| last <= one.message));
                }
            }
            let (mut total, peers) = fixture.stats();
            for one in peers.values() {
                prop_assert_eq!(
                    one.received,
                    one.delivered + one.incoming_queued + one.incoming_dropped.total()
                );
                prop_assert!(one.incoming_queued <= config.max_messages_per_peer as u64);
                total.merge(one);
            }
            prop_assert_eq!(total.received, received);
            let inbox = &fixture.inbox;
            prop_assert!(total.incoming_queued <= inbox.load.all.messages as u64);
            prop_assert!(inbox.load.all.messages <= config.max_messages && inbox.load.all.bytes <= config.max_bytes);
            if fixture.in_hand.is_empty() {
                prop_assert_eq!(inbox.load.all.messages as u64, total.incoming_queued);
            }
            let unproved = inbox.load.unproved;
            prop_assert!(unproved.messages <= config.max_messages.div_ceil(2));
            prop_assert!(unproved.bytes <= config.max_bytes / 2);
            let shares = inbox.peers.values().filter(|share| share.pool == Pool::Unproved);
            let mut held = Sizes::default();
            shares.for_each(|share| held += share.held());
            prop_assert_eq!(unproved, held);
            let turns = [Pool::Proved, Pool::Unproved].map(|pool| inbox.turns.of(pool).len());
            prop_assert!(turns[0] + turns[1] <= inbox.peers.len());
            // Nothing is kept for a peer that is unknown and has nothing here.
            prop_assert!(inbox.peers.values().all(|share| share.known || !share.is_idle()));
        }
    }
}

#[test]
fn a_reader_waits_behind_those_that_came_first() {
    let mut fixture = Fixture::new(IncomingConfig {
        max_messages_per_peer: 1,
        overflow: OverflowPolicy::Backpressure,
        ..IncomingConfig::default()
    });
    fixture.push(1, [(0, 1)]);
    let (mut first, mut second) = (ReaderPlace::default(), ReaderPlace::default());
    let wakers = &mut Vec::new();
    let from = source(peer(1));
    let inbox = &mut fixture.inbox;
    for (place, message) in [(&mut first, 1), (&mut second, 2)] {
        let pushed = inbox.push_or_wait(from, (message, 1), place, Waker::noop(), wakers);
        assert_eq!(pushed, Err(message));
    }
    inbox.take(&mut fixture.in_hand, false, wakers);
    let pushed = inbox.push_or_wait(from, (2, 1), &mut second, Waker::noop(), wakers);
    assert_eq!(pushed, Err(2));
    let pushed = inbox.push_or_wait(from, (1, 1), &mut first, Waker::noop(), wakers);
    assert_eq!(pushed, Ok(()));
}

fn waker() -> Waker {
    struct Idle;
    impl std::task::Wake for Idle {
        fn wake(self: std::sync::Arc<Self>) {}
    }
    std::sync::Arc::new(Idle).into()
}

#[test]
fn the_bytes_of_one_peer_and_of_all_are_bounded() {
    let config = || IncomingConfig::default().with_overflow(OverflowPolicy::DropNewest);
    let by_peer = || config().with_max_bytes_per_peer(1600);
    let in_all = || config().with_max_bytes(1600);
    for config in [by_peer(), in_all()] {
        let mut fixture = Fixture::new(config);
        fixture.inbox.remember(peer(1));
        fixture.push(1, [(0, 1601), (1, 50), (2, 50), (3, 1500), (4, 1)]);
        let (_, peers) = fixture.stats();
        let dropped = &peers[&peer(1)].incoming_dropped;
        assert_eq!(dropped.count(DropReason::TooLarge), 1);
        assert_eq!(dropped.count(DropReason::Overflow), 1);
        // One is returned, and another one is in hand, which still counts against the bound.
        fixture.recv().unwrap();
        assert_eq!(fixture.in_hand.len(), 1);
        fixture.push(1, [(5, 51)]);
        fixture.push(1, [(6, 50)]);
        // Now none is in hand.
        fixture.recv().unwrap();
        fixture.push(1, [(7, 51)]);
        fixture.push(1, [(8, 50)]);
        let received: Vec<_> = std::iter::from_fn(|| fixture.recv())
            .map(|one| one.message)
            .collect();
        assert_eq!(received, [3, 6, 8]);
    }
}

#[test]
fn a_full_inbox_costs_the_peer_that_has_the_most_and_the_newcomer_if_it_has_as_much() {
    type Pushed = (u8, usize, usize);
    let config = IncomingConfig::default();
    // What was pushed (peer, messages, and bytes of each), and the peer that loses a message to the
    // last one.
    let cases: [(&str, IncomingConfig, &[Pushed], u8); 5] = [
        (
            "its own bound is broken",
            config.clone().with_max_messages_per_peer(3),
            &[(1, 3, 1), (2, 3, 1), (2, 1, 1)],
            2,
        ),
        (
            "its own bound is broken, and another peer has more messages",
            config.clone().with_max_bytes_per_peer(100),
            &[(1, 5, 1), (2, 1, 60), (2, 1, 60)],
            2,
        ),
        (
            "another peer has more messages",
            config.clone().with_max_messages(10),
            &[(1, 7, 1), (2, 3, 9), (2, 1, 1)],
            1,
        ),
        (
            "another peer has more bytes",
            config.clone().with_max_bytes(100),
            &[(1, 1, 80), (2, 4, 5), (2, 1, 1)],
            1,
        ),
        (
            "another peer has as many messages",
            config.with_max_messages(9),
            &[(3, 5, 1), (2, 4, 1), (2, 1, 1)],
            2,
        ),
    ];
    for (what, config, pushed, loser) in cases {
        let mut fixture = Fixture::new(config);
        (1..=3).for_each(|n| fixture.inbox.remember(peer(n)));
        let mut before = BTreeMap::new();
        for (from, count, len) in pushed {
            before = fixture.stats().1;
            fixture.push(*from, (0..*count).map(|n| (n, *len)));
        }
        let after = fixture.stats().1;
        let lost = |n: u8| {
            let dropped = |peers: &BTreeMap<_, PeerStats>| {
                peers[&peer(n)].incoming_dropped.count(DropReason::Overflow)
            };
            dropped(&after) - dropped(&before)
        };
        let losers: Vec<_> = (1..=3).filter(|n| lost(*n) > 0).collect();
        assert_eq!(losers, [loser], "{what}");
    }
}

#[test]
fn peers_take_turns_also_in_the_hand_of_a_receiver() {
    let mut fixture = Fixture::new(IncomingConfig::default());
    fixture.push(1, (0..40).map(|n| (n, 1)));
    fixture.push(2, (0..20).map(|n| (n, 1)));
    let received = std::iter::from_fn(|| fixture.recv());
    let from: Vec<_> = received.map(|one| one.from).collect();
    let expected = [peer(1), peer(2)].into_iter().cycle().take(40);
    assert!(from[..40].iter().copied().eq(expected), "{from:?}");
    assert_eq!(from.len(), 60);
    // A peer that is forgotten and comes again has one turn, as others have.
    let mut fixture = Fixture::new(IncomingConfig::default());
    fixture.push(1, [(0, 1)]);
    fixture.inbox.evict_from(peer(1));
    for from in [1, 2] {
        fixture.push(from, (0..2).map(|n| (n, 1)));
    }
    assert_eq!(fixture.inbox.turns.of(Pool::Proved), [peer(1), peer(2)]);
}

#[test]
fn messages_of_two_connections_that_arrive_at_the_same_time_keep_their_senders() {
    let mut fixture = Fixture::new(IncomingConfig::default());
    let at = Instant::now();
    for n in 1..=2_u8 {
        let origin = Origin {
            identity: Identity::from_bytes([n; 32]),
            role: Role::Core,
        };
        let from = peer(1);
        let source = Source { from, origin, at };
        let inbox = &mut fixture.inbox;
        assert!(!inbox.has_messages_of(from, origin.identity));
        inbox.push_many(source, &mut [(n, 1)].into_iter().collect());
        assert!(inbox.has_messages_of(from, origin.identity));
    }
    for n in 1..=2 {
        let received = fixture.recv().unwrap();
        assert_eq!(received.identity, Identity::from_bytes([n; 32]));
    }
}

#[test]
fn a_peer_that_has_lost_its_messages_before_its_turn_gets_a_new_turn() {
    let mut fixture = Fixture::new(IncomingConfig::default());
    fixture.inbox.remember(peer(1));
    fixture.push(1, [(0, 1)]);
    fixture.inbox.evict_from(peer(1));
    assert!(fixture.recv().is_none());
    fixture.push(1, [(1, 1)]);
    assert_eq!(fixture.recv().unwrap().message, 1);
}

#[test]
fn a_message_that_takes_more_memory_than_its_bytes_counts_with_its_memory() {
    let config = IncomingConfig::default()
        .with_max_bytes_per_peer(1_000)
        .with_max_bytes(2_000);
    let mut fixture = Fixture {
        // Each message is the memory that it takes.
        inbox: Inbox::new(config, |memory: &usize| *memory),
        in_hand: InHand::default(),
    };
    (1..=3).for_each(|n| fixture.inbox.remember(peer(n)));
    // Together and one by one: of ten messages, those that fit are kept.
    fixture.push(1, (0..3).map(|_| (300, 10)));
    (0..7).for_each(|_| assert_eq!(fixture.push(1, [(300, 10)]), 0));
    // One for which there can never be room takes that of its peer, and one that is longer than its
    // memory counts with its length.
    fixture.push(2, [(5_000, 10)]);
    fixture.push(3, [(1, 100)]);
    assert_eq!(fixture.inbox.load.all.bytes, 900 + 1_000 + 100);
    let (total, peers) = fixture.stats();
    assert_eq!((total.received, peers[&peer(1)].received_bytes), (0, 100));
    assert_eq!(peers[&peer(1)].incoming_queued, 3);
    let overflow = peers[&peer(1)].incoming_dropped.count(DropReason::Overflow);
    assert_eq!(overflow, 7);
    // The peer with the most pays for the total.
    fixture.push(3, [(1, 100)]);
    let (_, peers) = fixture.stats();
    assert_eq!(peers[&peer(2)].incoming_queued, 0);
    while fixture.recv().is_some() {}
    assert_eq!(
        (
            fixture.inbox.load.all.bytes,
            fixture.inbox.load.all.messages
        ),
        (0, 0)
    );
}

#[test]
fn the_counters_of_a_forgotten_peer_move_to_the_total_once_its_messages_are_taken() {
    let mut fixture = Fixture::new(IncomingConfig::default());
    fixture.inbox.remember(peer(1));
    fixture.push(1, [(0, 1)]);
    assert!(!fixture.inbox.is_empty());
    fixture.inbox.forget(peer(1));
    assert_eq!(fixture.stats().1[&peer(1)].received, 1);
    fixture.recv().unwrap();
    assert!(fixture.inbox.is_empty());
    let (total, peers) = fixture.stats();
    assert_eq!((total.received, total.delivered, peers.len()), (1, 1, 0));
    // One without messages is forgotten at once.
    fixture.inbox.remember(peer(2));
    assert_eq!(fixture.stats().1.len(), 1);
    fixture.inbox.forget(peer(2));
    assert_eq!(fixture.stats().1.len(), 0);
}

#[test]
fn a_message_may_have_as_many_bytes_as_a_peer_and_no_more() {
    let mut fixture = Fixture::new(IncomingConfig {
        max_bytes_per_peer: 1000,
        overflow: OverflowPolicy::DropNewest,
        ..IncomingConfig::default()
    });
    fixture.push(1, [(0, 1000), (1, 1001), (2, 1)]);
    let (_, peers) = fixture.stats();
    let dropped = &peers[&peer(1)].incoming_dropped;
    assert_eq!(dropped.count(DropReason::TooLarge), 1);
    assert_eq!(dropped.count(DropReason::Overflow), 1);
    assert_eq!(fixture.recv().unwrap().message, 0);
}

#[test]
fn messages_in_hand_are_popped_quickly_up_to_the_last_one() {
    let mut fixture = Fixture::new(IncomingConfig::default());
    fixture.push(1, (0..3).map(|n| (n, 1)));
    fixture.push(2, (3..5).map(|n| (n, 1)));
    assert_eq!(fixture.recv().unwrap().message, 0);
    let mut in_hand = std::mem::take(&mut fixture.in_hand);
    let popped: Vec<_> = std::iter::from_fn(|| in_hand.pop_unless_last()).collect();
    assert_eq!(popped, [(peer(2), 3), (peer(1), 1), (peer(2), 4)]);
    let last = in_hand.pop().unwrap();
    assert_eq!((last.from, last.message), (peer(1), 2));
    assert!(in_hand.pop().is_none());
}

#[test]
fn messages_that_are_not_handed_in_count_as_dropped_and_only_close_closes_the_inbox() {
    let mut fixture = Fixture::<u8>::new(IncomingConfig::default());
    fixture.inbox.remember(peer(1));
    fixture.inbox.count_dropped(peer(1), [3, 4].into_iter());
    let (_, peers) = fixture.stats();
    let counters = &peers[&peer(1)];
    assert_eq!(
        (counters.received, counters.incoming_dropped.total()),
        (2, 2)
    );
    assert!(!fixture.inbox.is_closed());
    fixture.inbox.close(&mut Vec::new());
    assert!(fixture.inbox.is_closed());
}
