//! Limits: which connections and peers are evicted when there are too many.

use super::*;

fn is_given_up(dial: &NewDial) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    dial.given_up.poll(&mut cx).is_ready()
}

#[test]
fn limits_hold_by_identity_then_by_host_then_in_all_and_evict_from_the_one_that_exceeds_them() {
    /// Host, port and identity of a connection that is accepted.
    type Accepted = (u8, u16, u8);
    struct Case {
        what: &'static str,
        limits: (usize, usize, usize),
        accepted: &'static [Accepted],
        evicted: &'static [(u8, u16)],
    }
    let cases = [
        Case {
            what: "one host with many identities loses its least recently used connection",
            limits: (100, 2, 100),
            accepted: &[(2, 1, 1), (1, 1, 2), (1, 2, 3), (1, 3, 4)],
            evicted: &[(1, 1)],
        },
        Case {
            what: "when all is full, the host or identity that has the most pays",
            limits: (100, 100, 4),
            accepted: &[(1, 1, 1), (2, 1, 2), (3, 1, 3), (3, 2, 4), (3, 3, 5)],
            evicted: &[(3, 1)],
        },
        Case {
            what: "when all have one, the least recently used connection goes",
            limits: (100, 100, 2),
            accepted: &[(1, 1, 1), (2, 1, 2), (3, 1, 3)],
            evicted: &[(1, 1)],
        },
        Case {
            what: "without an identity the host counts",
            limits: (2, 100, 100),
            accepted: &[(1, 1, 0), (2, 1, 0), (1, 2, 0), (1, 3, 0)],
            evicted: &[(1, 1)],
        },
        Case {
            what: "a flood of one host takes no place of another",
            limits: (2, 100, 4),
            accepted: &[
                (1, 1, 1),
                (2, 1, 2),
                (3, 1, 0),
                (3, 2, 0),
                (3, 3, 0),
                (3, 4, 0),
                (3, 5, 0),
            ],
            evicted: &[(3, 1), (3, 2), (3, 3)],
        },
    ];
    for case in cases {
        let (of_identity, of_host, in_all) = case.limits;
        let config = TransportLayerConfig::default()
            .with_max_connections_per_identity(of_identity)
            .with_max_connections_per_host(of_host)
            .with_max_connections(in_all);
        let mut fixture = Fixture::new(config);
        let address = |host: u8, port: u16| SocketAddr::from(([10, 0, 0, host], port));
        for (host, port, identity) in case.accepted {
            fixture.now += secs(1);
            fixture.accept(address(*host, *port), *identity);
        }
        let mut expected: Vec<_> = case
            .accepted
            .iter()
            .map(|(host, port, _)| (*host, *port))
            .filter(|accepted| !case.evicted.contains(accepted))
            .map(|(host, port)| address(host, port))
            .collect();
        expected.sort();
        assert_eq!(fixture.connections(), expected, "{}", case.what);
        let closed: Vec<_> = fixture
            .fx
            .close
            .iter()
            .map(|(conn, code)| (conn.addr, *code))
            .collect();
        let evicted: Vec<_> = case
            .evicted
            .iter()
            .map(|(host, port)| (address(*host, *port), CloseCode::EVICTED))
            .collect();
        assert_eq!(closed, evicted, "{}", case.what);
    }
}

