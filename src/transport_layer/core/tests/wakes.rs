//! Which tasks are woken by what. A wake-up that is missing leaves a task waiting for ever.

use std::io::ErrorKind;
use std::task::{Wake, Waker};

use super::*;
use crate::rt::sync::Ticket;
use crate::transport_layer::OverflowPolicy;
use crate::transport_layer::core::SenderPlace;
use crate::transport_layer::stats::PeerState;

/// A waker that differs from every other one.
fn waker() -> Waker {
    struct Idle;
    impl Wake for Idle {
        fn wake(self: Arc<Self>) {}
    }
    Arc::new(Idle).into()
}

fn is_woken(fixture: &Fixture, waker: &Waker) -> bool {
    fixture.fx.wakers.iter().any(|woken| woken.will_wake(waker))
}

fn offer_again(fixture: &mut Fixture, place: &mut SenderPlace, waker: &Waker) -> Offered<Conn> {
    let (now, fx) = (fixture.now, &mut fixture.fx);
    fixture.peers.offer_again(message(), place, now, waker, fx)
}

fn write(fixture: &mut Fixture, addr: SocketAddr) {
    match fixture.step(addr) {
        Step::Write { link, .. } => fixture.written(addr, link),
        step => panic!("{step:?}"),
    }
}

fn not_permitted(addr: SocketAddr) -> ConnectError {
    let help = String::new();
    ConnectError::NotPermitted { addr, help }
}

/// A full queue of two messages for peer 1, whose dial has failed.
fn full_queue() -> Fixture {
    let mut config = TransportLayerConfig::default()
        .with_max_connections(2)
        .with_max_peers(3);
    config.outgoing.overflow = OverflowPolicy::Backpressure;
    config.outgoing.max_messages = 2;
    let mut fixture = Fixture::new(config);
    fixture.offer(addr(1));
    fixture.offer(addr(1));
    assert_eq!(name(&fixture.step(addr(1))), "dial");
    fixture.fail_dial(addr(1), ErrorKind::TimedOut);
    fixture
}

#[test]
fn a_sender_that_waits_is_woken_by_all_that_ends_its_wait() {
    type Act = fn(&mut Fixture, &mut SenderPlace);
    let cases: [(&str, Act, bool); 9] = [
        ("nothing has happened", |f, _| f.now += secs(1), false),
        (
            "messages have expired",
            |f, _| {
                f.now += secs(31);
                f.step(addr(1));
            },
            true,
        ),
        (
            "a message was written",
            |f, _| {
                f.accept(addr(1), 1);
                write(f, addr(1));
            },
            true,
        ),
        (
            "no dial can succeed, so the queue was dropped",
            |f, _| {
                f.now += secs(1);
                f.step(addr(1));
                f.fail_dial_with(not_permitted(addr(1)), addr(1));
            },
            true,
        ),
        (
            "the sender before it has given up, and there is room",
            |f, first| {
                f.accept(addr(1), 1);
                write(f, addr(1));
                f.settle();
                f.peers.withdraw(first, &mut f.fx);
            },
            true,
        ),
        (
            "the sender before it was served, and there is more room",
            |f, first| {
                f.now += secs(31);
                f.step(addr(1));
                f.settle();
                let served = offer_again(f, first, &waker());
                assert!(matches!(served, Offered::Done));
            },
            true,
        ),
        (
            "the peer was forgotten",
            |f, _| {
                for other in 2..5 {
                    f.now += secs(1);
                    f.offer(addr(other));
                }
                assert!(!f.stats().peers.contains_key(&addr(1)));
            },
            true,
        ),
        (
            "the socket takes no new messages",
            |f, _| f.peers.start_draining(&mut f.fx),
            true,
        ),
        (
            "the socket was closed",
            |f, _| {
                f.peers.close(&mut f.fx);
            },
            true,
        ),
    ];
    for (what, act, expected) in cases {
        let mut fixture = full_queue();
        let (first, second) = (waker(), waker());
        let mut places = [SenderPlace::new(addr(1)), SenderPlace::new(addr(1))];
        for (place, waker) in places.iter_mut().zip([&first, &second]) {
            let offered = offer_again(&mut fixture, place, waker);
            assert!(matches!(offered, Offered::Full(_)));
        }
        fixture.settle();
        let waits_first = places[0].ticket;
        act(&mut fixture, &mut places[0]);
        let watched = if places[0].ticket == waits_first {
            &first
        } else {
            &second
        };
        assert_eq!(is_woken(&fixture, watched), expected, "{what}");
    }
}

