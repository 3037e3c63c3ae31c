//! Peers without a proved identity beside others: what they may have, what they lose, and when they wait.

use super::*;
use crate::transport_layer::core::pool::Pool::{Proved, Unproved};

/// The pool and the number of a peer, its messages, and the bytes of each.
type Pushed = (Pool, u8, usize, usize);

#[test]
fn an_unproved_peer_evicts_only_its_like_and_a_proved_one_evicts_those_first() {
    let config = IncomingConfig::default();
    let messages = || config.clone().with_max_messages(10);
    let bytes = || config.clone().with_max_bytes(100);
    // What was pushed, and the peer that loses messages to the last one.
    let cases: [(&str, IncomingConfig, &[Pushed], Option<u8>); 12] = [
        (
            "half of the messages, although a proved peer has more",
            config.clone().with_max_messages(20),
            &[
                (Proved, 1, 8, 1),
                (Unproved, 2, 6, 1),
                (Unproved, 3, 4, 1),
                (Unproved, 3, 1, 1),
            ],
            Some(2),
        ),
        (
            "half of the bytes, although a proved peer has more",
            config.clone().with_max_bytes(200),
            &[
                (Proved, 1, 1, 90),
                (Unproved, 2, 1, 60),
                (Unproved, 3, 1, 40),
                (Unproved, 3, 1, 1),
            ],
            Some(2),
        ),
        (
            "as many messages as another unproved peer",
            messages(),
            &[
                (Unproved, 2, 3, 1),
                (Unproved, 3, 2, 1),
                (Unproved, 3, 1, 1),
            ],
            Some(3),
        ),
        (
            "just half, and room for the others",
            messages(),
            &[(Unproved, 2, 5, 1), (Proved, 1, 4, 1), (Proved, 1, 1, 1)],
            None,
        ),
        (
            "the whole inbox for proved peers alone",
            messages(),
            &[(Proved, 1, 5, 1), (Proved, 2, 4, 1), (Proved, 2, 1, 1)],
            None,
        ),
        (
            "proved peers have filled the messages",
            messages(),
            &[(Proved, 1, 10, 1), (Unproved, 2, 1, 1)],
            Some(2),
        ),
        (
            "proved peers have filled the bytes",
            bytes(),
            &[(Proved, 1, 10, 10), (Unproved, 2, 1, 1)],
            Some(2),
        ),
        (
            "a proved newcomer, which has the most messages",
            messages(),
            &[(Proved, 1, 8, 1), (Unproved, 2, 2, 1), (Proved, 1, 1, 1)],
            Some(2),
        ),
        (
            "a proved newcomer, which has the most bytes",
            bytes(),
            &[(Proved, 1, 1, 90), (Unproved, 2, 2, 5), (Proved, 1, 1, 1)],
            Some(2),
        ),
        (
            "a proved newcomer, and no unproved messages",
            messages(),
            &[(Proved, 1, 8, 1), (Proved, 2, 2, 1), (Proved, 2, 1, 1)],
            Some(1),
        ),
        (
            "the newest, of an unproved peer",
            messages().with_overflow(OverflowPolicy::DropNewest),
            &[(Proved, 1, 1, 1), (Unproved, 2, 5, 1), (Unproved, 3, 1, 1)],
            Some(3),
        ),
        (
            "at the address of an identity that has messages",
            messages(),
            &[(Proved, 1, 1, 1), (Unproved, 1, 1, 1)],
            Some(1),
        ),
    ];
    for (what, config, pushed, loser) in cases {
        let mut fixture = Fixture::new(config);
        (1..=3).for_each(|n| fixture.inbox.remember(peer(n)));
        for (index, (pool, from, count, len)) in pushed.iter().enumerate() {
            fixture.push_of(*pool, *from, (0..*count).map(|n| (n, *len)));
            let (_, peers) = fixture.stats();
            let lost = |n: &u8| {
                peers[&peer(*n)]
                    .incoming_dropped
                    .count(DropReason::Overflow)
                    > 0
            };
            let losers: Vec<_> = (1..=3).filter(lost).collect();
            let is_last = index + 1 == pushed.len();
            let expected = loser.filter(|_| is_last);
            assert_eq!(losers, Vec::from_iter(expected), "{what}");
        }
    }
}

#[test]
fn an_unproved_message_that_is_longer_than_half_of_the_inbox_is_too_large() {
    let mut fixture = Fixture::new(IncomingConfig::default().with_max_bytes(100));
    (1..=2).for_each(|n| fixture.inbox.remember(peer(n)));
    fixture.push_of(Unproved, 1, [(0, 51), (1, 50)]);
    fixture.push_of(Proved, 2, [(2, 51)]);
    let (_, peers) = fixture.stats();
    let too_large = |n| peers[&peer(n)].incoming_dropped.count(DropReason::TooLarge);
    assert_eq!([too_large(1), too_large(2)], [1, 0]);
    // One message always fits.
    let mut fixture = Fixture::new(IncomingConfig::default().with_max_messages(1));
    fixture.push_of(Unproved, 1, [(0, 1)]);
    assert!(fixture.recv().is_some());
}