#[test]
fn peers_without_authentication_have_places_of_their_own_and_take_none_of_others() {
    let config = TransportLayerConfig::default()
        .with_max_connections(3)
        .with_max_connections_per_host(3)
        .with_max_unauthenticated_connections(2);
    let mut fixture = Fixture::new(config);
    let mut enter = |host: u8, port: u16, identity: u8, direction: Direction| {
        fixture.now += secs(1);
        let to = SocketAddr::from(([10, 0, 0, host], port));
        fixture.connect(to, identity, direction);
        fixture.peers.assert_named_consistently();
        fixture.connections()
    };
    let at = |host: u8, port: u16| SocketAddr::from(([10, 0, 0, host], port));
    // Others are full, and one host has all of them.
    for (port, identity) in [(1, 1), (2, 2), (3, 3)] {
        enter(1, port, identity, Direction::Incoming);
    }
    let others = [at(1, 1), at(1, 2), at(1, 3)];
    // A peer that this side has dialled, and a flood, also from the host of the others.
    enter(20, 1, 0, Direction::Outgoing);
    let mut connections = Vec::new();
    for host in [1, 21, 22, 23, 1] {
        connections = enter(host, 9, 0, Direction::Incoming);
        assert_eq!(connections.len(), 5);
    }
    assert_eq!(connections[..3], others);
    assert_eq!(connections[3..], [at(1, 9), at(20, 1)]);
    // A host that has more loses its own, although it was dialled.
    enter(20, 2, 0, Direction::Outgoing);
    let connections = enter(24, 1, 0, Direction::Incoming);
    assert_eq!(connections[3..], [at(20, 2), at(24, 1)]);
    // An identity takes no place of them, either.
    let connections = enter(2, 1, 4, Direction::Incoming);
    assert_eq!(connections[2..], [at(2, 1), at(20, 2), at(24, 1)]);
}

#[test]
fn what_is_sent_to_a_peer_without_authentication_takes_no_place_of_a_connection() {
    let config = TransportLayerConfig::default().with_max_connections(2);
    let mut fixture = Fixture::new(config);
    let link = fixture.accept(addr(1), 0);
    fixture.accept(addr(2), 2);
    fixture.accept(addr(3), 3);
    fixture.lose(addr(1), link);
    fixture.offer(addr(1));
    let Step::Wait(Some(until)) = fixture.step(addr(1)) else {
        panic!("there is no room for a dial");
    };
    assert!(until > fixture.now);
    assert_eq!(fixture.connections(), [addr(2), addr(3)]);
    // It is dialled once there is room.
    let link = fixture.peers.newest_link();
    fixture.lose(addr(3), link);
    fixture.now += secs(1);
    assert_eq!(name(&fixture.step(addr(1))), "dial");
}

#[test]
fn peers_without_authentication_are_forgotten_before_others() {
    let config = TransportLayerConfig::default()
        .with_max_connections(2)
        .with_max_unauthenticated_connections(1)
        .with_max_peers(3);
    let mut fixture = Fixture::new(config);
    let link = fixture.accept(addr(1), 1);
    fixture.lose(addr(1), link);
    for n in 2..10 {
        fixture.now += secs(1);
        fixture.accept(addr(n), 0);
        fixture.offer(addr(n));
    }
    let stats = fixture.stats();
    assert!(
        stats.peers.contains_key(&addr(1)),
        "{:?}",
        stats.peers.keys()
    );
    assert_eq!(stats.peers.len(), 3);
    // But not while they are connected.
    fixture.offer(addr(10));
    fixture.offer(addr(11));
    assert_eq!(fixture.connections(), [addr(9)]);
}

#[test]
fn an_evicted_dial_counts_as_failed_and_its_task_notices() {
    let config = TransportLayerConfig::default().with_max_connections(1);
    let mut fixture = Fixture::new(config);
    fixture.offer(addr(1));
    let Step::Dial(dial) = fixture.step(addr(1)) else {
        panic!("there is a message");
    };
    fixture.now += secs(1);
    assert!(!is_given_up(&dial));
    fixture.accept(addr(2), 2);
    assert!(is_given_up(&dial), "its task ends");
    assert_eq!(
        (fixture.stats().dials, fixture.stats().dials_failed),
        (1, 1)
    );
    let conn = fixture.conn(addr(1), 1);
    let (now, fx) = (fixture.now, &mut fixture.fx);
    fixture.peers.dial_succeeded(dial.key, conn, now, fx);
    let closed = fixture.fx.close.last().map(|(conn, _)| conn.addr);
    assert_eq!(closed, Some(addr(1)), "the dial was given up");
    assert_eq!(fixture.connections(), [addr(2)]);
}

