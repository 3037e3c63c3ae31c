//! Two connections of one identity.

use super::*;

fn fixture() -> Fixture {
    Fixture::new(TransportLayerConfig::default())
}

impl Fixture {
    /// Lets the peer at `addr` answer the probe on every connection.
    pub(super) fn answer_probe(&mut self, addr: SocketAddr) {
        let now = self.now;
        self.peers.each_conn(addr, |conn| {
            conn.last_heard = now;
            conn.last_answer = Some(now);
        });
    }

    /// Returns the connection that a message to `addr` is written to now, or 0 if it waits.
    pub(super) fn written_to(&mut self, addr: SocketAddr) -> u64 {
        if let Offered::Write(direct) = self.offer(addr) {
            let write = (direct.key, direct.link, Writer::Sender);
            let (batch, now) = (&mut VecDeque::new(), self.now);
            self.peers.written(write, batch, true, now, &mut self.fx);
            return direct.link;
        }
        let mut step = self.step(addr);
        if matches!(step, Step::Probe { .. }) {
            step = self.step(addr);
        }
        match step {
            Step::Write { link, .. } => {
                self.written(addr, link);
                link
            }
            _ => 0,
        }
    }

    /// Returns the codes of the connections that were closed since the last call.
    pub(super) fn codes(&mut self) -> Vec<CloseCode> {
        self.settle();
        std::mem::take(&mut self.closed)
    }
}

#[test]
fn a_second_connection_of_an_identity_is_refused_if_the_first_answers_and_replaces_it_otherwise() {
    for answers in [true, false] {
        let mut fixture = fixture();
        let older = fixture.accept(addr(1), 1);
        fixture.step(addr(1));
        fixture.now += secs(10);
        assert_eq!(fixture.accept(addr(1), 1), 0, "it is not read yet");
        assert_eq!(name(&fixture.step(addr(1))), "probe");
        assert_eq!(fixture.written_to(addr(1)), older);
        fixture.settle();
        fixture.now += Duration::from_millis(999);
        if answers {
            fixture.answer_probe(addr(1));
            fixture.step(addr(1));
            assert_eq!(fixture.codes(), [CloseCode::DUPLICATE]);
            assert_eq!(fixture.stats().naming.duplicates_refused, 1);
            assert_eq!(fixture.written_to(addr(1)), older);
        } else {
            assert_eq!(name(&fixture.step(addr(1))), "wait");
            assert!(fixture.codes().is_empty());
            fixture.now += Duration::from_millis(1);
            fixture.step(addr(1));
            assert!(fixture.fx.readers.is_empty(), "the older one is still read");
            let key = fixture.key(addr(1));
            fixture.peers.reader_ended(key, older, &mut fixture.fx);
            assert_eq!(fixture.fx.readers.len(), 1, "the newer one is read");
            let newer = fixture.fx.readers[0].link;
            assert_eq!(fixture.codes(), [CloseCode::GOING_AWAY]);
            assert_eq!(fixture.written_to(addr(1)), newer);
        }
        assert_eq!(fixture.connections().len(), 1);
    }
}

#[test]
fn a_third_connection_of_an_identity_is_refused_at_once() {
    let mut fixture = fixture();
    fixture.accept(addr(1), 1);
    fixture.accept(addr(1), 1);
    fixture.settle();
    fixture.accept(addr(1), 1);
    assert_eq!(fixture.codes(), [CloseCode::DUPLICATE]);
    assert_eq!(fixture.connections().len(), 2);
}

#[test]
fn of_two_connections_that_both_sides_have_dialled_that_of_the_smaller_identity_stays() {
    use Direction::{Incoming, Outgoing};
    // Our identity is 100.
    for (theirs, first, stays) in [
        (1, Outgoing, Incoming),
        (1, Incoming, Incoming),
        (101, Outgoing, Outgoing),
        (101, Incoming, Outgoing),
    ] {
        let what = format!("theirs is {theirs}, and the first is {first:?}");
        let mut fixture = fixture();
        let second = if first == Incoming {
            Outgoing
        } else {
            Incoming
        };
        let older = fixture.connect(addr(1), theirs, first);
        fixture.step(addr(1));
        fixture.now += secs(6);
        let read = fixture.connect(addr(1), theirs, second);
        let newer = fixture.peers.newest_link();
        let keeps_older = stays == first;
        assert_eq!(read == newer, keeps_older, "{what}");
        assert_eq!(name(&fixture.step(addr(1))), "probe", "{what}");
        // Until the peer has received what was written to the older one, nothing goes to the newer.
        assert_eq!(
            fixture.written_to(addr(1)),
            if keeps_older { older } else { 0 },
            "{what}"
        );
        fixture.now += Duration::from_millis(10);
        fixture.answer_probe(addr(1));
        let expected = if keeps_older { older } else { newer };
        assert_eq!(fixture.written_to(addr(1)), expected, "{what}");
        assert_eq!(fixture.started, [older, newer], "both are read: {what}");
        // The other one is read for a while, and then closed.
        fixture.settle();
        fixture.now += Duration::from_millis(1980);
        fixture.step(addr(1));
        assert!(fixture.codes().is_empty(), "{what}");
        fixture.now += Duration::from_millis(10);
        fixture.step(addr(1));
        assert_eq!(fixture.codes(), [CloseCode::REDUNDANT], "{what}");
        let left = fixture.stats().connections;
        assert_eq!(left.len(), 1, "{what}");
        assert_eq!(left[0].direction, stays, "{what}");
    }
}