#[test]
fn a_sender_keeps_its_turn_if_its_peer_is_forgotten_and_created_again() {
    let mut fixture = full_queue();
    let mut place = SenderPlace::new(addr(1));
    offer_again(&mut fixture, &mut place, Waker::noop());
    for other in 2..5 {
        fixture.now += secs(1);
        fixture.offer(addr(other));
    }
    fixture.offer(addr(1));
    fixture.offer(addr(1));
    // Two others wait for the new entry; the ticket of the old one must not pass for theirs.
    let mut others = [SenderPlace::new(addr(1)), SenderPlace::new(addr(1))];
    for other in &mut others {
        offer_again(&mut fixture, other, Waker::noop());
    }
    fixture.now += secs(31);
    let offered = offer_again(&mut fixture, &mut place, Waker::noop());
    assert!(matches!(offered, Offered::Full(_)));
    for other in &mut others {
        let offered = offer_again(&mut fixture, other, Waker::noop());
        assert!(matches!(offered, Offered::Done));
    }
}

#[test]
fn a_caller_that_wants_a_connection_is_woken_by_all_that_ends_its_wait() {
    type Act = fn(&mut Fixture);
    let cases: [(&str, Act); 5] = [
        ("the peer has dialled", |f| {
            f.accept(addr(1), 1);
        }),
        ("the dial has failed", |f| {
            f.fail_dial_with(not_permitted(addr(1)), addr(1));
        }),
        ("the peer was forgotten", |f| {
            f.fail_dial(addr(1), ErrorKind::TimedOut);
            for other in 2..5 {
                f.now += secs(1);
                f.offer(addr(other));
            }
            assert!(!f.stats().peers.contains_key(&addr(1)));
        }),
        ("the socket takes no new wishes", |f| {
            f.peers.start_draining(&mut f.fx);
        }),
        ("the socket was closed", |f| {
            f.peers.close(&mut f.fx);
        }),
    ];
    for (what, act) in cases {
        let config = TransportLayerConfig::default()
            .with_max_connections(2)
            .with_max_peers(3);
        let mut fixture = Fixture::new(config);
        let (mut wanted, waker) = (Wanted::new(addr(1)), waker());
        let (now, fx) = (fixture.now, &mut fixture.fx);
        let poll = fixture.peers.poll_connected(&mut wanted, now, &waker, fx);
        assert!(poll.is_pending());
        assert_eq!(name(&fixture.step(addr(1))), "dial");
        fixture.settle();
        act(&mut fixture);
        assert!(is_woken(&fixture, &waker), "{what}");
        // A caller that is gone is not woken any more, and its peer may be forgotten.
        fixture.peers.stop_wanting(&mut wanted);
        fixture.settle();
        fixture.peers.start_draining(&mut fixture.fx);
        assert!(!is_woken(&fixture, &waker), "{what}");
    }
}

#[test]
fn a_caller_whose_peer_was_forgotten_fails_unless_something_was_sent_there_since() {
    for is_known_again in [false, true] {
        let config = TransportLayerConfig::default()
            .with_max_connections(2)
            .with_max_peers(3);
        let mut f = Fixture::new(config);
        let mut wanted = Wanted::new(addr(1));
        let poll = |f: &mut Fixture, wanted: &mut Wanted| {
            let (now, fx) = (f.now, &mut f.fx);
            f.peers.poll_connected(wanted, now, Waker::noop(), fx)
        };
        assert!(poll(&mut f, &mut wanted).is_pending());
        for other in 2..5 {
            f.now += secs(1);
            f.offer(addr(other));
        }
        assert!(!f.stats().peers.contains_key(&addr(1)));
        if is_known_again {
            f.now += secs(1);
            f.offer(addr(1));
        }
        assert_eq!(poll(&mut f, &mut wanted).is_pending(), is_known_again);
    }
}

#[test]
fn a_shutdown_is_woken_when_nothing_is_left_to_send() {
    type Act = fn(&mut Fixture, &mut Ticket);
    let cases: [(&str, Act, bool); 5] = [
        (
            "the last message is being written",
            |f, _| assert_eq!(name(&f.step(addr(1))), "write"),
            false,
        ),
        (
            "the last message was written",
            |f, _| write(f, addr(1)),
            true,
        ),
        (
            "the last message has expired",
            |f, _| {
                f.now += secs(31);
                f.step(addr(1));
            },
            true,
        ),
        (
            "another call has closed the socket",
            |f, _| {
                f.peers.close(&mut f.fx);
            },
            true,
        ),
        (
            "it was cancelled",
            |f, ticket| {
                f.peers.stop_waiting_for_drain(ticket);
                f.peers.close(&mut f.fx);
            },
            false,
        ),
    ];
    for (what, act, expected) in cases {
        let mut fixture = Fixture::new(TransportLayerConfig::default());
        fixture.accept(addr(1), 1);
        fixture.offer(addr(1));
        fixture.settle();
        fixture.peers.start_draining(&mut fixture.fx);
        let (mut ticket, waker) = (None, waker());
        assert!(fixture.peers.poll_drained(&mut ticket, &waker).is_pending());
        act(&mut fixture, &mut ticket);
        assert_eq!(is_woken(&fixture, &waker), expected, "{what}");
        if ticket.is_some() {
            let poll = fixture.peers.poll_drained(&mut ticket, &waker);
            assert_eq!(poll.is_ready(), expected, "{what}");
        }
    }
}

