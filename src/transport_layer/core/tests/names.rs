//! The addresses under which peers are registered, and the identities that own queues.

use std::task::{Poll, Waker};

use super::*;
use crate::transport_layer::stats::NamingStats;

fn fixture() -> Fixture {
    Fixture::new(TransportLayerConfig::default())
}

/// Where connections from a NAT or proxy come from.
fn proxy(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

impl Fixture {
    /// Accepts a connection of `identity` from `from` that states `stated`.
    fn accept_stating(
        &mut self,
        from: SocketAddr,
        identity: u8,
        stated: Option<SocketAddr>,
    ) -> u64 {
        let mut conn = self.conn(from, identity);
        conn.stated = stated;
        self.enter(conn, Direction::Incoming)
    }

    /// Offers a message to `to`, lets its task dial, and lets `identity` answer, which states `stated`.
    /// Returns the id of the connection, or 0 if none was taken into service.
    fn dial(&mut self, to: SocketAddr, identity: u8, stated: Option<SocketAddr>) -> u64 {
        self.offer(to);
        let Step::Dial(NewDial { to: target, .. }) = self.step(to) else {
            panic!("{to} is not dialled");
        };
        self.answer(to, target, identity, stated)
    }

    fn answer(
        &mut self,
        to: SocketAddr,
        target: SocketAddr,
        identity: u8,
        stated: Option<SocketAddr>,
    ) -> u64 {
        let key = self.peers.dial_at(to);
        let mut conn = self.conn(target, identity);
        conn.stated = stated;
        let (now, fx) = (self.now, &mut self.fx);
        self.peers.dial_succeeded(key, conn, now, fx);
        let link = self.fx.readers.last().map_or(0, |reader| reader.link);
        self.settle();
        link
    }

    fn naming(&self) -> NamingStats {
        self.stats().naming
    }

    /// Returns the addresses of connected peers, each with its identity, in order.
    fn registered(&self) -> Vec<(SocketAddr, Identity)> {
        let peers = self.peers.connected_peers(&mut 0).unwrap();
        let mut peers: Vec<_> = peers.iter().map(|p| (p.addr, p.identity)).collect();
        peers.sort();
        peers
    }

    fn dropped(&self) -> u64 {
        let dropped = self.stats().total.dropped;
        let of_peers = self.stats().peers.into_values();
        dropped.count(DropReason::IdentityChanged)
            + of_peers
                .map(|peer| peer.dropped.count(DropReason::IdentityChanged))
                .sum::<u64>()
    }
}

#[test]
fn an_accepted_peer_is_registered_at_the_address_that_it_states_or_at_its_key_address() {
    let key = id(1).address();
    for (what, from, stated, expected) in [
        ("a core member", proxy(1), Some(addr(1)), addr(1)),
        ("a tab", proxy(1), None, key),
        ("it states its own key address", proxy(1), Some(key), key),
        ("ours", proxy(1), Some(own().advertised_addr), key),
        ("our key address", proxy(1), Some(id(100).address()), key),
        (
            "the key address of another",
            proxy(1),
            Some(id(2).address()),
            key,
        ),
        (
            "unspecified",
            proxy(1),
            Some(([0, 0, 0, 0], 7000).into()),
            key,
        ),
        (
            "multicast",
            proxy(1),
            Some(([224, 0, 0, 1], 7000).into()),
            key,
        ),
        ("no port", proxy(1), Some(([10, 0, 0, 1], 0).into()), key),
        (
            "loopback from elsewhere",
            proxy(1),
            Some(([127, 0, 0, 1], 7000).into()),
            key,
        ),
        (
            "loopback on this machine",
            ([127, 0, 0, 1], 40_000).into(),
            Some(([127, 0, 0, 1], 7000).into()),
            ([127, 0, 0, 1], 7000).into(),
        ),
    ] {
        let mut fixture = fixture();
        fixture.accept_stating(from, 1, stated);
        assert_eq!(fixture.registered(), [(expected, id(1))], "{what}");
        let ignored = u64::from(stated.is_some_and(|stated| stated != expected));
        assert_eq!(fixture.naming().stated_addrs_ignored, ignored, "{what}");
    }
}

#[test]
fn a_peer_states_a_loopback_address_if_the_name_that_was_dialled_leads_there() {
    // An address that stands for a name.
    let name: SocketAddr = "[100::7]:443".parse().unwrap();
    let stated = ([127, 0, 0, 1], 7000).into();
    for (is_local, expected) in [(true, stated), (false, name)] {
        let mut fixture = fixture();
        let mut conn = fixture.conn(name, 1);
        (conn.stated, conn.is_local) = (Some(stated), is_local);
        fixture.offer(name);
        let Step::Dial(_) = fixture.step(name) else {
            panic!("{name} is not dialled");
        };
        let key = fixture.peers.dial_at(name);
        let (now, fx) = (fixture.now, &mut fixture.fx);
        fixture.peers.dial_succeeded(key, conn, now, fx);
        fixture.settle();
        assert_eq!(fixture.registered(), [(expected, id(1))]);
        let ignored = fixture.naming().stated_addrs_ignored;
        assert_eq!(ignored, u64::from(!is_local));
        fixture.offer(name);
        assert_eq!(fixture.peer(expected).queued, 2, "the name leads there");
    }
}

#[test]
fn a_dialled_peer_is_registered_at_the_address_that_it_states_and_the_dialled_one_is_an_alias() {
    let mut fixture = fixture();
    let (url, stated) = (proxy(443), addr(1));
    fixture.dial(url, 1, Some(stated));
    assert_eq!(fixture.registered(), [(stated, id(1))]);
    assert_eq!(
        fixture.peer(stated).queued,
        1,
        "the message has moved along"
    );
    fixture.offer(url);
    assert_eq!(fixture.peer(stated).queued, 2, "the alias joins the queue");
    assert!(!fixture.stats().peers.contains_key(&url));
    fixture.offer(id(1).address());
    assert_eq!(
        fixture.peer(stated).queued,
        3,
        "and so does the key address"
    );
    // The alias ends with the connection, and the peer is dialled where it was reached.
    let link = fixture.stats().connections.len() as u64;
    assert_eq!(link, 1);
    let Step::Write { link, .. } = fixture.step(stated) else {
        panic!("there are messages");
    };
    fixture.written(stated, link);
    fixture.lose(stated, link);
    fixture.now += secs(6);
    fixture.offer(stated);
    assert!(matches!(fixture.step(stated), Step::Dial(dial) if dial.to == url));
    fixture.offer(id(1).address());
    let unroutable = fixture.peer(id(1).address()).dropped;
    assert_eq!(unroutable.count(DropReason::Unroutable), 1);
}

#[test]
fn a_dialled_peer_that_states_nothing_is_registered_where_it_was_dialled() {
    let mut fixture = fixture();
    fixture.dial(addr(1), 1, None);
    assert_eq!(fixture.registered(), [(addr(1), id(1))]);
}

#[test]
fn a_key_address_without_a_connection_is_unroutable_and_never_dialled() {
    let mut fixture = fixture();
    let key = id(1).address();
    fixture.offer(key);
    assert!(matches!(fixture.step(key), Step::Wait(_)));
    let dropped = fixture.peer(key).dropped;
    assert_eq!(dropped.count(DropReason::Unroutable), 1);
    assert_eq!(fixture.stats().dials, 0);
    fixture.accept_stating(proxy(1), 1, None);
    fixture.offer(key);
    assert_eq!(fixture.peer(key).queued, 1);
}

#[test]
fn a_proxy_restart_renames_nobody() {
    let mut fixture = fixture();
    let key = id(1).address();
    for port in 1..4 {
        let link = fixture.accept_stating(proxy(port), 1, None);
        assert_eq!(fixture.registered(), [(key, id(1))]);
        fixture.lose(key, link);
    }
    assert_eq!(fixture.stats().peers.len(), 1);
}

#[test]
fn many_tabs_behind_one_proxy_are_different_peers() {
    let mut fixture = fixture();
    for n in 1..90 {
        fixture.accept_stating(proxy(u16::from(n)), n, None);
    }
    // Another one from a port that was used before.
    fixture.accept_stating(proxy(1), 90, None);
    assert_eq!(fixture.registered().len(), 90);
}

#[test]
fn an_address_of_another_identity_is_contested_and_dialled_once() {
    let stated = addr(1);
    for (what, answers, expected) in [
        (
            "its owner answers",
            1,
            [(stated, id(1)), (id(2).address(), id(2))],
        ),
        (
            "the newcomer answers",
            2,
            [(stated, id(2)), (id(1).address(), id(1))],
        ),
    ] {
        let mut fixture = fixture();
        fixture.accept_stating(proxy(1), 1, Some(stated));
        fixture.offer(stated);
        fixture.accept_stating(proxy(2), 2, Some(stated));
        let both = [(stated, id(1)), (id(2).address(), id(2))];
        assert_eq!(fixture.registered(), both, "{what}");
        assert_eq!(fixture.naming().stated_addrs_contested, 1);
        let Step::Dial(NewDial { to, .. }) = fixture.step(stated) else {
            panic!("the address is dialled although its peer is connected");
        };
        assert_eq!(to, stated);
        fixture.answer(stated, stated, answers, Some(stated));
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(fixture.registered(), expected, "{what}");
        // The message was for the first, and still is.
        let first = if answers == 1 {
            stated
        } else {
            id(1).address()
        };
        assert_eq!(fixture.peer(first).queued, 1, "{what}");
        assert_eq!(fixture.dropped(), 0);
    }
}

#[test]
fn two_identities_that_fight_for_an_address_cause_one_dial_in_two_seconds() {
    let stated = addr(1);
    let mut fixture = fixture();
    fixture.accept_stating(proxy(1), 1, Some(stated));
    let mut dials = 0;
    for n in 0..40 {
        let link = fixture.accept_stating(proxy(2), 2, Some(stated));
        while let Step::Dial(_) = fixture.step(stated) {
            dials += 1;
            fixture.fail_dial(stated, std::io::ErrorKind::TimedOut);
        }
        fixture.lose(id(2).address(), link);
        fixture.now += Duration::from_millis(100);
        assert_eq!(fixture.registered(), [(stated, id(1))], "{n}");
    }
    assert_eq!(dials, 2, "4 s have passed");
}

#[test]
fn an_address_that_was_dialled_is_not_dialled_again_while_its_connection_lives() {
    let mut fixture = fixture();
    let link = fixture.dial(addr(1), 1, Some(addr(1)));
    fixture.step(addr(1));
    fixture.written(addr(1), link);
    fixture.accept_stating(proxy(2), 2, Some(addr(1)));
    assert!(matches!(fixture.step(addr(1)), Step::Wait(_)));
    assert_eq!(fixture.naming().stated_addrs_contested, 1);
    assert_eq!(
        fixture.registered(),
        [(addr(1), id(1)), (id(2).address(), id(2))]
    );
}

#[test]
fn what_is_queued_for_one_identity_is_never_sent_to_another() {
    // At an address that is dialled again.
    let mut fixture = fixture();
    let link = fixture.dial(addr(1), 1, Some(addr(1)));
    fixture.step(addr(1));
    fixture.written(addr(1), link);
    fixture.lose(addr(1), link);
    fixture.now += secs(6);
    fixture.dial(addr(1), 2, Some(addr(1)));
    assert_eq!(fixture.registered(), [(addr(1), id(2))]);
    assert_eq!((fixture.peer(addr(1)).queued, fixture.dropped()), (0, 1));

    // Behind a name that leads to several members.
    let mut fixture = self::fixture();
    let name = proxy(443);
    let link = fixture.dial(name, 1, Some(addr(1)));
    fixture.step(addr(1));
    fixture.written(addr(1), link);
    fixture.lose(addr(1), link);
    fixture.now += secs(6);
    fixture.offer(addr(1));
    let Step::Dial(NewDial { to, .. }) = fixture.step(addr(1)) else {
        panic!("there is a message");
    };
    assert_eq!(to, name);
    fixture.answer(addr(1), name, 2, Some(addr(2)));
    assert_eq!(fixture.registered(), [(addr(2), id(2))]);
    assert_eq!((fixture.peer(addr(2)).queued, fixture.dropped()), (0, 1));
    assert_eq!(fixture.naming().wrong_identities, 1);

    // A peer that was accepted and is gone.
    let mut fixture = self::fixture();
    let link = fixture.accept_stating(proxy(1), 1, None);
    fixture.lose(id(1).address(), link);
    fixture.offer(id(1).address());
    fixture.accept_stating(proxy(1), 2, None);
    assert_eq!(fixture.peer(id(2).address()).queued, 0);
}

#[test]
fn a_peer_that_is_known_by_its_key_address_moves_to_one_at_which_it_answers() {
    let mut fixture = fixture();
    let key = id(1).address();
    let link = fixture.accept_stating(proxy(1), 1, None);
    let entry = fixture.key(key);
    // Its own record says where it listens.
    fixture.dial(addr(1), 1, None);
    assert_eq!(fixture.registered(), [(addr(1), id(1))]);
    assert_eq!(
        fixture.peers.address_of(entry),
        addr(1),
        "its reader finds it"
    );
    assert_eq!(fixture.peers.revision(), 1);
    fixture.offer(key);
    assert_eq!(
        fixture.peer(addr(1)).queued,
        2,
        "its former address is an alias"
    );
    // The task and the reader of the entry still find it.
    let (now, fx) = (fixture.now, &mut fixture.fx);
    fixture.peers.heard(entry, link, now);
    let ended = fixture
        .peers
        .disconnected(entry, link, &LinkEnd::Lost, now, fx);
    assert!(ended.is_some());
}

#[test]
fn a_caller_that_waits_for_a_dialled_address_is_told_of_the_registered_one() {
    let mut fixture = fixture();
    let url = proxy(443);
    let mut wanted = Wanted::new(url);
    let poll = |fixture: &mut Fixture, wanted: &mut Wanted| {
        let (now, fx) = (fixture.now, &mut fixture.fx);
        fixture.peers.poll_connected(wanted, now, Waker::noop(), fx)
    };
    assert!(poll(&mut fixture, &mut wanted).is_pending());
    let Step::Dial(NewDial { to: target, .. }) = fixture.step(url) else {
        panic!("it is wanted");
    };
    fixture.answer(url, target, 1, Some(addr(1)));
    let Poll::Ready(Ok(info)) = poll(&mut fixture, &mut wanted) else {
        panic!("it is connected");
    };
    assert_eq!((info.remote_addr, info.network_addr), (addr(1), url));
    fixture.peers.stop_wanting(&mut wanted);
    let mut again = Wanted::new(url);
    assert!(poll(&mut fixture, &mut again).is_ready());
}

#[test]
fn a_connection_without_authentication_never_enters_the_entry_of_an_identity() {
    let mut fixture = fixture();
    let link = fixture.accept(addr(1), 1);
    fixture.offer(addr(1));
    assert_eq!(fixture.accept(addr(1), 0), 0);
    assert_eq!(fixture.naming().unauthenticated_refused, 1);
    assert_eq!(fixture.registered(), [(addr(1), id(1))]);
    // Not even while the identity is away.
    fixture.lose(addr(1), link);
    assert_eq!(fixture.accept(addr(1), 0), 0);
    assert_eq!((fixture.peer(addr(1)).queued, fixture.dropped()), (1, 0));
    // An identity takes the place of a peer that has proved none.
    let mut fixture = self::fixture();
    fixture.accept(addr(1), 0);
    fixture.offer(addr(1));
    fixture.accept(addr(1), 1);
    assert_eq!(fixture.registered(), [(addr(1), id(1))]);
    assert_eq!((fixture.peer(addr(1)).queued, fixture.dropped()), (0, 1));
}

#[test]
fn an_identity_that_answers_a_dial_receives_what_was_queued_for_an_unauthenticated_peer_there() {
    for stated in [addr(1), addr(2)] {
        let mut fixture = fixture();
        let link = fixture.accept(addr(1), 0);
        fixture.lose(addr(1), link);
        fixture.now += secs(1);
        fixture.dial(addr(1), 1, Some(stated));
        assert_eq!(fixture.registered(), [(stated, id(1))]);
        assert_eq!((fixture.peer(stated).queued, fixture.dropped()), (1, 0));
        fixture.offer(addr(1));
        assert_eq!(fixture.peer(stated).queued, 2);
    }
}

#[test]
fn a_connection_with_ourselves_is_refused_on_both_sides() {
    let mut fixture = fixture();
    fixture.accept_stating(proxy(1), 100, None);
    assert_eq!(fixture.naming().duplicates_refused, 1);
    assert_eq!(
        fixture.dial(proxy(443), 100, Some(own().advertised_addr)),
        0
    );
    let (_, error) = fixture.peers.dial_failure(proxy(443)).unwrap();
    assert!(error.is::<crate::transport_layer::OwnIdentity>());
    assert!(fixture.registered().is_empty());
    assert_eq!(
        fixture.peer(proxy(443)).queued,
        1,
        "somebody else may answer next time"
    );
    fixture.offer(proxy(443));
    assert_eq!(name(&fixture.step(proxy(443))), "wait");
}

#[test]
fn a_key_address_is_not_given_to_another_identity_that_answers_there() {
    let mut fixture = fixture();
    let key = id(1).address();
    let conn = fixture.conn(key, 2);
    fixture.touch(key).unwrap();
    let (now, fx) = (fixture.now, &mut fixture.fx);
    fixture.peers.dialled((key, key), conn, now, fx);
    assert!(fixture.registered().is_empty());
    assert_eq!(fixture.naming().wrong_identities, 1);
    let (_, error) = fixture.peers.dial_failure(key).unwrap();
    assert!(error.is::<crate::transport_layer::WrongIdentity>());
    let conn = fixture.conn(key, 1);
    let (now, fx) = (fixture.now, &mut fixture.fx);
    fixture.peers.dialled((key, key), conn, now, fx);
    assert_eq!(fixture.registered(), [(key, id(1))]);
}

#[test]
fn a_peer_that_states_its_key_address_keeps_the_address_at_which_it_was_dialled() {
    let mut fixture = fixture();
    let link = fixture.dial(addr(1), 1, None);
    fixture.step(addr(1));
    fixture.lose(addr(1), link);
    fixture.accept_stating(proxy(1), 1, Some(id(1).address()));
    assert_eq!(fixture.registered(), [(addr(1), id(1))]);
}

#[test]
fn another_socket_with_our_key_is_a_peer_like_any_other() {
    let mut fixture = fixture();
    fixture.dial(addr(1), 100, Some(addr(1)));
    assert_eq!(fixture.registered(), [(addr(1), id(100))]);
    fixture.accept_stating(addr(1), 100, Some(addr(1)));
    assert_eq!(fixture.stats().connections.len(), 2);
}