#[test]
fn a_fresh_connection_is_not_given_up_because_its_peer_is_too_busy_to_answer() {
    // Our identity is 100, so that of the peer stays.
    let mut fixture = fixture();
    let older = fixture.connect(addr(1), 1, Direction::Incoming);
    fixture.step(addr(1));
    fixture.now += secs(4);
    fixture.connect(addr(1), 1, Direction::Outgoing);
    for _ in 0..3 {
        fixture.now += secs(1);
        assert_eq!(fixture.written_to(addr(1)), older);
    }
    assert_eq!(fixture.codes(), [CloseCode::REDUNDANT]);
}

#[test]
fn when_one_of_two_connections_ends_the_other_is_used() {
    use Direction::{Incoming, Outgoing};
    for theirs in [1, 101] {
        for older_ends in [true, false] {
            let mut fixture = fixture();
            let links = [Outgoing, Incoming].map(|direction| {
                fixture.connect(addr(1), theirs, direction);
                fixture.peers.newest_link()
            });
            let (ended, left) = if older_ends {
                (links[0], links[1])
            } else {
                (links[1], links[0])
            };
            fixture.lose(addr(1), ended);
            let what = format!("{theirs}, {older_ends}");
            assert_eq!(fixture.written_to(addr(1)), left, "{what}");
            fixture.now += secs(5);
            fixture.step(addr(1));
            assert_eq!(fixture.connections().len(), 1, "{what}");
        }
    }
}

#[test]
fn a_peer_that_is_dialled_by_two_addresses_keeps_the_first_connection() {
    let mut fixture = fixture();
    let older = fixture.connect(addr(1), 1, Direction::Outgoing);
    let other = addr(9);
    fixture.offer(other);
    let Step::Dial(NewDial { to, .. }) = fixture.step(other) else {
        panic!("there is a message");
    };
    let key = fixture.peers.dial_at(other);
    let mut conn = fixture.conn(to, 1);
    conn.stated = Some(addr(1));
    let (now, fx) = (fixture.now, &mut fixture.fx);
    fixture.peers.dial_succeeded(key, conn, now, fx);
    assert_eq!(name(&fixture.step(addr(1))), "probe");
    fixture.answer_probe(addr(1));
    fixture.settle();
    assert_eq!(fixture.written_to(addr(1)), older);
    assert_eq!(fixture.codes(), [CloseCode::REDUNDANT]);
    assert_eq!(fixture.stats().naming.duplicates_refused, 0);
    fixture.offer(other);
    assert!(
        !fixture.stats().peers.contains_key(&other),
        "it is an alias"
    );
}

#[test]
fn a_peer_is_dialled_where_its_newer_connection_was_once_both_are_lost() {
    let mut fixture = fixture();
    let older = fixture.connect(addr(1), 1, Direction::Outgoing);
    let mut conn = fixture.conn(addr(9), 1);
    conn.stated = Some(addr(1));
    fixture.enter(conn, Direction::Outgoing);
    let newer = fixture.peers.newest_link();
    for link in [older, newer] {
        fixture.lose(addr(1), link);
    }
    fixture.now += secs(10);
    fixture.offer(addr(1));
    let Step::Dial(NewDial { to, .. }) = fixture.step(addr(1)) else {
        panic!("there is a message");
    };
    assert_eq!(to, addr(9));
}

#[test]
fn a_refusal_because_of_another_connection_is_reported_and_backs_off() {
    let mut fixture = fixture();
    let link = fixture.connect(addr(1), 1, Direction::Outgoing);
    fixture.end(addr(1), link, LinkEnd::Remote(CloseCode::DUPLICATE));
    let (failures, error) = fixture.peers.dial_failure(addr(1)).unwrap();
    assert_eq!(failures, 1);
    assert!(error.is::<crate::transport_layer::DuplicateIdentity>());
    fixture.offer(addr(1));
    assert_eq!(name(&fixture.step(addr(1))), "wait");
    // Also at the address that was dialled, if the peer is registered elsewhere.
    let mut fixture = self::fixture();
    let mut conn = fixture.conn(addr(9), 1);
    conn.stated = Some(addr(1));
    let link = fixture.enter(conn, Direction::Outgoing);
    fixture.end(addr(1), link, LinkEnd::Remote(CloseCode::DUPLICATE));
    assert!(fixture.peers.dial_failure(addr(9)).is_some());
}