#[test]
fn the_peer_that_is_forgotten_first_has_no_connection_and_no_messages() {
    let config = TransportLayerConfig::default()
        .with_max_connections(2)
        .with_max_peers(3);
    let mut fixture = Fixture::new(config);
    fixture.accept(addr(1), 1);
    fixture.now += secs(1);
    fixture.offer(addr(2));
    fixture.now += secs(1);
    fixture.touch(addr(3)).unwrap();
    for (newcomer, left) in [(4, [1, 2, 4]), (5, [1, 2, 5])] {
        fixture.now += secs(1);
        fixture.touch(addr(newcomer)).unwrap();
        let known: Vec<_> = fixture.stats().peers.into_keys().collect();
        assert_eq!(known, left.map(addr));
    }
    // Messages count as dropped if their peer must be evicted nevertheless.
    fixture.accept(addr(5), 5);
    fixture.touch(addr(6)).unwrap();
    let stats = fixture.stats();
    assert_eq!(stats.total.dropped.count(DropReason::Overflow), 1);
    assert!(!stats.peers.contains_key(&addr(2)));
}

#[test]
fn connections_with_messages_to_send_go_last() {
    // The bounds by identity, by host and in all; all connections are of one host, without identity.
    let limits = [(2, 100, 100), (100, 2, 100), (100, 100, 2)];
    // A message that waits, and one that the network is taking.
    for (limits, taking) in limits.into_iter().flat_map(|l| [(l, false), (l, true)]) {
        let (of_identity, of_host, in_all) = limits;
        let config = TransportLayerConfig::default()
            .with_max_connections_per_identity(of_identity)
            .with_max_connections_per_host(of_host)
            .with_max_unauthenticated_connections(in_all);
        let mut fixture = Fixture::new(config);
        let address = |port: u16| SocketAddr::from(([10, 0, 0, 1], port));
        fixture.accept(address(1), 0);
        fixture.offer(address(1));
        if taking {
            assert_eq!(name(&fixture.step(address(1))), "write");
        }
        fixture.now += secs(1);
        fixture.accept(address(2), 0);
        fixture.now += secs(1);
        fixture.accept(address(3), 0);
        assert_eq!(
            fixture.connections(),
            [address(1), address(3)],
            "{limits:?}, {taking}"
        );
    }
}

#[test]
fn a_connection_that_its_peer_does_not_need_goes_before_those_of_other_peers() {
    let config = TransportLayerConfig::default().with_max_connections_per_host(3);
    let mut fixture = Fixture::new(config);
    let at = |port: u16| SocketAddr::from(([10, 0, 0, 1], port));
    let mut connect = |port, identity, direction| {
        fixture.now += secs(1);
        fixture.connect(at(port), identity, direction);
        fixture.connections()
    };
    connect(1, 1, Direction::Incoming);
    connect(2, 101, Direction::Outgoing);
    // Both sides have dialled, and the older connection stays.
    let connections = connect(2, 101, Direction::Incoming);
    assert_eq!(connections, [at(1), at(2), at(2)]);
    let connections = connect(3, 3, Direction::Incoming);
    assert_eq!(connections, [at(1), at(2), at(3)]);
}

