//! What happens when this side has slept.

use super::*;

fn fixture() -> Fixture {
    Fixture::new(TransportLayerConfig::default())
}

fn closed(fixture: &mut Fixture) -> Vec<CloseCode> {
    fixture.settle();
    std::mem::take(&mut fixture.closed)
}

#[test]
fn a_connection_that_does_not_answer_after_a_sleep_is_closed_and_dialled_again() {
    let mut f = fixture();
    let link = f.connect(addr(1), 1, Direction::Outgoing);
    f.step(addr(1));
    f.now += secs(20);
    f.take_signal(addr(1));
    f.peers.woken(f.now);
    assert!(f.take_signal(addr(1)), "its task must look");
    assert!(matches!(f.step(addr(1)), Step::Probe { link: probed, .. } if probed == link));
    // One probe serves for several events.
    f.peers.woken(f.now);
    let end = f.now + secs(3);
    assert!(matches!(f.step(addr(1)), Step::Wait(Some(at)) if at == end));
    f.now = end;
    assert_eq!(name(&f.step(addr(1))), "wait");
    assert_eq!(closed(&mut f), [CloseCode::GOING_AWAY]);
    f.offer(addr(1));
    assert_eq!(name(&f.step(addr(1))), "dial");
}

#[test]
fn a_connection_whose_peer_is_heard_after_a_sleep_stays() {
    let mut f = fixture();
    f.connect(addr(1), 1, Direction::Outgoing);
    f.now += secs(20);
    f.peers.woken(f.now);
    assert_eq!(name(&f.step(addr(1))), "probe");
    f.now += Duration::from_millis(100);
    let heard = f.now;
    f.peers.each_conn(addr(1), |conn| conn.last_heard = heard);
    f.now += secs(3);
    assert_eq!(name(&f.step(addr(1))), "wait");
    assert_eq!(closed(&mut f), []);
}

#[test]
fn a_connection_that_is_not_read_is_not_in_doubt() {
    let mut f = fixture();
    let link = f.connect(addr(1), 1, Direction::Outgoing);
    f.reading(addr(1), link, Reading::Paused);
    f.peers.woken(f.now);
    assert_eq!(name(&f.step(addr(1))), "wait");
    f.reading(addr(1), link, Reading::Since(f.now));
    f.peers.woken(f.now);
    assert_eq!(name(&f.step(addr(1))), "probe");
    f.reading(addr(1), link, Reading::Paused);
    f.now += secs(10);
    assert_eq!(name(&f.step(addr(1))), "wait");
    assert_eq!(closed(&mut f), []);
    f.reading(addr(1), link, Reading::Since(f.now));
    f.peers.woken(f.now);
    assert_eq!(name(&f.step(addr(1))), "probe");
    f.reading(addr(1), link, Reading::Paused);
    // When the answer would be late: it may have arrived, and is read from now on.
    f.now += secs(3);
    f.reading(addr(1), link, Reading::Since(f.now));
    assert_eq!(name(&f.step(addr(1))), "wait");
    assert_eq!(closed(&mut f), []);
}

#[test]
fn a_wait_before_a_dial_ends_with_a_sleep() {
    let mut f = fixture();
    f.offer(addr(1));
    for _ in 0..8 {
        assert_eq!(name(&f.step(addr(1))), "dial");
        f.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
        f.now += secs(30);
        f.step(addr(1));
        f.offer(addr(1));
    }
    assert_eq!(name(&f.step(addr(1))), "dial");
    f.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
    f.now += secs(1);
    assert_eq!(name(&f.step(addr(1))), "wait");
    f.peers.woken(f.now);
    assert_eq!(name(&f.step(addr(1))), "dial");
}

#[test]
fn only_the_connection_of_a_peer_that_is_suspected_is_in_doubt() {
    let mut f = fixture();
    for n in [1, 2] {
        f.connect(addr(n), n, Direction::Outgoing);
        f.step(addr(n));
        f.take_signal(addr(n));
    }
    f.now += secs(20);
    f.peers.suspected(id(1).address(), Duration::ZERO, f.now);
    assert!(f.take_signal(addr(1)) && !f.take_signal(addr(2)));
    assert_eq!(name(&f.step(addr(1))), "probe");
    assert_eq!(name(&f.step(addr(2))), "wait");
}

#[test]
fn a_connection_on_which_something_was_heard_lately_is_not_in_doubt() {
    let mut f = fixture();
    f.connect(addr(1), 1, Direction::Outgoing);
    f.step(addr(1));
    f.take_signal(addr(1));
    f.now += secs(20);
    let heard = f.now - secs(4);
    f.peers.each_conn(addr(1), |conn| conn.last_heard = heard);
    f.peers.suspected(addr(1), secs(5), f.now);
    assert!(!f.take_signal(addr(1)));
    assert_eq!(name(&f.step(addr(1))), "wait");
    f.now += secs(1);
    f.peers.suspected(addr(1), secs(5), f.now);
    assert!(f.take_signal(addr(1)));
    assert_eq!(name(&f.step(addr(1))), "probe");
}

#[test]
fn a_connection_whose_peer_cannot_answer_a_probe_is_in_doubt_only_if_the_peer_seems_dead() {
    let mut f = fixture();
    // Without a proved identity, as over UDP.
    f.connect(addr(1), 0, Direction::Outgoing);
    f.step(addr(1));
    f.now += secs(20);
    f.peers.suspected(addr(1), secs(5), f.now);
    assert_eq!(name(&f.step(addr(1))), "wait");
    f.peers.suspected(addr(1), Duration::ZERO, f.now);
    assert_eq!(name(&f.step(addr(1))), "probe");
}