#[test]
fn of_two_connections_the_one_that_has_received_nothing_is_evicted() {
    use Direction::{Incoming, Outgoing};
    for theirs in [1, 101] {
        for second in [Incoming, Outgoing] {
            let config = TransportLayerConfig::default().with_max_connections(2);
            let mut fixture = Fixture::new(config);
            let first = if second == Incoming {
                Outgoing
            } else {
                Incoming
            };
            let older = fixture.connect(addr(1), theirs, first);
            assert_eq!(fixture.written_to(addr(1)), older);
            fixture.now += Duration::from_millis(10);
            fixture.connect(addr(1), theirs, second);
            let newer = fixture.peers.newest_link();
            fixture.accept(addr(2), 2);
            assert_eq!(fixture.codes(), [CloseCode::EVICTED]);
            // Messages may be on their way on the older one, so the next ones follow them there.
            assert_ne!(older, newer);
            assert_eq!(fixture.written_to(addr(1)), older, "{theirs}, {second:?}");
        }
    }
}

#[test]
fn without_room_beside_it_a_connection_is_probed_before_it_makes_room_for_another_of_its_peer() {
    for (of_identity, of_host, in_all) in [(1, 100, 100), (100, 1, 100), (100, 100, 1)] {
        for direction in [Direction::Incoming, Direction::Outgoing] {
            let config = TransportLayerConfig::default()
                .with_max_connections_per_identity(of_identity)
                .with_max_connections_per_host(of_host)
                .with_max_connections(in_all);
            let what = format!("{of_identity}, {of_host}, {in_all}, {direction:?}");
            let mut fixture = Fixture::new(config);
            let older = fixture.accept(addr(1), 1);
            fixture.now += secs(10);
            let refused = |direction| match direction {
                Direction::Incoming => CloseCode::DUPLICATE,
                Direction::Outgoing => CloseCode::REDUNDANT,
            };
            // It answers: nothing has been lost, and the next message follows those before it.
            fixture.connect(addr(1), 1, direction);
            assert_eq!(fixture.codes(), [refused(direction)], "{what}");
            assert_eq!(name(&fixture.step(addr(1))), "probe", "{what}");
            fixture.answer_probe(addr(1));
            assert_eq!(fixture.written_to(addr(1)), older, "{what}");
            // It does not answer: the next connection takes its place.
            fixture.now += secs(1);
            fixture.connect(addr(1), 1, direction);
            assert_eq!(name(&fixture.step(addr(1))), "probe", "{what}");
            fixture.now += secs(1);
            fixture.step(addr(1));
            let codes = [refused(direction), CloseCode::GOING_AWAY];
            assert_eq!(fixture.codes(), codes, "{what}");
            let key = fixture.key(addr(1));
            fixture.peers.reader_ended(key, older, &mut fixture.fx);
            assert_ne!(fixture.connect(addr(1), 1, direction), 0, "{what}");
        }
    }
}

#[test]
fn a_connection_that_drains_is_not_written_to_after_another_was() {
    // Whether a message is written, and whether the network takes it.
    for (is_written, is_taken) in [(false, false), (true, false), (true, true)] {
        let mut fixture = fixture();
        let older = fixture.connect(addr(1), 101, Direction::Outgoing);
        let newer = fixture.accept(addr(1), 101);
        fixture.step(addr(1));
        fixture.now += secs(1);
        if is_written {
            let direct = fixture.direct(addr(1));
            assert_eq!(direct.link, older);
            let (write, mut batch) = ((direct.key, older, Writer::Sender), direct.batch);
            if is_taken {
                batch.clear();
            }
            let (now, fx) = (fixture.now, &mut fixture.fx);
            fixture.peers.written(write, &mut batch, is_taken, now, fx);
        }
        fixture.settle();
        fixture.lose(addr(1), older);
        if is_taken {
            assert_eq!(fixture.codes(), [CloseCode::REDUNDANT, CloseCode::NORMAL]);
            assert!(fixture.connections().is_empty());
        } else {
            assert_eq!(fixture.written_to(addr(1)), newer);
        }
    }
}

#[test]
fn a_peer_is_not_forgotten_while_what_was_read_has_not_been_handed_in() {
    let mut fixture = fixture();
    let link = fixture.accept(addr(1), 1);
    let key = fixture.key(addr(1));
    let (end, now) = (LinkEnd::Local(CloseCode::IDLE), fixture.now);
    fixture
        .peers
        .disconnected(key, link, &end, now, &mut fixture.fx);
    fixture.step(addr(1));
    fixture.now += TransportLayerConfig::default().peer_linger;
    assert_eq!(name(&fixture.step(addr(1))), "wait");
    fixture.take_signal(addr(1));
    fixture.peers.reader_ended(key, link, &mut fixture.fx);
    assert!(fixture.take_signal(addr(1)));
    fixture.step(addr(1));
    fixture.now += TransportLayerConfig::default().peer_linger;
    assert_eq!(name(&fixture.step(addr(1))), "gone");
}

#[test]
fn only_of_a_peer_with_two_connections_is_a_write_given_up_that_is_not_taken() {
    let mut f = fixture();
    let [one, other] = [1, 2].map(|n| f.accept(addr(n), n));
    f.accept(addr(1), 1);
    let (with, without) = (f.key(addr(1)), f.key(addr(2)));
    assert!(f.peers.must_leave(with, one) && !f.peers.must_leave(without, other));
}