#[test]
fn a_dial_is_given_up_only_before_busy_connections_that_are_used_more_recently() {
    for (dial_first, left) in [(true, [addr(2), addr(3)]), (false, [addr(1), addr(3)])] {
        let config = TransportLayerConfig::default().with_max_connections(2);
        let mut fixture = Fixture::new(config);
        let dial = |fixture: &mut Fixture| {
            fixture.offer(addr(1));
            let Step::Dial(dial) = fixture.step(addr(1)) else {
                panic!("there is a message");
            };
            fixture.now += secs(1);
            dial
        };
        let mut dialled = None;
        if dial_first {
            dialled = Some(dial(&mut fixture));
        }
        fixture.accept(addr(2), 2);
        fixture.offer(addr(2));
        fixture.now += secs(1);
        let dialled = dialled.unwrap_or_else(|| dial(&mut fixture));
        fixture.accept(addr(3), 3);
        assert_eq!(is_given_up(&dialled), dial_first);
        if !dial_first {
            let conn = fixture.conn(addr(1), 1);
            let (now, fx) = (fixture.now, &mut fixture.fx);
            fixture.peers.dial_succeeded(dialled.key, conn, now, fx);
        }
        assert_eq!(fixture.connections(), left);
    }
}

/// A core of two places, which the peers 1 and 2 have.
fn two_connected() -> Fixture {
    let config = TransportLayerConfig::default()
        .with_max_connections(2)
        .with_backoff_min(secs(1));
    let mut fixture = Fixture::new(config);
    for n in 1..=2 {
        fixture.accept(addr(n), n);
        fixture.now += secs(1);
    }
    fixture
}

#[test]
fn a_first_dial_takes_the_place_of_the_least_recently_used_idle_connection_only() {
    let mut fixture = two_connected();
    fixture.offer(addr(1));
    fixture.offer(addr(3));
    assert_eq!(name(&fixture.step(addr(3))), "dial");
    assert_eq!(fixture.connections(), [addr(1)], "the other one is busy");
    fixture.offer(addr(4));
    let Step::Wait(Some(until)) = fixture.step(addr(4)) else {
        panic!("there is no room");
    };
    assert!(until > fixture.now);
    assert_eq!(fixture.connections(), [addr(1)]);
    assert_eq!(fixture.stats().dials_failed, 0, "the first dial goes on");
    assert!(fixture.peers.dial_failure(addr(4)).is_none());
    // Its turn comes when the other one has failed.
    fixture.fail_dial(addr(3), std::io::ErrorKind::TimedOut);
    fixture.now = until;
    assert_eq!(name(&fixture.step(addr(4))), "dial");
    fixture.peers.assert_named_consistently();
}

#[test]
fn a_dial_that_repeats_a_failed_one_takes_no_place_of_a_connection_however_idle() {
    let mut fixture = two_connected();
    let link = fixture.peers.newest_link();
    fixture.lose(addr(2), link);
    fixture.offer(addr(3));
    assert_eq!(name(&fixture.step(addr(3))), "dial");
    fixture.fail_dial(addr(3), std::io::ErrorKind::ConnectionRefused);
    fixture.accept(addr(2), 2);
    fixture.step(addr(3));
    for _ in 0..20 {
        fixture.now += secs(60);
        fixture.offer(addr(3));
        let step = fixture.step(addr(3));
        let Step::Wait(Some(until)) = step else {
            panic!("there is no room: {step:?}");
        };
        assert!(until > fixture.now);
        assert_eq!(fixture.connections(), [addr(1), addr(2)]);
    }
    // Waits for room are no failures.
    let (failures, _) = fixture.peers.dial_failure(addr(3)).unwrap();
    assert_eq!((failures, fixture.stats().dials), (1, 1));
    // Once there is room, it is dialled.
    let link = fixture.peers.newest_link();
    fixture.lose(addr(2), link);
    fixture.now += secs(60);
    fixture.offer(addr(3));
    assert_eq!(name(&fixture.step(addr(3))), "dial");
}

