//! The consequences of failed dials and lost connections, and callers that wait for a connection.

use std::task::{Poll, Waker};

use super::*;
use crate::transport_layer::OverflowPolicy;
use crate::transport_layer::core::SenderPlace;
use crate::transport_layer::stats::PeerState;

#[test]
fn messages_outlive_a_failed_dial_unless_no_retry_can_help() {
    let help = String::new();
    let (one, two) = (addr(1), addr(2));
    let cases = [
        (
            ConnectError::Timeout {
                addr: one,
                after: secs(1),
            },
            one,
            1,
            0,
        ),
        (ConnectError::NotPermitted { addr: two, help }, two, 0, 1),
    ];
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    for (error, addr, queued, dropped) in cases {
        fixture.offer(addr);
        fixture.step(addr);
        fixture.fail_dial_with(error, addr);
        let peer = fixture.peer(addr);
        assert_eq!(peer.queued, queued);
        assert_eq!(peer.dropped.count(DropReason::DialFailed), dropped);
    }
}

#[test]
fn a_peer_that_a_caller_waits_for_is_not_forgotten() {
    let mut config = TransportLayerConfig::default()
        .with_backoff_min(secs(1000))
        .with_backoff_max(secs(1000))
        .with_peer_linger(secs(10));
    config.outgoing.overflow = OverflowPolicy::Backpressure;
    config.outgoing.max_messages = 1;
    // One wants a connection, and the other waits for room in the queue.
    let mut fixture = Fixture::new(config);
    let mut wanted = Wanted::new(addr(1));
    let (now, fx) = (fixture.now, &mut fixture.fx);
    let poll = fixture
        .peers
        .poll_connected(&mut wanted, now, Waker::noop(), fx);
    assert!(poll.is_pending());
    fixture.offer(addr(2));
    let mut place = SenderPlace::new(addr(2));
    let (now, fx) = (fixture.now, &mut fixture.fx);
    let offered = fixture
        .peers
        .offer_again(message(), &mut place, now, Waker::noop(), fx);
    assert!(matches!(offered, Offered::Full(_)));
    for peer in [addr(1), addr(2)] {
        assert_eq!(name(&fixture.step(peer)), "dial");
        fixture.fail_dial(peer, std::io::ErrorKind::TimedOut);
    }
    fixture.now += secs(100);
    for peer in [addr(1), addr(2)] {
        assert_eq!(name(&fixture.step(peer)), "wait");
    }
    fixture.peers.stop_wanting(&mut wanted);
    fixture.peers.withdraw(&mut place, &mut fixture.fx);
    fixture.now += secs(10);
    for peer in [addr(1), addr(2)] {
        assert_eq!(name(&fixture.step(peer)), "gone");
    }
}

#[test]
fn only_a_failure_after_a_caller_came_ends_its_wait() {
    let not_permitted = || {
        let help = String::new();
        ConnectError::NotPermitted {
            addr: addr(1),
            help,
        }
    };
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let poll = |fixture: &mut Fixture, wanted: &mut Wanted| {
        let (now, fx) = (fixture.now, &mut fixture.fx);
        fixture.peers.poll_connected(wanted, now, Waker::noop(), fx)
    };
    fixture.offer(addr(1));
    fixture.step(addr(1));
    fixture.fail_dial_with(not_permitted(), addr(1));
    let mut wanted = Wanted::new(addr(1));
    assert!(poll(&mut fixture, &mut wanted).is_pending());
    assert!(wanted.cause.is_some(), "the last dial has failed");
    fixture.now += secs(1);
    assert_eq!(name(&fixture.step(addr(1))), "dial");
    fixture.fail_dial_with(not_permitted(), addr(1));
    assert!(matches!(
        poll(&mut fixture, &mut wanted),
        Poll::Ready(Err(_))
    ));
    fixture.peers.stop_wanting(&mut wanted);
    // A connection in between: the failure is over.
    let link = fixture.accept(addr(1), 1);
    fixture.lose(addr(1), link);
    let mut wanted = Wanted::new(addr(1));
    assert!(poll(&mut fixture, &mut wanted).is_pending());
    assert!(wanted.cause.is_none());
}

