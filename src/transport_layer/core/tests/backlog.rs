//! Queues that are full together.

use super::*;
use crate::transport_layer::OverflowPolicy;
use crate::transport_layer::core::SenderPlace;

const KIB: usize = 1 << 10;

fn fixture(overflow: OverflowPolicy, most: usize) -> Fixture {
    let mut config = TransportLayerConfig::default()
        .with_max_outgoing_bytes(most)
        .with_max_connections(15)
        .with_max_peers(16);
    config.outgoing.overflow = overflow;
    Fixture::new(config)
}

impl Fixture {
    /// Offers a message of `len` bytes that begins with `n`. Returns whether it was queued or dropped.
    fn offer_long(&mut self, to: SocketAddr, n: u8, len: usize) -> bool {
        let (mut bytes, now) = (vec![0; len], self.now);
        bytes[0] = n;
        let offered = self.peers.offer(to, bytes.into(), || now, &mut self.fx);
        self.peers.assert_named_consistently();
        match offered {
            Offered::Done => true,
            Offered::Full(_) => false,
            other => panic!("{other:?}"),
        }
    }

    fn lost(&self, to: SocketAddr) -> u64 {
        self.peer(to).dropped.count(DropReason::TotalOverflow)
    }

    /// Connects a peer and returns the first bytes of the messages that are then written.
    fn first_bytes(&mut self, to: SocketAddr) -> Vec<u8> {
        self.accept(to, 9);
        assert!(matches!(self.step(to), Step::Write { .. }));
        self.batch.iter().map(|message| message[0]).collect()
    }
}

#[test]
fn the_peer_with_the_most_bytes_loses_messages_when_all_queues_together_are_full() {
    use OverflowPolicy::{DropNewest, DropOldest};
    type Offers<'a> = &'a [(u8, u8, usize)];
    type Loser<'a> = Option<(u8, &'a [u8])>;
    // What was offered (peer, messages, bytes of each), the peer that loses messages to the last one, and
    // the messages that it keeps.
    let cases: [(&str, OverflowPolicy, Offers, Loser); 7] = [
        (
            "a full bound",
            DropOldest,
            &[(1, 6, 100), (2, 4, 100)],
            None,
        ),
        (
            "another peer has more",
            DropOldest,
            &[(1, 8, 100), (2, 2, 100), (2, 1, 1)],
            Some((1, &[2, 3, 4, 5, 6, 7])),
        ),
        (
            "another peer has more, and keeps its oldest",
            DropNewest,
            &[(1, 8, 100), (2, 2, 100), (2, 1, 1)],
            Some((1, &[0, 1, 2, 3, 4, 5])),
        ),
        (
            "another peer has more messages, but fewer bytes",
            DropOldest,
            &[(1, 30, 10), (2, 7, 100), (3, 1, 1)],
            Some((2, &[2, 3, 4, 5, 6])),
        ),
        (
            "the newcomer has the most",
            DropOldest,
            &[(1, 4, 100), (2, 6, 100), (2, 1, 50)],
            Some((2, &[2, 3, 4, 5, 0])),
        ),
        (
            "the newcomer has the most, and keeps its oldest",
            DropNewest,
            &[(1, 4, 100), (2, 6, 100), (2, 1, 200)],
            Some((2, &[0, 1, 2, 3, 4, 5])),
        ),
        (
            "the newcomer has as much as another",
            DropOldest,
            &[(1, 5, 100), (3, 1, 50), (2, 4, 100), (2, 1, 100)],
            Some((2, &[2, 3, 0])),
        ),
    ];
    for (what, overflow, offers, loser) in cases {
        let mut fixture = fixture(overflow, 1000);
        for (index, (to, count, len)) in offers.iter().enumerate() {
            for n in 0..*count {
                assert!(fixture.offer_long(addr(*to), n, *len), "{what}");
            }
            let losers: Vec<_> = offers[..=index].iter().map(|(to, ..)| *to).collect();
            let lost = |n: &u8| fixture.lost(addr(*n)) > 0;
            let losers: Vec<_> = losers.into_iter().filter(lost).collect();
            let is_last = index + 1 == offers.len();
            match loser.filter(|_| is_last) {
                Some((loser, _)) => assert!(losers.iter().all(|n| *n == loser), "{what}"),
                None => assert!(losers.is_empty(), "{what}"),
            }
        }
        if let Some((loser, kept)) = loser {
            assert_eq!(fixture.first_bytes(addr(loser)), kept, "{what}");
        }
        for peer in fixture.stats().peers.values() {
            let sum = peer.sent + peer.queued + peer.dropped.total();
            assert_eq!(peer.submitted, sum, "{what}");
        }
    }
}