#[test]
fn a_dial_that_repeats_a_failed_one_gives_way_to_a_first_dial() {
    let mut fixture = two_connected();
    let link = fixture.peers.newest_link();
    fixture.lose(addr(2), link);
    fixture.offer(addr(3));
    fixture.step(addr(3));
    fixture.fail_dial(addr(3), std::io::ErrorKind::TimedOut);
    fixture.now += secs(1);
    let Step::Dial(redial) = fixture.step(addr(3)) else {
        panic!("there is room");
    };
    fixture.offer(addr(4));
    assert_eq!(name(&fixture.step(addr(4))), "dial");
    assert!(is_given_up(&redial));
    assert_eq!(fixture.connections(), [addr(1)]);
}

#[test]
fn the_task_of_a_connection_that_is_busy_beyond_its_idle_timeout_rests() {
    let config = TransportLayerConfig::default().with_idle_timeout(secs(1));
    let mut fixture = Fixture::new(config);
    fixture.accept(addr(1), 1);
    fixture.step(addr(1));
    fixture.now += secs(1);
    // The network does not take it.
    let _direct = fixture.direct(addr(1));
    fixture.now += secs(2);
    let Step::Wait(deadline) = fixture.step(addr(1)) else {
        panic!("there is nothing to do");
    };
    assert!(deadline.is_none_or(|at| at > fixture.now));
}

#[test]
fn a_dial_without_room_waits_also_without_backoff() {
    let config = TransportLayerConfig::default()
        .with_max_connections(1)
        .with_backoff_min(Duration::ZERO)
        .with_backoff_max(Duration::ZERO);
    for identity in [0, 1] {
        let mut fixture = Fixture::new(config.clone());
        let link = fixture.accept(addr(1), identity);
        fixture.lose(addr(1), link);
        fixture.accept(addr(2), 2);
        fixture.offer(addr(2));
        fixture.offer(addr(1));
        assert_eq!(name(&fixture.step(addr(1))), "wait");
    }
}

#[test]
fn a_dial_goes_on_when_the_peer_has_dialled_us() {
    // The peer may have accepted it already, and have written to it.
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    fixture.offer(addr(1));
    let Step::Dial(dial) = fixture.step(addr(1)) else {
        panic!("there is a message");
    };
    let accepted = fixture.accept(addr(1), 1);
    assert!(!is_given_up(&dial));
    let Step::Write { link, .. } = fixture.step(addr(1)) else {
        panic!("the message is written meanwhile");
    };
    assert_eq!(link, accepted);
    fixture.written(addr(1), link);
    fixture.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
    assert_eq!(fixture.stats().dials_failed, 1);
    assert!(fixture.peers.dial_failure(addr(1)).is_none());
}

#[test]
fn a_peer_that_is_used_again_is_forgotten_later() {
    type Use = fn(&mut Fixture);
    let uses: [(&str, Use); 2] = [
        ("asked for", |f| f.touch(addr(1)).unwrap()),
        ("lost a connection", |f| {
            let link = f.accept(addr(1), 1);
            f.now += secs(1);
            f.lose(addr(1), link);
        }),
    ];
    for (what, use_it) in uses {
        let config = TransportLayerConfig::default()
            .with_max_connections(1)
            .with_max_peers(2);
        let mut fixture = Fixture::new(config);
        for peer in [1, 2] {
            fixture.touch(addr(peer)).unwrap();
            fixture.now += secs(1);
        }
        use_it(&mut fixture);
        fixture.now += secs(1);
        fixture.touch(addr(3)).unwrap();
        let known: Vec<_> = fixture.stats().peers.into_keys().collect();
        assert_eq!(known, [addr(1), addr(3)], "{what}");
    }
}

#[test]
fn forged_ports_of_a_host_do_not_end_the_connection_of_a_peer_there_that_was_dialled() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let at = |port: u16| SocketAddr::from(([10, 0, 0, 1], port));
    fixture.connect(at(7000), 0, Direction::Outgoing);
    fixture.now += secs(1);
    for port in 1..=40 {
        fixture.accept(at(port), 0);
    }
    let connections = fixture.connections();
    assert!(connections.contains(&at(7000)));
    assert_eq!(connections.len(), 16);
}