#[test]
fn a_dialled_connection_that_ends_at_once_counts_as_a_failed_dial() {
    struct Case {
        what: &'static str,
        direction: Direction,
        age: u64,
        heard: bool,
        end: LinkEnd,
        state: PeerState,
    }
    let fresh = Case {
        what: "the peer has accepted and hung up",
        direction: Direction::Outgoing,
        age: 1,
        heard: false,
        end: LinkEnd::Lost,
        state: PeerState::BackingOff,
    };
    let idle = PeerState::Idle;
    let cases = [
        Case {
            what: "it has sent something",
            heard: true,
            state: idle,
            ..fresh
        },
        Case {
            what: "it lived for long",
            age: 5,
            state: idle,
            ..fresh
        },
        Case {
            what: "we have closed it",
            end: LinkEnd::Local(CloseCode::IDLE),
            state: idle,
            ..fresh
        },
        Case {
            what: "its network took nothing",
            end: LinkEnd::Local(CloseCode::PROTOCOL),
            ..fresh
        },
        Case {
            what: "it has dialled us",
            direction: Direction::Incoming,
            state: idle,
            ..fresh
        },
        fresh,
    ];
    for case in cases {
        let config = TransportLayerConfig::default()
            .with_backoff_min(secs(20))
            .with_backoff_max(secs(20));
        let mut fixture = Fixture::new(config);
        let link = fixture.connect(addr(1), 1, case.direction);
        if case.heard {
            fixture.hear(addr(1), link);
        }
        fixture.now += secs(case.age);
        fixture.settle();
        let age = fixture.end(addr(1), link, case.end);
        assert_eq!(age, Some(secs(case.age)), "{}", case.what);
        assert_eq!(fixture.peer(addr(1)).state, case.state, "{}", case.what);
        let closed: Vec<_> = fixture.fx.close.iter().map(|(_, code)| *code).collect();
        let code = match case.end {
            LinkEnd::Local(code) => code,
            _ => CloseCode::NORMAL,
        };
        assert_eq!(closed, [code]);
    }
}

#[test]
fn a_connection_that_lived_for_long_makes_up_for_earlier_failures() {
    // The age of the connection in seconds, and the number of failed dials in a row after the next one.
    for (age, failures) in [(4, 5), (5, 1)] {
        let mut config = TransportLayerConfig::default()
            .with_backoff_min(secs(1))
            .with_backoff_max(secs(1000));
        config.outgoing.ttl = secs(1000);
        let mut fixture = Fixture::new(config);
        fixture.offer(addr(1));
        for _ in 0..3 {
            assert_eq!(name(&fixture.step(addr(1))), "dial");
            fixture.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
            fixture.now += secs(10);
        }
        // Nothing is received on it.
        let link = fixture.connect(addr(1), 1, Direction::Outgoing);
        fixture.now += secs(age);
        fixture.lose(addr(1), link);
        let waits = fixture.peer(addr(1)).state == PeerState::BackingOff;
        assert_eq!(waits, failures > 1);
        fixture.now += secs(20);
        assert_eq!(name(&fixture.step(addr(1))), "dial");
        fixture.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
        let (in_a_row, _) = fixture.peers.dial_failure(addr(1)).unwrap();
        assert_eq!(in_a_row, failures, "after {age} s");
    }
}

#[test]
fn a_message_from_a_peer_ends_its_backoff() {
    let config = TransportLayerConfig::default().with_max_connections(1);
    let mut fixture = Fixture::new(config);
    fixture.offer(addr(1));
    fixture.step(addr(1));
    fixture.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
    assert_eq!(fixture.peer(addr(1)).state, PeerState::BackingOff);
    let link = fixture.accept(addr(1), 1);
    fixture.hear(addr(1), link);
    fixture.accept(addr(2), 2);
    assert_eq!(fixture.connections(), [addr(2)]);
    assert_eq!(fixture.peer(addr(1)).state, PeerState::Idle);
}

#[test]
fn messages_for_a_lost_peer_that_cannot_be_dialled_are_dropped() {
    let client = id(1).address();
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let link = fixture.accept(client, 1);
    fixture.offer(client);
    fixture.offer(client);
    fixture.lose(client, link);
    fixture.step(client);
    let peer = fixture.peer(client);
    assert_eq!(peer.queued, 0);
    assert_eq!(peer.dropped.count(DropReason::Unroutable), 2);
}
