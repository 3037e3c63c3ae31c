//! Peers that claim addresses, identities and places that are not theirs.

use super::*;

fn fixture() -> Fixture {
    Fixture::new(TransportLayerConfig::default())
}

/// Where connections from a NAT or proxy come from.
fn proxy(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

impl Fixture {
    /// Accepts a connection of `identity` from a proxy.
    fn accept_claim(&mut self, identity: u8, stated: Option<SocketAddr>) -> u64 {
        let mut conn = self.conn(proxy(1), identity);
        conn.stated = stated;
        self.enter(conn, Direction::Incoming)
    }

    /// Accepts a connection of `identity`, which is connected at `from`, and which states `stated` now. The
    /// older connection ends. Returns the next step of its task.
    fn reconnect_claiming(
        &mut self,
        identity: u8,
        from: SocketAddr,
        stated: SocketAddr,
    ) -> Step<Conn> {
        let older = self.peers.newest_link();
        self.accept_claim(identity, Some(stated));
        self.lose(from, older);
        self.step(from)
    }

    /// Takes into service a connection that was dialled at `dialled` for the entry at `entry`.
    fn answered(
        &mut self,
        (entry, dialled): (SocketAddr, SocketAddr),
        identity: u8,
        stated: SocketAddr,
    ) {
        let mut conn = self.conn(dialled, identity);
        conn.stated = Some(stated);
        let (now, fx) = (self.now, &mut self.fx);
        self.peers.dialled((entry, dialled), conn, now, fx);
        self.settle();
    }

    fn owners(&self) -> Vec<(SocketAddr, Identity)> {
        let peers = self.peers.connected_peers(&mut 0).unwrap();
        let mut peers: Vec<_> = peers.iter().map(|p| (p.addr, p.identity)).collect();
        peers.sort();
        peers
    }
}

#[test]
fn a_message_that_came_before_its_peer_does_not_hide_it_behind_its_key_address() {
    let mut fixture = fixture();
    let key = id(1).address();
    fixture.offer(key);
    fixture.accept(addr(1), 1);
    fixture.offer(key);
    assert_eq!(fixture.peer(addr(1)).queued, 1);
    fixture.peers.assert_named_consistently();
}

#[test]
fn a_peer_that_states_one_address_after_another_keeps_few_of_them() {
    let mut fixture = fixture();
    fixture.accept_claim(1, Some(([10, 9, 0, 1], 1).into()));
    for n in 2..=1000 {
        fixture.reconnect_claiming(1, ([10, 9, 0, 1], n - 1).into(), ([10, 9, 0, 1], n).into());
        fixture.peers.assert_named_consistently();
    }
    assert!(fixture.peers.alias_count() <= 16);
    assert_eq!(fixture.owners(), [(([10, 9, 0, 1], 1000).into(), id(1))]);
}

#[test]
fn an_address_at_which_a_peer_has_answered_is_not_given_to_one_that_states_it() {
    let mut fixture = fixture();
    let name = proxy(443);
    fixture.touch(name).unwrap();
    fixture.answered((name, name), 1, addr(1));
    fixture.accept_claim(2, Some(name));
    assert_eq!(fixture.stats().naming.stated_addrs_contested, 1);
    let expected = [(addr(1), id(1)), (id(2).address(), id(2))];
    assert_eq!(fixture.owners(), expected);
    fixture.offer(name);
    assert_eq!(fixture.peer(addr(1)).queued, 1);
}

#[test]
fn an_address_that_a_peer_has_only_stated_before_is_free_for_one_that_states_it_now() {
    let mut fixture = fixture();
    fixture.accept_claim(1, Some(addr(1)));
    fixture.reconnect_claiming(1, addr(1), addr(9));
    fixture.offer(addr(1));
    assert_eq!(fixture.peer(addr(9)).queued, 1, "it is an alias");
    fixture.accept_claim(2, Some(addr(1)));
    assert_eq!(fixture.owners(), [(addr(1), id(2)), (addr(9), id(1))]);
    assert_eq!(fixture.stats().naming.stated_addrs_contested, 0);
    fixture.peers.assert_named_consistently();
}

#[test]
fn a_peer_without_authentication_that_answers_takes_nothing_from_an_identity() {
    for connected in [true, false] {
        let mut fixture = fixture();
        let link = fixture.accept(addr(1), 1);
        if !connected {
            fixture.lose(addr(1), link);
        }
        fixture.answered((addr(1), addr(1)), 0, addr(1));
        assert_eq!(fixture.stats().naming.unauthenticated_refused, 1);
        let expected: &[_] = if connected { &[(addr(1), id(1))] } else { &[] };
        assert_eq!(fixture.owners(), expected);
        fixture.peers.assert_named_consistently();
    }
}

#[test]
fn a_peer_without_authentication_takes_no_address_at_which_an_identity_is_known() {
    for connected in [true, false] {
        let mut fixture = fixture();
        let name = proxy(443);
        fixture.touch(name).unwrap();
        fixture.answered((name, name), 1, addr(1));
        if !connected {
            let link = fixture.peers.newest_link();
            fixture.lose(addr(1), link);
        }
        // It is registered there, and was dialled there.
        for from in [addr(1), name] {
            fixture.accept(from, 0);
        }
        assert_eq!(fixture.stats().naming.unauthenticated_refused, 2);
        fixture.offer(name);
        fixture.answered((name, name), 0, name);
        assert_eq!(fixture.stats().naming.unauthenticated_refused, 3);
        let expected: &[_] = if connected { &[(addr(1), id(1))] } else { &[] };
        assert_eq!(fixture.owners(), expected);
        let queued = if connected { addr(1) } else { name };
        assert_eq!(fixture.peer(queued).queued, 1);
        fixture.peers.assert_named_consistently();
    }
}

#[test]
fn an_address_is_left_to_a_peer_without_authentication_once_its_owner_was_away_for_long() {
    let mut fixture = fixture();
    let link = fixture.accept(addr(1), 1);
    fixture.now += secs(1000);
    fixture.lose(addr(1), link);
    for seconds_away in [0, 59, 60] {
        let lost_at = fixture.now;
        fixture.now += secs(seconds_away);
        fixture.offer(addr(1));
        fixture.accept(addr(1), 0);
        let stats = fixture.stats();
        if seconds_away < 60 {
            assert!(stats.connections.is_empty(), "after {seconds_away} s");
            assert_eq!(stats.naming.downgraded, 0);
            fixture.now = lost_at;
        }
    }
    assert_eq!(fixture.owners(), [(addr(1), Identity::UNPROVED)]);
    let (peer, naming) = (fixture.peer(addr(1)), fixture.stats().naming);
    assert_eq!((naming.downgraded, naming.unauthenticated_refused), (1, 2));
    assert_eq!(fixture.fx.downgraded, [addr(1)]);
    assert_eq!(peer.dropped.count(DropReason::IdentityChanged), 3);
    // From now on, messages are for the peer that is there.
    fixture.offer(addr(1));
    assert_eq!(fixture.peer(addr(1)).queued, 1);
    fixture.peers.assert_named_consistently();
}

#[test]
fn a_stated_address_at_which_another_peer_answers_leads_to_that_one() {
    for connected in [true, false] {
        let mut fixture = fixture();
        let link = fixture.accept_claim(2, Some(addr(1)));
        fixture.offer(addr(1));
        if !connected {
            fixture.lose(addr(1), link);
        }
        // It is registered under yet another address.
        fixture.answered((addr(1), addr(1)), 3, addr(3));
        assert_eq!(fixture.stats().naming.wrong_identities, 1);
        let mut expected = vec![(addr(3), id(3))];
        if connected {
            expected.push((id(2).address(), id(2)));
            assert_eq!(fixture.peer(id(2).address()).queued, 1);
        }
        assert_eq!(fixture.owners(), expected);
        assert_eq!(fixture.peer(addr(3)).queued, 0, "it was for another");
        fixture.offer(addr(1));
        assert_eq!(fixture.peer(addr(3)).queued, 1);
        fixture.peers.assert_named_consistently();
    }
}

#[test]
fn a_connection_that_is_refused_evicts_none() {
    let config = TransportLayerConfig::default();
    let mut fixture = Fixture::new(config.with_max_connections(3));
    fixture.accept(addr(2), 2);
    fixture.now += secs(1);
    fixture.accept_claim(1, None);
    fixture.accept_claim(1, None);
    fixture.settle();
    fixture.closed.clear();
    for _ in 0..10 {
        fixture.accept_claim(1, None);
    }
    fixture.settle();
    assert_eq!(fixture.closed, [CloseCode::DUPLICATE; 10]);
    assert_eq!(fixture.connections().len(), 3);
}

#[test]
fn an_identity_with_too_many_connections_loses_those_that_are_not_written_to_first() {
    let config = TransportLayerConfig::default();
    let mut fixture = Fixture::new(config.with_max_connections_per_identity(3));
    let link = fixture.connect(addr(1), 101, Direction::Outgoing);
    for _ in 0..10 {
        fixture.now += Duration::from_millis(10);
        fixture.accept(addr(1), 101);
        fixture.step(addr(1));
        fixture.answer_probe(addr(1));
        fixture.step(addr(1));
    }
    let left = fixture.stats().connections;
    assert_eq!(left.len(), 3);
    assert!(
        left.iter().any(|c| c.direction == Direction::Outgoing),
        "{link}"
    );
}

#[test]
fn many_identities_of_one_host_evict_each_other_and_not_a_peer_of_another_host() {
    let config = TransportLayerConfig::default();
    let mut fixture = Fixture::new(config.with_max_connections(8));
    fixture.accept(addr(1), 1);
    for n in 2..90 {
        fixture.now += Duration::from_millis(10);
        fixture.accept_claim(n, None);
    }
    assert_eq!(fixture.connections().len(), 8);
    assert!(
        fixture.connections().contains(&addr(1)),
        "it was idle for longer"
    );
}

/// Returns whether the task of the peer at `addr` starts a dial now.
fn dials(fixture: &mut Fixture, addr: SocketAddr) -> bool {
    loop {
        match fixture.step(addr) {
            Step::Dial(_) => return true,
            Step::Wait(_) | Step::Gone => return false,
            Step::Write { link, .. } => fixture.written(addr, link),
            Step::Keepalive { .. } | Step::Probe { .. } => {}
        }
    }
}

#[test]
fn an_address_that_is_contested_again_is_dialled_again_after_two_seconds() {
    let mut fixture = fixture();
    fixture.accept_claim(1, Some(addr(1)));
    fixture.accept_claim(2, Some(addr(1)));
    assert!(dials(&mut fixture, addr(1)));
    fixture.fail_dial(addr(1), std::io::ErrorKind::ConnectionRefused);
    // This one listens there, and states it once.
    fixture.now += secs(1);
    fixture.accept_claim(3, Some(addr(1)));
    assert!(!dials(&mut fixture, addr(1)));
    fixture.now += secs(1);
    assert!(dials(&mut fixture, addr(1)));
    fixture.fail_dial(addr(1), std::io::ErrorKind::ConnectionRefused);
    assert!(!dials(&mut fixture, addr(1)));
}

#[test]
fn an_address_that_is_contested_during_a_dial_is_dialled_afterwards() {
    let mut fixture = fixture();
    fixture.offer(addr(1));
    assert!(dials(&mut fixture, addr(1)));
    fixture.accept_claim(1, Some(addr(1)));
    fixture.accept_claim(2, Some(addr(1)));
    fixture.fail_dial(addr(1), std::io::ErrorKind::ConnectionRefused);
    assert!(dials(&mut fixture, addr(1)));
}

#[test]
fn an_address_whose_owner_has_answered_is_not_dialled_for_an_earlier_claim() {
    let mut fixture = fixture();
    fixture.accept_claim(1, Some(addr(1)));
    fixture.accept_claim(2, Some(addr(1)));
    assert!(dials(&mut fixture, addr(1)));
    // The next dial is due in two seconds.
    fixture.accept_claim(3, Some(addr(1)));
    let dial = fixture.peers.dial_at(addr(1));
    let conn = fixture.conn(addr(1), 1);
    let (now, fx) = (fixture.now, &mut fixture.fx);
    fixture.peers.dial_succeeded(dial, conn, now, fx);
    assert!(!dials(&mut fixture, addr(1)));
    // The peer needs one of its two connections, and has closed the other one by now.
    let link = fixture.peers.newest_link();
    fixture.lose(addr(1), link);
    fixture.now += secs(10);
    assert!(!dials(&mut fixture, addr(1)));
    assert!(fixture.owners().contains(&(addr(1), id(1))));
}

#[test]
fn a_peer_that_has_lost_a_contested_address_is_not_dialled_at_its_key_address() {
    let mut fixture = fixture();
    fixture.accept_claim(1, Some(addr(1)));
    fixture.accept_claim(2, Some(addr(1)));
    // The second one answers there before the task has dialled.
    fixture.answered((addr(1), addr(1)), 2, addr(1));
    let key = id(1).address();
    assert_eq!(fixture.owners().len(), 2);
    assert!(!dials(&mut fixture, key));
}

#[test]
fn contested_addresses_take_no_place_from_connections() {
    let config = TransportLayerConfig::default();
    let mut fixture = Fixture::new(config.with_max_connections(4));
    fixture.accept(addr(9), 9);
    fixture.now += secs(1);
    for n in [2, 3, 1] {
        fixture.accept_claim(n, Some(addr(n)));
        fixture.now += Duration::from_millis(10);
    }
    // There is no room for a dial but beside them.
    fixture.accept_claim(4, Some(addr(1)));
    assert!(fixture.connections().contains(&addr(9)));
    assert_eq!(fixture.connections().len(), 4);
    for n in 1..4 {
        if fixture.connections().contains(&addr(n)) {
            assert_eq!(dials(&mut fixture, addr(n)), n == 1);
        }
    }
    assert_eq!(fixture.stats().dials, 1);
    assert_eq!(fixture.connections().len(), 4);
}

#[test]
fn a_dial_for_a_contested_address_makes_room_for_a_connection() {
    // Also if an identity has two connections.
    for of_one in [1, 2] {
        let config = TransportLayerConfig::default().with_max_connections(3 + of_one);
        let mut fixture = Fixture::new(config);
        for _ in 0..of_one {
            fixture.accept(addr(9), 9);
        }
        fixture.accept_claim(1, Some(addr(1)));
        fixture.accept_claim(2, Some(addr(1)));
        assert!(dials(&mut fixture, addr(1)));
        fixture.accept(addr(8), 8);
        assert_eq!(fixture.connections().len(), 3 + of_one);
        assert_eq!(fixture.stats().dials_failed, 1);
    }
}

#[test]
fn a_peer_that_moves_to_an_address_that_is_being_dialled_does_not_prevent_the_dial() {
    let mut fixture = fixture();
    fixture.accept_claim(1, None);
    fixture.offer(addr(1));
    assert!(dials(&mut fixture, addr(1)));
    let step = fixture.reconnect_claiming(1, id(1).address(), addr(1));
    assert_eq!(name(&step), "dial");
    fixture.peers.assert_named_consistently();
}

#[test]
fn a_connection_that_drains_is_not_closed_before_it_was_read() {
    let mut fixture = fixture();
    fixture.accept(addr(1), 101);
    let older = fixture.fx.readers[0].link;
    fixture.step(addr(1));
    fixture.connect(addr(1), 101, Direction::Outgoing);
    fixture.reading(addr(1), older, Reading::Paused);
    fixture.step(addr(1));
    fixture.now += secs(3);
    while !matches!(fixture.step(addr(1)), Step::Wait(_)) {}
    assert_eq!(fixture.connections().len(), 2);
    fixture.reading(addr(1), older, Reading::Since(fixture.now));
    fixture.step(addr(1));
    assert_eq!(fixture.connections().len(), 2);
    fixture.now += secs(2);
    fixture.step(addr(1));
    assert_eq!(fixture.connections().len(), 1);
}

#[test]
fn a_batch_that_was_being_written_to_one_identity_is_not_finished_on_a_connection_of_another() {
    let mut fixture = fixture();
    let link = fixture.accept(addr(1), 1);
    fixture.offer(addr(1));
    assert_eq!(name(&fixture.step(addr(1))), "write");
    let key = fixture.key(addr(1));
    fixture.lose(addr(1), link);
    fixture.answered((addr(1), addr(1)), 2, addr(1));
    let mut batch = std::mem::take(&mut fixture.batch);
    let write = (key, link, Writer::Task);
    let (now, fx) = (fixture.now, &mut fixture.fx);
    fixture.peers.written(write, &mut batch, false, now, fx);
    let peer = fixture.peer(addr(1));
    assert_eq!((peer.queued, peer.sent), (0, 0));
    assert_eq!(peer.dropped.count(DropReason::IdentityChanged), 1);
}

#[test]
fn an_address_at_which_its_owner_was_dialled_is_not_dialled_for_a_claim() {
    let mut f = fixture();
    f.connect(addr(1), 1, Direction::Outgoing);
    f.step(addr(1));
    f.take_signal(addr(1));
    f.accept_claim(2, Some(addr(1)));
    assert!(!f.take_signal(addr(1)));
    assert_eq!(name(&f.step(addr(1))), "wait");
    // One that has stated it is.
    f.accept_claim(3, Some(addr(3)));
    f.step(addr(3));
    f.accept_claim(4, Some(addr(3)));
    assert_eq!(name(&f.step(addr(3))), "dial");
}

#[test]
fn a_peer_that_is_reached_at_another_address_keeps_its_own_if_another_one_answers_there() {
    let mut f = fixture();
    let (own, other) = (addr(1), addr(9));
    f.answered((other, other), 1, own);
    assert_eq!(f.owners(), [(own, id(1))]);
    f.answered((own, other), 2, addr(2));
    assert_eq!(f.owners(), [(own, id(1)), (addr(2), id(2))]);
    f.peers.assert_named_consistently();
}

#[test]
fn a_peer_that_has_stated_an_address_keeps_it_if_it_answers_elsewhere_and_states_none() {
    let mut f = fixture();
    let link = f.accept_claim(1, Some(addr(1)));
    f.lose(addr(1), link);
    let mut conn = f.conn(addr(9), 1);
    conn.stated = None;
    let dialled = (addr(1), addr(9));
    f.peers.dialled(dialled, conn, f.now, &mut f.fx);
    assert_eq!(f.owners(), [(addr(1), id(1))]);
}

#[test]
fn an_address_is_left_to_a_peer_that_has_stated_it_once_its_owner_was_gone_for_long() {
    let mut fixture = fixture();
    let (key, lost_at) = (id(2).address(), fixture.now);
    let link = fixture.accept_claim(1, Some(addr(1)));
    fixture.lose(addr(1), link);
    fixture.accept_claim(2, Some(addr(1)));
    assert!(dials(&mut fixture, addr(1)));
    fixture.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
    let task = fixture.key(key);
    let mut deadline = lost_at;
    while deadline < lost_at + secs(60) {
        assert_eq!(fixture.owners(), [(key, id(2))]);
        // It is sent to all the time.
        fixture.offer(addr(1));
        let (batch, fx) = (&mut fixture.batch, &mut fixture.fx);
        match fixture.peers.next_step(task, batch, fixture.now, fx) {
            Step::Wait(Some(at)) => deadline = at,
            Step::Keepalive { link, .. } => {
                fixture.peers.kept_alive(task, link, fixture.now);
                continue;
            }
            step => panic!("{}", name(&step)),
        }
        assert!(deadline > fixture.now, "the task never rests");
        fixture.now = fixture.now.max(deadline);
    }
    assert_eq!(deadline, lost_at + secs(60));
    fixture.offer(addr(1));
    let (batch, fx) = (&mut fixture.batch, &mut fixture.fx);
    fixture.peers.next_step(task, batch, deadline, fx);
    assert_eq!(fixture.owners(), [(addr(1), id(2))]);
    fixture.peers.assert_named_consistently();
    // What is sent there from now on is for this peer, also under its key address.
    for to in [addr(1), key] {
        fixture.offer(to);
    }
    assert_eq!(fixture.stats().peers.len(), 1);
    assert_eq!(fixture.peer(addr(1)).queued, 2);
    // The former owner takes it back by answering there.
    fixture.answered((addr(1), addr(1)), 1, addr(1));
    let mut expected = [(addr(1), id(1)), (key, id(2))];
    expected.sort();
    assert_eq!(fixture.owners(), expected);
    fixture.peers.assert_named_consistently();
}

#[test]
fn an_address_of_a_connected_peer_is_not_left_to_one_that_has_stated_it() {
    let name = proxy(443);
    for stated in [addr(1), name] {
        let config = TransportLayerConfig::default().with_silence_timeout(secs(10_000));
        let mut fixture = Fixture::new(config.with_idle_timeout(secs(10_000)));
        fixture.touch(name).unwrap();
        fixture.answered((name, name), 1, addr(1));
        let link = fixture.peers.newest_link();
        fixture.accept_claim(2, Some(stated));
        let key = id(2).address();
        for _ in 0..10 {
            fixture.now += secs(100);
            fixture.step(key);
        }
        let expected = [(addr(1), id(1)), (key, id(2))];
        assert_eq!(fixture.owners(), expected);
        // The name leads to nobody any more, and the address is kept for a while.
        fixture.lose(addr(1), link);
        fixture.now += secs(60);
        let mut seen = 0;
        fixture.peers.connected_peers(&mut seen);
        fixture.step(key);
        assert_eq!(fixture.owners(), [(stated, id(2))]);
        let changed = fixture.peers.connected_peers(&mut seen);
        assert!(changed.is_some(), "it has another address");
        fixture.peers.assert_named_consistently();
    }
}
