//! Changes of trust.

use super::*;
use crate::credential::{Refusal, Standing};
use crate::transport_layer::core::{Judged, Of};

fn fixture() -> Fixture {
    Fixture::new(TransportLayerConfig::default())
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Fixture {
    /// Takes a connection with the peer 1 into service that was made with this secret. Returns its id.
    fn connect_with(&mut self, with: u8, direction: Direction) -> u64 {
        let mut conn = self.conn(addr(1), 1);
        conn.grounds = secret(with);
        self.enter(conn, direction);
        self.peers.newest_link()
    }

    /// Judges all connections.
    pub(super) fn judge(&mut self, judge: impl Fn(Grounds) -> Standing) -> Judged {
        let links = self.peers.to_judge(Of::All);
        let mut standings: Vec<_> = links.iter().map(|l| (l.link, judge(l.grounds))).collect();
        standings.sort_unstable_by_key(|(link, _)| *link);
        self.peers.judged(&standings, self.now, &mut self.fx)
    }

    /// Judges all connections by a keyring of these secrets.
    fn trust(&mut self, keyring: &[u8]) -> Judged {
        self.judge(
            |grounds| match keyring.iter().position(|n| secret(*n) == grounds) {
                Some(0) => Standing::Current,
                Some(_) => Standing::Outdated,
                None => Standing::SecretRemoved,
            },
        )
    }

    /// Carries out the next step of the peer 1, which must be a dial, with a connection that is made with this
    /// secret. Returns its id.
    fn renew(&mut self, with: u8) -> u64 {
        let step = self.step(addr(1));
        assert_eq!(name(&step), "dial");
        let key = self.peers.dial_at(addr(1));
        let mut conn = self.conn(addr(1), 1);
        conn.grounds = secret(with);
        self.peers.dial_succeeded(key, conn, self.now, &mut self.fx);
        self.peers.newest_link()
    }

    /// Returns the codes of the goodbyes that were said since the last call.
    fn goodbyes(&mut self) -> Vec<CloseCode> {
        self.settle();
        std::mem::take(&mut self.left)
    }
}

#[test]
fn the_side_that_has_dialled_replaces_a_connection_once_the_peer_has_left_the_older_one() {
    for (keyring, is_removed) in [(&[2, 1][..], false), (&[2], true)] {
        let mut f = fixture();
        let older = f.connect_with(1, Direction::Outgoing);
        let judged = f.trust(keyring);
        assert_eq!(
            (judged.outdated, judged.removed),
            (usize::from(!is_removed), usize::from(is_removed))
        );
        let newer = f.renew(2);
        f.trust(keyring);
        assert_ne!(name(&f.step(addr(1))), "dial", "one is enough");
        // Until the peer has said goodbye, the older one is used. The newer one is read for its goodbye.
        assert_eq!(f.written_to(addr(1)), older);
        f.settle();
        assert_eq!(f.started, [older, newer]);
        f.now += ms(500);
        assert!(f.holds_back(addr(1), newer) && !f.holds_back(addr(1), older));
        assert_eq!(f.written_to(addr(1)), older);
        f.end(addr(1), older, LinkEnd::Remote(CloseCode::RENEWED));
        assert!(!f.holds_back(addr(1), newer));
        assert_eq!(f.written_to(addr(1)), newer);
        assert!(f.goodbyes().is_empty());
        f.now += secs(5);
        assert_ne!(name(&f.step(addr(1))), "dial");
        assert_eq!(f.connections().len(), 1);
    }
}

#[test]
fn the_side_that_has_accepted_a_newer_connection_leaves_the_older_one_at_once() {
    let mut f = fixture();
    let older = f.connect_with(1, Direction::Incoming);
    assert_eq!(f.written_to(addr(1)), older);
    let newer = f.connect_with(2, Direction::Incoming);
    assert_eq!(f.goodbyes(), [CloseCode::RENEWED]);
    assert_eq!(f.written_to(addr(1)), newer);
    // What the peer has written to the older one comes first.
    assert_eq!(f.started, [older]);
    let key = f.key(addr(1));
    let end = LinkEnd::Remote(CloseCode::RENEWED);
    f.peers.disconnected(key, older, &end, f.now, &mut f.fx);
    f.settle();
    assert_eq!(f.started, [older]);
    f.peers.reader_ended(key, older, &mut f.fx);
    f.settle();
    assert_eq!(f.started, [older, newer]);
    assert_eq!(f.stats().naming.duplicates_refused, 0);
}

#[test]
fn a_peer_that_never_answers_a_goodbye_is_closed() {
    let mut f = fixture();
    f.connect_with(1, Direction::Incoming);
    f.connect_with(2, Direction::Incoming);
    f.now += ms(9_999);
    f.step(addr(1));
    assert!(f.codes().is_empty());
    f.now += ms(1);
    f.step(addr(1));
    assert_eq!(f.codes(), [CloseCode::RENEWED]);
    assert_eq!(f.connections().len(), 1);
}

#[test]
fn what_is_written_to_a_connection_that_is_left_is_given_up_and_not_what_is_written_to_the_one_in_its_place()
 {
    let mut f = fixture();
    let older = f.connect_with(1, Direction::Outgoing);
    f.trust(&[2, 1]);
    let newer = f.renew(2);
    let key = f.key(addr(1));
    assert!(f.peers.must_leave(key, older) && f.peers.must_leave(key, newer));
    // The peer has not said goodbye on the older one when its secret is removed.
    f.trust(&[2]);
    f.now += secs(1);
    assert_eq!(name(&f.step(addr(1))), "probe");
    assert_eq!(name(&f.step(addr(1))), "wait");
    assert_eq!(f.goodbyes(), [CloseCode::UNTRUSTED]);
    assert!(f.peers.must_leave(key, older) && !f.peers.must_leave(key, newer));
    assert_eq!(f.written_to(addr(1)), newer);
}

#[test]
fn a_connection_of_a_removed_secret_is_left_after_a_second_and_closed_before_two() {
    for direction in [Direction::Incoming, Direction::Outgoing] {
        for is_listed in [true, false] {
            let mut f = fixture();
            let older = f.connect_with(1, direction);
            f.trust(&[2]);
            if direction == Direction::Outgoing {
                assert_eq!(name(&f.step(addr(1))), "dial");
                f.fail_dial(addr(1), std::io::ErrorKind::ConnectionRefused);
            }
            f.now += ms(999);
            // A change of something else does not begin a second of its own.
            assert_eq!(f.trust(&[2]).removed, 0);
            if direction == Direction::Outgoing {
                assert_eq!(name(&f.step(addr(1))), "dial");
                f.fail_dial(addr(1), std::io::ErrorKind::ConnectionRefused);
            }
            assert_eq!(f.written_to(addr(1)), older);
            f.now += ms(1);
            f.step(addr(1));
            assert_eq!(f.goodbyes(), [CloseCode::UNTRUSTED]);
            // What is sent now waits for the next connection, and is not dialled before this one has ended.
            assert_eq!(f.written_to(addr(1)), 0);
            assert_eq!(f.peer(addr(1)).queued, 1);
            if is_listed {
                f.end(addr(1), older, LinkEnd::Remote(CloseCode::UNTRUSTED));
            } else {
                f.now += ms(800);
            }
            f.now += secs(if direction == Direction::Outgoing {
                1
            } else {
                0
            });
            assert_eq!(name(&f.step(addr(1))), "dial", "{direction:?}");
            assert!(f.connections().is_empty());
            assert_eq!(f.peer(addr(1)).queued, 1);
        }
    }
}

#[test]
fn messages_for_a_peer_that_nobody_can_dial_wait_while_its_connection_is_being_left() {
    let mut f = fixture();
    let mut conn = f.conn(addr(9), 1);
    (conn.stated, conn.grounds) = (None, secret(1));
    let older = f.enter(conn.clone(), Direction::Incoming);
    let key = id(1).address();
    f.trust(&[2]);
    f.now += secs(1);
    f.step(key);
    assert_eq!(f.goodbyes(), [CloseCode::UNTRUSTED]);
    assert_eq!(f.written_to(key), 0);
    assert_eq!(f.peer(key).queued, 1);
    // It dials again as soon as it has said goodbye, which this side may not have read yet.
    conn.grounds = secret(2);
    assert_eq!(f.enter(conn, Direction::Incoming), 0, "it is not read yet");
    let newer = f.peers.newest_link();
    assert_eq!(name(&f.step(key)), "write");
    f.written(key, newer);
    f.end(key, older, LinkEnd::Remote(CloseCode::UNTRUSTED));
    f.settle();
    assert_eq!(f.started, [older, newer]);
    assert_eq!(f.peer(key).dropped.total(), 0);
}

#[test]
fn the_side_that_has_accepted_an_outdated_connection_keeps_it() {
    let mut f = fixture();
    let older = f.connect_with(1, Direction::Incoming);
    assert_eq!(f.trust(&[2, 1]).outdated, 1);
    f.now += secs(10);
    assert_eq!(f.written_to(addr(1)), older);
    assert!(f.goodbyes().is_empty() && f.codes().is_empty());
}

#[test]
fn a_refused_identity_is_closed_at_once() {
    let mut f = fixture();
    f.connect_with(1, Direction::Incoming);
    let judged = f.judge(|_| Standing::Refused(Refusal::Revoked));
    assert_eq!((judged.refused, judged.reason), (1, Some(Refusal::Revoked)));
    assert_eq!(f.codes(), [CloseCode::UNTRUSTED]);
    assert!(f.goodbyes().is_empty());
}

#[test]
fn a_secret_that_is_removed_and_added_again_ends_nothing() {
    let mut f = fixture();
    let link = f.connect_with(1, Direction::Incoming);
    for _ in 0..10 {
        f.trust(&[2]);
        f.now += ms(999);
        f.step(addr(1));
        f.trust(&[2, 1]);
        f.now += ms(2);
        f.step(addr(1));
    }
    for _ in 0..1000 {
        f.trust(&[2]);
        f.trust(&[2, 1]);
        f.step(addr(1));
    }
    assert_eq!(f.written_to(addr(1)), link);
    assert!(f.goodbyes().is_empty() && f.codes().is_empty());
}

#[test]
fn a_secret_that_flips_makes_one_dial_at_a_time() {
    let mut f = fixture();
    f.connect_with(1, Direction::Outgoing);
    for n in 0..1000 {
        f.trust(if n % 2 == 0 { &[2, 1] } else { &[1, 2] });
        f.step(addr(1));
    }
    assert_eq!(f.stats().dials, 1);
    assert_eq!(f.connections().len(), 1);
}

#[test]
fn a_renewal_that_fails_or_is_refused_is_repeated_ever_later_and_the_older_connection_stays() {
    let mut f = fixture();
    let older = f.connect_with(1, Direction::Outgoing);
    f.trust(&[2, 1]);
    let mut waits = Vec::new();
    for attempt in 0..6 {
        if attempt % 2 == 0 {
            assert_eq!(name(&f.step(addr(1))), "dial");
            f.fail_dial(addr(1), std::io::ErrorKind::ConnectionRefused);
        } else {
            let newer = f.renew(2);
            f.end(addr(1), newer, LinkEnd::Remote(CloseCode::DUPLICATE));
        }
        let mut step = f.step(addr(1));
        if matches!(step, Step::Probe { .. }) {
            f.now += ms(1);
            f.answer_probe(addr(1));
            step = f.step(addr(1));
        }
        let Step::Wait(Some(due)) = step else {
            panic!("it is dialled at once");
        };
        waits.push(due - f.now);
        assert_eq!(f.written_to(addr(1)), older);
        f.now = due;
    }
    assert!(waits[5] > waits[0] * 4, "{waits:?}");
    // A change begins anew.
    f.now -= ms(1);
    f.trust(&[3, 1]);
    assert_eq!(name(&f.step(addr(1))), "dial");
}

#[test]
fn a_change_of_trust_wakes_the_tasks_of_those_peers_that_are_judged() {
    let mut f = fixture();
    f.connect_with(1, Direction::Outgoing);
    f.step(addr(1));
    f.take_signal(addr(1));
    f.trust(&[2, 1]);
    assert!(f.take_signal(addr(1)));
}

#[test]
fn a_connection_that_waits_is_closed_without_a_goodbye_once_its_secret_is_removed() {
    let mut f = fixture();
    let older = f.connect_with(1, Direction::Incoming);
    // Another program with the same key.
    let mut conn = f.conn(addr(1), 1);
    (conn.grounds, conn.stated) = (secret(2), None);
    f.enter(conn, Direction::Incoming);
    f.trust(&[1]);
    f.now += secs(1);
    f.step(addr(1));
    f.step(addr(1));
    assert!(f.goodbyes().is_empty());
    assert_eq!(f.codes(), [CloseCode::UNTRUSTED]);
    assert_eq!(f.written_to(addr(1)), older);
}

#[test]
fn few_connections_are_renewed_at_a_time_and_none_without_room() {
    for (max_connections, of_identity, of_host, expected) in [
        (1024, 2, 9, 16),
        (105, 2, 9, 5),
        (100, 2, 9, 0),
        (1024, 1, 9, 0),
        (1024, 2, 1, 0),
    ] {
        let config = TransportLayerConfig::default()
            .with_max_connections(max_connections)
            .with_max_connections_per_identity(of_identity)
            .with_max_connections_per_host(of_host);
        let mut f = Fixture::new(config);
        for n in 1..=100 {
            let mut conn = f.conn(addr(n), n);
            conn.grounds = secret(1);
            f.enter(conn, Direction::Outgoing);
        }
        f.trust(&[2, 1]);
        let dials = (1..=100).filter(|n| name(&f.step(addr(*n))) == "dial");
        assert_eq!(dials.count(), expected);
        assert!(f.codes().is_empty());
    }
}

#[test]
fn a_connection_that_the_peer_has_lost_does_not_hold_up_the_one_that_replaces_it() {
    let mut f = fixture();
    f.connect_with(1, Direction::Outgoing);
    f.trust(&[2, 1]);
    let newer = f.renew(2);
    assert_eq!(name(&f.step(addr(1))), "probe");
    f.now += secs(3);
    f.step(addr(1));
    assert_eq!(f.codes(), [CloseCode::GOING_AWAY]);
    assert_eq!(f.written_to(addr(1)), newer);
}

#[test]
fn connections_that_the_two_sides_have_dialled_are_told_apart_as_ever() {
    // Both sides see them in another order, so the secrets say nothing.
    for (first, second) in [
        (Direction::Incoming, Direction::Outgoing),
        (Direction::Outgoing, Direction::Incoming),
    ] {
        let mut f = fixture();
        f.connect_with(1, first);
        f.connect_with(2, second);
        assert!(f.goodbyes().is_empty());
        f.now += secs(3);
        f.step(addr(1));
        // The peer's identity is the smaller one.
        assert_eq!(f.stats().connections[0].direction, Direction::Incoming);
    }
}

#[test]
fn another_identity_that_answers_at_an_address_shares_no_entry_with_a_connection_that_is_left() {
    let mut f = fixture();
    f.connect_with(1, Direction::Incoming);
    f.trust(&[2]);
    f.now += ms(1200);
    f.step(addr(1));
    assert_eq!(f.goodbyes(), [CloseCode::UNTRUSTED]);
    f.connect(addr(1), 2, Direction::Outgoing);
    f.peers.assert_named_consistently();
    assert_eq!(f.codes(), [CloseCode::DUPLICATE]);
}
