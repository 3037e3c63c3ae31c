//! Addresses from which something comes that proves nothing.

use super::*;

/// The address of the peer.
const PEER: u8 = 1;

/// Returns a core with a connection without authentication that has come by itself.
fn with_datagrams() -> Fixture {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    fixture.accept(addr(PEER), 0);
    fixture.now += secs(1);
    fixture
}

/// Returns the name of the step that follows after the application has asked for the peer.
fn asked(fixture: &mut Fixture) -> &'static str {
    fixture.ask_for(addr(PEER));
    name(&fixture.step(addr(PEER)))
}

/// Ends the dial of the peer with a connection of `identity`.
fn answer(fixture: &mut Fixture, identity: u8) {
    let conn = fixture.conn(addr(PEER), identity);
    let (dial, now) = (fixture.peers.dial_at(addr(PEER)), fixture.now);
    fixture
        .peers
        .dial_succeeded(dial, conn, now, &mut fixture.fx);
    fixture.settle();
}

/// Lets time pass in which datagrams arrive.
fn pass(fixture: &mut Fixture, time: Duration) {
    fixture.now += time;
    let now = fixture.now;
    fixture
        .peers
        .each_conn(addr(PEER), |conn| conn.last_heard = now);
}

fn directions(fixture: &Fixture) -> Vec<Direction> {
    let connections = fixture.stats().connections;
    connections.iter().map(|c| c.direction).collect()
}

#[test]
fn an_address_is_dialled_when_it_is_asked_for_and_not_because_something_comes_from_it() {
    let mut fixture = with_datagrams();
    for _ in 0..10 {
        fixture.accept(addr(PEER), 0);
        assert_ne!(name(&fixture.step(addr(PEER))), "dial");
        // An answer to what has come.
        drop(fixture.offer(addr(PEER)));
        assert_ne!(name(&fixture.step(addr(PEER))), "dial");
        fixture.now += secs(1);
    }
    assert_eq!(asked(&mut fixture), "dial");
    assert_eq!(fixture.stats().dials, 1);
    // Not again while it is being dialled.
    assert_ne!(asked(&mut fixture), "dial");
}

#[test]
fn an_identity_that_answers_takes_the_address_and_what_waits_for_whoever_is_there() {
    let mut fixture = with_datagrams();
    assert_eq!(asked(&mut fixture), "dial");
    answer(&mut fixture, 1);
    assert_eq!(fixture.peers.owner_of(addr(PEER)), Some(id(1)));
    assert_eq!(directions(&fixture), [Direction::Outgoing]);
    // From now on, nothing that proves nothing comes near it.
    fixture.accept(addr(PEER), 0);
    assert_eq!(fixture.stats().naming.unauthenticated_refused, 1);
    for _ in 0..200 {
        fixture.now += secs(1);
        assert_ne!(asked(&mut fixture), "dial");
    }
}

#[test]
fn an_address_at_which_nobody_proves_an_identity_is_dialled_again_every_two_minutes() {
    let mut fixture = with_datagrams();
    assert_eq!(asked(&mut fixture), "dial");
    answer(&mut fixture, 0);
    let both = [Direction::Incoming, Direction::Outgoing];
    assert_eq!(directions(&fixture), both);
    for _ in 0..3 {
        pass(&mut fixture, secs(119));
        assert_ne!(asked(&mut fixture), "dial");
        pass(&mut fixture, secs(1));
        assert_eq!(asked(&mut fixture), "dial");
        answer(&mut fixture, 0);
        let mut dialled = directions(&fixture);
        dialled.retain(|direction| *direction == Direction::Outgoing);
        assert_eq!(dialled.len(), 1, "the newest dial is the only one");
    }
    // One that was dialled for another reason is no different.
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    fixture.connect(addr(PEER), 0, Direction::Outgoing);
    pass(&mut fixture, secs(119));
    assert_ne!(asked(&mut fixture), "dial");
    pass(&mut fixture, secs(1));
    assert_eq!(asked(&mut fixture), "dial");
}

#[test]
fn a_dial_that_fails_is_repeated_after_ten_seconds_and_costs_the_connection_nothing() {
    let mut fixture = with_datagrams();
    for _ in 0..3 {
        assert_eq!(asked(&mut fixture), "dial");
        fixture.fail_dial(addr(PEER), std::io::ErrorKind::ConnectionRefused);
        assert_eq!(directions(&fixture), [Direction::Incoming]);
        fixture.now += secs(9);
        assert_ne!(asked(&mut fixture), "dial");
        fixture.now += secs(1);
    }
}
