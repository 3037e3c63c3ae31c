//! Peers that state addresses: what is left of a claim when another identity comes or goes.

use super::*;
use crate::transport_layer::stats::PeerState;

fn fixture() -> Fixture {
    Fixture::new(TransportLayerConfig::default())
}

/// Where connections from a NAT or proxy come from.
fn proxy(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

impl Fixture {
    /// Accepts a connection of `identity` from `from` that states `stated`.
    fn accept_from(&mut self, from: SocketAddr, identity: u8, stated: SocketAddr) -> u64 {
        let mut conn = self.conn(from, identity);
        conn.stated = Some(stated);
        self.enter(conn, Direction::Incoming)
    }

    /// Lets `identity` come from one host, state an address of another, and be gone before it is answered. Its
    /// task dials if it may.
    fn pass_by(&mut self, identity: u8) {
        self.now += Duration::from_millis(10);
        let stated = ([10, 9, identity, 1], 7000).into();
        let link = self.accept_from(proxy(1), identity, stated);
        self.lose(stated, link);
        self.offer(stated);
        self.step(stated);
    }

    fn named(&self) -> Vec<(SocketAddr, Identity)> {
        let peers = self.peers.connected_peers(&mut 0).unwrap();
        let mut peers: Vec<_> = peers.iter().map(|p| (p.addr, p.identity)).collect();
        peers.sort();
        peers
    }
}

#[test]
fn a_peer_that_has_lost_its_address_to_another_gets_it_again_once_that_one_was_gone_for_long() {
    let config = TransportLayerConfig::default().with_silence_timeout(secs(10_000));
    let mut f = Fixture::new(config.with_idle_timeout(secs(10_000)));
    f.accept_from(proxy(1), 1, addr(1));
    f.step(addr(1));
    f.take_signal(addr(1));
    // Another one answers there for a while.
    let link = f.connect(addr(1), 2, Direction::Outgoing);
    let key = id(1).address();
    assert!(f.take_signal(key), "its task looks again");
    f.now += secs(100);
    f.step(key);
    assert_eq!(f.named(), [(addr(1), id(2)), (key, id(1))]);
    f.lose(addr(1), link);
    f.now += secs(59);
    f.step(key);
    assert_eq!(f.named(), [(key, id(1))]);
    f.now += secs(2);
    f.step(key);
    assert_eq!(f.named(), [(addr(1), id(1))]);
    f.peers.assert_named_consistently();
}

#[test]
fn a_connection_that_is_refused_beside_another_one_of_its_identity_renames_nobody() {
    for direction in [Direction::Incoming, Direction::Outgoing] {
        let mut f = fixture();
        f.connect(addr(1), 1, direction);
        f.step(addr(1));
        f.now += secs(10);
        // A second program with the same key, which listens elsewhere. It tries again and again.
        for _ in 0..3 {
            f.connect(addr(2), 1, direction);
            assert_eq!(f.named(), [(addr(1), id(1))], "{direction:?}");
            f.step(addr(1));
            f.answer_probe(addr(1));
            f.step(addr(1));
            f.now += secs(10);
            f.step(addr(1));
            assert_eq!(f.named(), [(addr(1), id(1))], "{direction:?}");
            assert_eq!(f.connections().len(), 1);
        }
        f.peers.assert_named_consistently();
    }
}

#[test]
fn a_peer_that_comes_back_with_another_address_has_it_once_its_older_connection_is_given_up() {
    for direction in [Direction::Incoming, Direction::Outgoing] {
        let mut f = fixture();
        f.connect(addr(1), 1, direction);
        f.step(addr(1));
        f.now += secs(10);
        f.connect(addr(2), 1, direction);
        f.step(addr(1));
        f.now += secs(1);
        f.step(addr(1));
        f.step(addr(1));
        assert_eq!(f.named(), [(addr(2), id(1))], "{direction:?}");
        f.offer(addr(1));
        assert_eq!(f.peer(addr(2)).queued, 1, "{direction:?}");
        f.peers.assert_named_consistently();
    }
}

#[test]
fn a_program_with_the_key_of_a_peer_that_lives_takes_nothing_from_it_whichever_side_has_dialled() {
    use Direction::{Incoming, Outgoing};
    // Our identity is 100.
    for (theirs, first, second) in [
        (1, Incoming, Outgoing),
        (1, Outgoing, Incoming),
        (101, Incoming, Outgoing),
        (101, Outgoing, Incoming),
    ] {
        let mut f = fixture();
        let older = f.connect(addr(1), theirs, first);
        f.step(addr(1));
        f.now += secs(10);
        f.connect(addr(2), theirs, second);
        f.step(addr(1));
        f.now += Duration::from_millis(10);
        f.answer_probe(addr(1));
        f.step(addr(1));
        f.settle();
        let what = format!("{theirs} {first:?} {second:?}");
        let refusal = match second {
            Incoming => CloseCode::DUPLICATE,
            Outgoing => CloseCode::REDUNDANT,
        };
        assert_eq!(f.closed, [refusal], "{what}");
        assert_eq!(f.named(), [(addr(1), id(theirs))], "{what}");
        // It is dialled where it was reached.
        f.lose(addr(1), older);
        f.now += secs(10);
        f.offer(addr(1));
        assert!(
            matches!(f.step(addr(1)), Step::Dial(dial) if dial.to == addr(1)),
            "{what}"
        );
    }
}

#[test]
fn many_identities_of_one_host_displace_nothing_that_is_kept_for_a_peer_of_another() {
    for queued in [0, 1] {
        let config = TransportLayerConfig::default().with_max_connections(4);
        let mut f = Fixture::new(config.with_max_peers(16));
        let link = f.accept(addr(1), 1);
        f.lose(addr(1), link);
        if queued > 0 {
            f.offer(addr(1));
            f.step(addr(1));
            f.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
        }
        for n in 2..90 {
            f.pass_by(n);
            let stats = f.stats();
            let kept = stats.peers.get(&addr(1)).map(|peer| peer.queued);
            assert_eq!(kept, Some(queued), "after {n}");
        }
        f.accept(addr(1), 0);
        assert_eq!(f.stats().naming.unauthenticated_refused, 1);
    }
}

#[test]
fn a_few_peers_of_one_host_for_which_messages_wait_are_kept_longer_than_those_that_are_not_needed()
{
    let config = TransportLayerConfig::default().with_max_connections(4);
    let mut f = Fixture::new(config.with_max_peers(16));
    let down = [1, 2].map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
    for to in down {
        f.offer(to);
        f.step(to);
        f.fail_dial(to, std::io::ErrorKind::TimedOut);
    }
    // Peers of different hosts come and go.
    for n in 2..90 {
        f.now += Duration::from_millis(10);
        let link = f.accept(addr(n), n);
        f.lose(addr(n), link);
        assert_eq!(down.map(|to| f.peer(to).queued), [1, 1], "after {n}");
    }
}

#[test]
fn dials_of_addresses_that_peers_of_one_host_have_stated_end_no_connection_of_another_host() {
    let config = TransportLayerConfig::default().with_max_connections(8);
    let mut f = Fixture::new(config);
    for n in 1..=4 {
        f.accept(addr(n), n);
    }
    f.now += secs(1);
    for n in 11..90 {
        f.pass_by(n);
        let honest = f.connections().len();
        assert_eq!(honest, 4, "after {n}");
    }
}

#[test]
fn a_dial_takes_the_place_of_one_of_a_host_that_has_more_before_that_of_an_idle_connection() {
    for has_failed in [false, true] {
        let config = TransportLayerConfig::default().with_max_connections(6);
        let mut f = Fixture::new(config.with_backoff_max(Duration::from_millis(200)));
        f.accept(addr(1), 1);
        f.accept(addr(2), 2);
        f.offer(addr(3));
        assert_eq!(name(&f.step(addr(3))), "dial");
        if has_failed {
            f.fail_dial(addr(3), std::io::ErrorKind::TimedOut);
        }
        (11..20).for_each(|n| f.pass_by(n));
        f.now += secs(1);
        let (to, dials) = if has_failed {
            (addr(3), 4)
        } else {
            (addr(4), 3)
        };
        let dialling = |f: &Fixture| {
            let peers = f.stats().peers.into_iter();
            let dialling = peers.filter(|(_, peer)| peer.state == PeerState::Dialing);
            dialling.map(|(addr, _)| addr).collect::<Vec<_>>()
        };
        let of_host = |f: &Fixture| dialling(f).iter().filter(|a| **a > addr(200)).count();
        assert_eq!(dialling(&f).len(), 4);
        assert_eq!(of_host(&f), dials);
        f.offer(to);
        assert_eq!(name(&f.step(to)), "dial", "has failed: {has_failed}");
        assert_eq!(of_host(&f), dials - 1);
        assert!(has_failed || dialling(&f).contains(&addr(3)));
        assert_eq!(f.connections(), [addr(1), addr(2)]);
    }
}

#[test]
fn one_dial_at_a_time_of_a_host_takes_the_place_of_an_idle_connection() {
    let config = TransportLayerConfig::default().with_max_connections(2);
    let mut f = Fixture::new(config);
    for n in [1, 2] {
        f.accept(addr(n), n);
    }
    f.now += secs(1);
    // Peers that were not connected before count against the hosts that are dialled.
    let of_host = |port: u16| SocketAddr::from(([10, 0, 1, 1], port));
    f.offer(of_host(1));
    assert_eq!(name(&f.step(of_host(1))), "dial");
    f.offer(of_host(2));
    assert_eq!(name(&f.step(of_host(2))), "wait");
    assert_eq!(f.connections().len(), 1);
    f.fail_dial(of_host(1), std::io::ErrorKind::TimedOut);
    f.now += secs(1);
    assert_eq!(name(&f.step(of_host(2))), "dial");
    f.offer(addr(3));
    assert_eq!(name(&f.step(addr(3))), "dial");
    assert!(f.connections().is_empty());
}

#[test]
fn a_datagram_that_comes_from_a_key_address_takes_nothing_from_the_owner_of_the_key() {
    let mut f = fixture();
    let key = id(1).address();
    // Its source is forged, and it comes again and again.
    f.accept(key, 0);
    assert!(f.connections().is_empty());
    assert_eq!(f.stats().naming.unauthenticated_refused, 1);
    f.offer(key);
    let dropped = f.peer(key).dropped;
    assert_eq!(dropped.count(DropReason::Unroutable), 1);
    let mut tab = f.conn(proxy(1), 1);
    tab.stated = None;
    assert_ne!(f.enter(tab, Direction::Incoming), 0, "it is read at once");
    assert_eq!(f.named(), [(key, id(1))]);
    f.peers.assert_named_consistently();
}

#[test]
fn a_peer_without_authentication_that_answers_at_a_name_has_not_the_address_that_was_reached_by_it()
{
    for is_contested in [true, false] {
        let mut f = fixture();
        let (name, key) = (proxy(443), id(1).address());
        if is_contested {
            f.connect(addr(1), 2, Direction::Outgoing);
        }
        let mut conn = f.conn(name, 1);
        conn.stated = Some(addr(1));
        let link = f.enter(conn, Direction::Outgoing);
        let home = if is_contested { key } else { addr(1) };
        f.lose(home, link);
        f.now += secs(60);
        f.offer(home);
        assert!(matches!(f.step(home), Step::Dial(dial) if dial.to == name));
        let (dial, mut conn) = (f.peers.dial_at(home), f.conn(name, 0));
        conn.stated = None;
        f.peers.dial_succeeded(dial, conn, f.now, &mut f.fx);
        assert_eq!(f.stats().naming.unauthenticated_refused, 1);
        assert!(f.named().iter().all(|(_, who)| *who == id(2)));
        f.now += secs(1);
        f.offer(home);
        let step = f.step(home);
        if is_contested {
            assert_eq!(super::name(&step), "wait", "it is no address to dial");
        } else {
            assert!(matches!(step, Step::Dial(dial) if dial.to == home));
        }
        f.peers.assert_named_consistently();
    }
}

#[test]
fn a_socket_that_cannot_listen_dials_no_address_that_peers_have_only_stated() {
    let mut f = fixture();
    let nowhere = Own {
        local_addr: ([0, 0, 0, 0], 0).into(),
        advertised_addr: id(100).address(),
        ..own()
    };
    let config = TransportLayerConfig::default().with_silence_timeout(secs(10_000));
    let config = Arc::new(config.with_idle_timeout(secs(10_000)));
    f.peers = Peers::new(config, 16 << 10, nowhere);
    // A node behind a proxy, and then the same one with another key.
    let name = proxy(443);
    for identity in [1, 2] {
        let mut conn = f.conn(name, identity);
        conn.stated = Some(addr(1));
        let link = f.enter(conn, Direction::Outgoing);
        if identity == 1 {
            f.lose(addr(1), link);
        }
    }
    let key = id(2).address();
    assert_eq!(f.named(), [(key, id(2))]);
    let mut steps = Vec::new();
    for _ in 0..70 {
        for peer in [addr(1), key] {
            if f.peers.id_at(peer).is_some() {
                steps.push(super::name(&f.step(peer)));
            }
        }
        f.now += secs(1);
    }
    assert!(!steps.contains(&"dial"));
    assert_eq!(f.named(), [(addr(1), id(2))]);
}

/// Returns whether the task of the peer at `addr` starts a dial now.
fn dials(f: &mut Fixture, addr: SocketAddr) -> bool {
    matches!(f.step(addr), Step::Dial(_))
}

#[test]
fn a_contested_address_is_given_to_whoever_answers_there_while_all_places_are_in_use() {
    let config = TransportLayerConfig::default();
    let mut f = Fixture::new(config.with_max_connections(3));
    f.accept_from(proxy(1), 1, addr(1));
    f.accept(addr(9), 9);
    f.accept_from(proxy(1), 2, addr(1));
    let keys = [1, 2].map(|n| id(n).address());
    assert!(f.named().contains(&(addr(1), id(1))));
    let Step::Dial(dial) = f.step(addr(1)) else {
        panic!("it is not known who answers there");
    };
    assert_eq!(f.connections().len(), 3);
    let mut conn = f.conn(addr(1), 2);
    conn.stated = Some(addr(1));
    f.peers.dial_succeeded(dial.key, conn, f.now, &mut f.fx);
    f.settle();
    let mut expected = vec![(addr(1), id(2)), (keys[0], id(1)), (addr(9), id(9))];
    expected.sort();
    assert_eq!(f.named(), expected);
    assert_eq!(f.closed, [CloseCode::REDUNDANT], "no connection was ended");
    f.peers.assert_named_consistently();
}

#[test]
fn dials_of_contested_addresses_beside_all_connections_are_few_and_one_for_each_host() {
    let config = TransportLayerConfig::default();
    let mut f = Fixture::new(config.with_max_connections(24));
    // Each owner has a host of its own, except for the last two, which share the host of those that claim.
    let owners: Vec<u8> = (1..=12).collect();
    for n in 1..=10 {
        f.accept(addr(n), n);
    }
    for n in [11, 12] {
        f.accept_from(proxy(1), n, addr(n));
    }
    for n in 1..=12 {
        f.accept_from(proxy(1), 50 + n, addr(n));
    }
    assert_eq!(f.connections().len(), 24);
    assert!(dials(&mut f, addr(11)));
    assert!(!dials(&mut f, addr(12)), "its host has one already");
    let mut dialled: Vec<u8> = Vec::new();
    for n in &owners[..10] {
        if dials(&mut f, addr(*n)) {
            dialled.push(*n);
        }
    }
    assert_eq!(dialled, owners[..7]);
    f.peers.assert_named_consistently();
    // A newcomer takes the place of a connection, and ends none of these dials.
    f.accept(addr(90), 90);
    assert_eq!((f.connections().len(), f.stats().dials_failed), (24, 0));
    // Once one of them has ended, there is room for another.
    f.fail_dial(addr(11), std::io::ErrorKind::TimedOut);
    f.now += secs(2);
    assert!(dials(&mut f, addr(12)));
    f.peers.assert_named_consistently();
}