#[test]
fn the_task_of_a_peer_is_woken_by_all_that_gives_it_work() {
    type Prepare = fn(&mut Fixture) -> Option<u64>;
    type Act = fn(&mut Fixture, Option<u64>);
    fn idle(f: &mut Fixture) -> Option<u64> {
        f.touch(addr(1)).unwrap();
        f.step(addr(1));
        None
    }
    fn dialling(f: &mut Fixture) -> Option<u64> {
        f.offer(addr(1));
        assert_eq!(name(&f.step(addr(1))), "dial");
        None
    }
    fn connected(f: &mut Fixture) -> Option<u64> {
        let link = f.accept(addr(1), 1);
        f.step(addr(1));
        f.now += secs(1);
        Some(link)
    }
    /// Reports the sender's own write of one message, of which `left` are left.
    fn report(f: &mut Fixture, link: Option<u64>, left: usize, flushed: bool) {
        assert!(matches!(f.offer(addr(1)), Offered::Write(_)));
        f.take_signal(addr(1));
        let key = f.key(addr(1));
        let mut batch: VecDeque<_> = (0..left).map(|_| message()).collect();
        let write = (key, link.unwrap(), Writer::Sender);
        let (now, fx) = (f.now, &mut f.fx);
        f.peers.written(write, &mut batch, flushed, now, fx);
    }
    fn wish(f: &mut Fixture) -> Wanted {
        let mut wanted = Wanted::new(addr(1));
        let (now, fx) = (f.now, &mut f.fx);
        let poll = f.peers.poll_connected(&mut wanted, now, Waker::noop(), fx);
        assert!(poll.is_pending());
        wanted
    }
    let cases: [(&str, Prepare, Act, bool); 14] = [
        ("nothing", idle, |_, _| {}, false),
        (
            "a message",
            idle,
            |f, _| {
                f.offer(addr(1));
            },
            true,
        ),
        ("a wish", idle, |f, _| drop(wish(f)), true),
        (
            "the end of a wish",
            idle,
            |f, _| {
                let mut wanted = wish(f);
                f.take_signal(addr(1));
                f.peers.stop_wanting(&mut wanted);
            },
            true,
        ),
        (
            "a sender that has given up",
            idle,
            |f, _| {
                f.offer(addr(1));
                f.offer(addr(1));
                let mut place = SenderPlace::new(addr(1));
                offer_again(f, &mut place, Waker::noop());
                f.take_signal(addr(1));
                f.peers.withdraw(&mut place, &mut f.fx);
            },
            true,
        ),
        (
            "a connection",
            dialling,
            |f, _| {
                f.accept(addr(1), 1);
            },
            true,
        ),
        (
            "a dial that was given up",
            dialling,
            |f, _| {
                f.now += secs(1);
                f.accept(addr(2), 2);
                f.offer(addr(2));
                f.accept(addr(3), 3);
                assert_eq!(f.peer(addr(1)).state, PeerState::BackingOff);
            },
            true,
        ),
        (
            "the loss of a connection",
            connected,
            |f, link| {
                let link = link.unwrap();
                f.lose(addr(1), link);
            },
            true,
        ),
        (
            "the eviction of a connection",
            connected,
            |f, _| {
                f.accept(addr(2), 2);
                f.accept(addr(3), 3);
            },
            true,
        ),
        (
            "a connection that is read again",
            connected,
            |f, link| {
                let (now, link) = (f.now, link.unwrap());
                f.reading(addr(1), link, Reading::Since(now));
            },
            true,
        ),
        (
            "a write of a sender that took all",
            connected,
            |f, link| report(f, link, 0, true),
            false,
        ),
        (
            "a write of a sender that is not flushed",
            connected,
            |f, link| report(f, link, 0, false),
            true,
        ),
        (
            "a write of a sender that took nothing",
            connected,
            |f, link| report(f, link, 1, true),
            true,
        ),
        (
            "the end of the entry",
            connected,
            |f, _| {
                f.peers.close(&mut f.fx);
            },
            true,
        ),
    ];
    for (what, prepare, act, expected) in cases {
        let mut config = TransportLayerConfig::default().with_max_connections(2);
        config.outgoing.overflow = OverflowPolicy::Backpressure;
        config.outgoing.max_messages = 2;
        let mut fixture = Fixture::new(config);
        let link = prepare(&mut fixture);
        fixture.take_signal(addr(1));
        act(&mut fixture, link);
        assert_eq!(fixture.take_signal(addr(1)), expected, "{what}");
    }
}