#[test]
fn stalled_peers_that_have_filled_everything_do_not_keep_another_from_sending() {
    for overflow in [
        OverflowPolicy::DropOldest,
        OverflowPolicy::DropNewest,
        OverflowPolicy::Backpressure,
    ] {
        let mut fixture = fixture(overflow, 1024 * KIB);
        for stalled in 1..=14 {
            for n in 0..200 {
                fixture.offer_long(addr(stalled), n, KIB);
            }
        }
        // Each peer has a share of 16 KiB.
        for n in 0..16 {
            assert!(fixture.offer_long(addr(15), n, KIB), "{overflow:?}");
        }
        assert_eq!(fixture.peer(addr(15)).dropped.total(), 0);
        let first = fixture.first_bytes(addr(15));
        assert_eq!(first, Vec::from_iter(0..16), "{overflow:?}");
        let queued: u64 = fixture
            .stats()
            .peers
            .values()
            .map(|peer| peer.queued_bytes)
            .sum();
        assert!(queued > 512 << 10 && queued <= 1024 << 10, "{queued}");
    }
}

#[test]
fn what_the_network_has_not_taken_counts_again_and_costs_the_peer_with_the_most() {
    let mut fixture = fixture(OverflowPolicy::DropOldest, 1000);
    let link = fixture.accept(addr(1), 1);
    for n in 0..9 {
        assert!(fixture.offer_long(addr(1), n, 100));
    }
    let key = fixture.key(addr(1));
    let step = fixture.step(addr(1));
    assert!(matches!(step, Step::Write { bytes: 900, .. }));
    for n in 0..9 {
        assert!(fixture.offer_long(addr(2), n, 100));
    }
    // Nothing was dropped yet, since the network is taking the batch. It comes back.
    assert_eq!(fixture.lost(addr(2)), 0);
    let (mut batch, write) = (
        std::mem::take(&mut fixture.batch),
        (key, link, Writer::Task),
    );
    let (now, fx) = (fixture.now, &mut fixture.fx);
    fixture.peers.written(write, &mut batch, false, now, fx);
    fixture.peers.assert_named_consistently();
    assert!(fixture.lost(addr(1)) > 0);
    let queued: u64 = fixture
        .stats()
        .peers
        .values()
        .map(|peer| peer.queued_bytes)
        .sum();
    assert!(queued <= 1000, "{queued}");
}

/// A sender that waits in line.
struct Sender {
    place: SenderPlace,
    waker: Waker,
}

impl Sender {
    fn new(to: SocketAddr) -> Self {
        struct Idle;
        impl std::task::Wake for Idle {
            fn wake(self: Arc<Self>) {}
        }
        Self {
            place: SenderPlace::new(to),
            waker: Arc::new(Idle).into(),
        }
    }

    /// Offers a message of `len` bytes again. Returns whether there was room.
    fn offer(&mut self, fixture: &mut Fixture, len: usize) -> bool {
        let (place, now, fx) = (&mut self.place, fixture.now, &mut fixture.fx);
        let bytes = vec![0; len].into();
        let offered = fixture
            .peers
            .offer_again(bytes, place, now, &self.waker, fx);
        fixture.peers.assert_named_consistently();
        matches!(offered, Offered::Done)
    }

    fn is_woken(&self, fixture: &mut Fixture) -> bool {
        let mut wakers = fixture.fx.wakers.drain(..);
        wakers.any(|waker| waker.will_wake(&self.waker))
    }
}

#[test]
fn a_sender_that_waits_for_the_queues_of_others_is_woken_when_they_are_emptied() {
    type Empty = fn(&mut Fixture);
    let ways: [(&str, Empty); 3] = [
        ("a batch", |fixture| {
            fixture.accept(addr(1), 1);
            assert!(matches!(fixture.step(addr(1)), Step::Write { .. }));
        }),
        ("messages have expired", |fixture| {
            fixture.now += secs(31);
            fixture.step(addr(1));
        }),
        ("a dial that cannot help", |fixture| {
            assert!(matches!(fixture.step(addr(1)), Step::Dial(_)));
            fixture.fail_dial_with(ConnectError::NotDialable { addr: addr(1) }, addr(1));
        }),
    ];
    for (what, empty) in ways {
        let mut fixture = fixture(OverflowPolicy::Backpressure, 1024 * KIB);
        for n in 0..40 {
            assert!(fixture.offer_long(addr(1), n, 10 * KIB));
        }
        assert!(fixture.offer_long(addr(2), 0, KIB));
        // One more would be more than half for a peer that has more than 256 KiB.
        for n in 0..25 {
            assert!(fixture.offer_long(addr(2), n, 10 * KIB));
        }
        let mut sender = Sender::new(addr(2));
        assert!(!sender.offer(&mut fixture, 16 * KIB), "{what}");
        assert!(!sender.is_woken(&mut fixture), "{what}");
        // One that is too long does not wait.
        assert!(fixture.offer_long(addr(2), 0, 17 * KIB), "{what}");
        empty(&mut fixture);
        assert!(sender.is_woken(&mut fixture), "{what}");
        assert!(sender.offer(&mut fixture, 16 * KIB), "{what}");
    }
}