#[test]
fn an_identity_that_connects_where_unproved_messages_wait_has_all_of_the_inbox() {
    let mut fixture = Fixture::new(IncomingConfig::default().with_max_messages(10));
    fixture.inbox.remember(peer(1));
    fixture.push_of(Unproved, 1, (0..5).map(|n| (n, 1)));
    fixture.push_of(Proved, 1, (5..10).map(|n| (n, 1)));
    assert_eq!(fixture.inbox.load.unproved, Sizes::default());
    // There is room for others again, and every message is returned in order.
    assert_eq!(fixture.inbox.turns.of(Proved), [peer(1)]);
    assert!(fixture.inbox.turns.of(Unproved).is_empty());
    let received = std::iter::from_fn(|| fixture.recv()).map(|one| one.message);
    assert!(received.eq(0..10));
    // Once they have been returned, so may unproved ones.
    fixture.push_of(Unproved, 1, [(10, 1)]);
    assert_eq!(fixture.inbox.load.unproved.messages, 1);
}

#[test]
fn readers_of_the_two_kinds_do_not_wait_for_each_other() {
    let config = || {
        let config = IncomingConfig::default().with_max_messages(8);
        config.with_overflow(OverflowPolicy::Backpressure)
    };
    let wait = |fixture: &mut Fixture<u8>, pool, from, place: &mut ReaderPlace| {
        let source = source_of(pool, peer(from));
        let inbox = &mut fixture.inbox;
        inbox.push_or_wait(source, (9, 1), place, Waker::noop(), &mut Vec::new())
    };
    // The half of unproved peers is full, and one of them waits.
    let mut fixture = Fixture::new(config());
    assert_eq!(fixture.push_of(Unproved, 1, (0..5).map(|n| (n, 1))), 1);
    assert!(wait(&mut fixture, Unproved, 2, &mut ReaderPlace::default()).is_err());
    assert_eq!(fixture.push_of(Proved, 3, (0..4).map(|n| (n, 1))), 0);
    // It waits behind none of the others, and before its like.
    assert_eq!(fixture.push_of(Unproved, 4, [(0, 1)]), 1);

    // Proved peers have filled the inbox, and one of them waits for more room than there is.
    let mut fixture = Fixture::new(config().with_max_bytes(100));
    assert_eq!(fixture.push_of(Proved, 1, [(0, 60), (1, 39)]), 0);
    let (mut first, inbox) = (ReaderPlace::default(), &mut fixture.inbox);
    let wakers = &mut Vec::new();
    let source = source_of(Proved, peer(2));
    let pushed = inbox.push_or_wait(source, (2, 50), &mut first, Waker::noop(), wakers);
    assert!(pushed.is_err());
    assert_eq!(fixture.push_of(Proved, 3, [(0, 1)]), 1);
    assert_eq!(fixture.push_of(Unproved, 4, [(0, 1)]), 0);
}

#[test]
fn the_first_reader_of_each_kind_is_woken_and_that_of_the_smaller_part_first() {
    for (proved, unproved, expected) in [(3, 1, [1, 0]), (1, 3, [0, 1])] {
        let config = IncomingConfig::default().with_max_messages(8);
        let mut fixture = Fixture::new(config.with_overflow(OverflowPolicy::Backpressure));
        fixture.push_of(Proved, 1, (0..5).map(|n| (n, 1)));
        fixture.push_of(Unproved, 2, (0..3).map(|n| (n, 1)));
        let wakers = [waker(), waker()];
        let mut places = [ReaderPlace::default(), ReaderPlace::default()];
        for (index, pool) in [Proved, Unproved].into_iter().enumerate() {
            let from = source_of(pool, peer(3 + index as u8));
            let (place, waker) = (&mut places[index], &wakers[index]);
            let inbox = &mut fixture.inbox;
            let pushed = inbox.push_or_wait(from, (9, 1), place, waker, &mut Vec::new());
            assert!(pushed.is_err());
        }
        // As if readers had come and gone meanwhile.
        fixture.inbox.load.all.messages = proved + unproved;
        fixture.inbox.load.unproved.messages = unproved;
        let mut woken = Vec::new();
        fixture.inbox.wake_readers(&mut woken);
        assert_eq!(woken.len(), 2);
        for (woken, expected) in woken.iter().zip(expected) {
            assert!(woken.will_wake(&wakers[expected]), "{proved} {unproved}");
        }
        // One that leaves passes its turn on within its own line.
        let place = &mut places[1];
        woken.clear();
        fixture.inbox.leave(peer(4), place, &mut woken);
        assert!(woken.is_empty() && fixture.inbox.unproved_readers.is_empty());
        assert_eq!(fixture.inbox.readers.len(), 1);
    }
}

#[test]
fn unproved_peers_get_a_turn_each_and_together_no_more_than_the_others() {
    // The numbers of proved and unproved peers, and the turns of unproved ones among the first 40.
    for (proved, unproved, expected) in [
        (1, 40, 20),
        (10, 40, 20),
        (10, 10, 20),
        (15, 5, 10),
        (0, 9, 40),
    ] {
        let mut fixture = Fixture::new(IncomingConfig::default());
        for n in 0..proved {
            fixture.push_of(Proved, n, (0..50).map(|n| (n, 1)));
        }
        for n in 0..unproved {
            fixture.push_of(Unproved, 100 + n, (0..50).map(|n| (n, 1)));
        }
        let received = std::iter::from_fn(|| fixture.recv()).take(40);
        let of_unproved = received.filter(|one| one.identity == Identity::UNPROVED);
        assert_eq!(of_unproved.count(), expected, "{proved} and {unproved}");
    }
}
