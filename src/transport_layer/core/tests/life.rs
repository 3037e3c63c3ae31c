//! The end of a socket, and the invariants that hold after any operation.

use std::task::Waker;

use proptest::prelude::*;

use super::*;
use crate::credential::{Refusal, Standing};
use crate::net::AcceptFailure;
use crate::transport_layer::OverflowPolicy;
use crate::transport_layer::core::SenderPlace;

#[test]
fn a_closing_socket_takes_no_messages_and_only_dials_that_it_has_begun() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    fixture.offer(addr(1));
    fixture.step(addr(1));
    fixture.peers.start_draining(&mut fixture.fx);
    assert!(matches!(fixture.offer(addr(1)), Offered::Closed(_)));
    assert_eq!(fixture.accept(addr(2), 2), 0);
    assert_ne!(fixture.connect(addr(1), 1, Direction::Outgoing), 0);
    assert!(
        fixture
            .peers
            .poll_drained(&mut None, Waker::noop())
            .is_pending()
    );
    let Step::Write { link, .. } = fixture.step(addr(1)) else {
        panic!("there is a message");
    };
    fixture.written(addr(1), link);
    assert!(
        fixture
            .peers
            .poll_drained(&mut None, Waker::noop())
            .is_ready()
    );
    fixture.peers.close(&mut fixture.fx);
    assert_eq!(fixture.connect(addr(1), 1, Direction::Outgoing), 0);
}

/// Lets the time pass until the task of the peer, which waits, has nothing left to do.
fn assert_forgotten_in_time(fixture: &mut Fixture, addr: SocketAddr) {
    for _ in 0..10 {
        match fixture.step(addr) {
            Step::Gone => return,
            Step::Wait(Some(deadline)) => fixture.now = deadline,
            step => panic!("{step:?}"),
        }
    }
    panic!("not forgotten");
}

#[test]
fn a_peer_whose_connection_ends_during_a_senders_write_is_forgotten_in_time() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let link = fixture.accept(addr(1), 1);
    fixture.step(addr(1));
    fixture.now += secs(1);
    let direct = fixture.direct(addr(1));
    fixture.lose(addr(1), link);
    assert!(fixture.take_signal(addr(1)));
    assert!(matches!(fixture.step(addr(1)), Step::Wait(None)));
    let write = (direct.key, link, Writer::Sender);
    let (batch, fx) = (&mut VecDeque::new(), &mut fixture.fx);
    fixture.peers.written(write, batch, true, fixture.now, fx);
    assert!(
        fixture.take_signal(addr(1)),
        "its task waits without a deadline"
    );
    assert_forgotten_in_time(&mut fixture, addr(1));
}

#[test]
fn a_peer_without_route_is_forgotten_after_its_last_sender_has_stopped_waiting() {
    let mut config = TransportLayerConfig::default();
    config.outgoing.overflow = OverflowPolicy::Backpressure;
    config.outgoing.max_messages = 1;
    let mut fixture = Fixture::new(config);
    // It can be answered only on the connection that it has opened.
    let from = id(1).address();
    let link = fixture.accept(from, 1);
    fixture.offer(from);
    let mut place = SenderPlace::new(from);
    let mut offer_again = |fixture: &mut Fixture| {
        let (now, fx) = (fixture.now, &mut fixture.fx);
        let waker = Waker::noop();
        fixture
            .peers
            .offer_again(message(), &mut place, now, waker, fx)
    };
    assert!(matches!(offer_again(&mut fixture), Offered::Full(_)));
    fixture.lose(from, link);
    assert!(fixture.take_signal(from));
    assert!(matches!(fixture.step(from), Step::Wait(None)));
    assert!(matches!(offer_again(&mut fixture), Offered::Done));
    assert!(
        fixture.take_signal(from),
        "its task waits without a deadline"
    );
    assert_forgotten_in_time(&mut fixture, from);
}

#[test]
fn a_closing_socket_takes_no_messages_for_a_busy_connection() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    fixture.accept(addr(1), 1);
    assert!(matches!(fixture.offer(addr(1)), Offered::Done));
    fixture.peers.start_draining(&mut fixture.fx);
    assert!(matches!(fixture.offer(addr(1)), Offered::Closed(_)));
    assert_eq!(fixture.stats().accepted, 1);
}

#[test]
fn what_a_closed_socket_has_not_sent_is_counted_once_and_reported_to_every_caller() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    fixture.accept(addr(1), 1);
    fixture.offer(addr(1));
    fixture.offer(addr(2));
    assert_eq!(name(&fixture.step(addr(1))), "write");
    assert_eq!(fixture.peers.close(&mut fixture.fx), 2);
    assert_eq!(fixture.peers.close(&mut fixture.fx), 2);
    let (now, fx) = (fixture.now, &mut fixture.fx);
    fixture
        .peers
        .refuse(addr(3), DropReason::EncodeFailed, now, fx);
    let total = fixture.stats().total;
    assert_eq!(total.submitted, 3);
    assert_eq!(total.dropped.count(DropReason::Closed), 2);
    assert_eq!(total.dropped.count(DropReason::EncodeFailed), 1);
}

#[test]
fn a_failed_handshake_is_counted_by_its_reason_and_in_all() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    for (reason, count) in [
        (AcceptFailure::Secret, 1),
        (AcceptFailure::Tls, 1),
        (AcceptFailure::Secret, 2),
    ] {
        assert_eq!(fixture.peers.accept_failed(reason), count);
    }
    let stats = fixture.stats();
    assert_eq!(stats.accept_failed, 3);
    assert_eq!(stats.accept_failures.count(AcceptFailure::Secret), 2);
}

proptest! {
    #[test]
    fn sums_and_bounds_hold_after_any_operation(
        policy in 0..3,
        operations in proptest::collection::vec((0..16, 1..7_u8, 0..4_u8, 0..20_u64), 1..200),
    ) {
        let overflow = match policy {
            0 => OverflowPolicy::DropOldest,
            1 => OverflowPolicy::DropNewest,
            _ => OverflowPolicy::Backpressure,
        };
        let mut config = TransportLayerConfig::default()
            .with_max_connections(4)
            .with_max_unauthenticated_connections(1)
            .with_max_connections_per_identity(2)
            .with_max_connections_per_host(3)
            .with_max_peers(6);
        config.outgoing.overflow = overflow;
        config.outgoing.max_messages = 3;
        let mut fixture = Fixture::new(config);
        let mut writing: Vec<((PeerKey, u64, Writer), usize)> = Vec::new();
        let mut place = SenderPlace::new(addr(1));
        for (operation, peer, identity, time) in operations {
            let to = addr(peer);
            let known = fixture.stats().peers.contains_key(&to);
            match operation {
                0..=2 => if let Offered::Write(direct) = fixture.offer(to) {
                    writing.push(((direct.key, direct.link, Writer::Sender), 1));
                },
                3 => {
                    let (now, fx) = (fixture.now, &mut fixture.fx);
                    let offered = fixture.peers.offer_again(message(), &mut place, now, Waker::noop(), fx);
                    prop_assert!(!matches!(offered, Offered::Write(_) | Offered::Closed(_)));
                }
                4 => fixture.peers.withdraw(&mut place, &mut fixture.fx),
                5 => {
                    let mut conn = fixture.conn(to, identity);
                    conn.grounds = secret(u8::from(time > 10));
                    fixture.enter(conn, Direction::Incoming);
                }
                15 => {
                    let standing = match identity {
                        0 => Standing::Refused(Refusal::Key),
                        1 => Standing::SecretRemoved,
                        2 => Standing::Outdated,
                        _ => Standing::Current,
                    };
                    fixture.judge(|grounds| if grounds == secret(0) { standing } else { Standing::Current });
                }
                12 => {
                    let mut conn = fixture.conn(addr(9), identity);
                    conn.stated = None;
                    fixture.enter(conn, Direction::Incoming);
                }
                13 => {
                    // A name that leads to several members.
                    let mut conn = fixture.conn(addr(7), identity);
                    conn.stated = Some(to);
                    fixture.enter(conn, Direction::Outgoing);
                }
                14 => fixture.peers.each_conn(to, |conn| conn.last_answer = Some(conn.last_heard + secs(time))),
                6 | 7 if known => {
                    // The step may move the peer to another address.
                    let key = fixture.key(to);
                    if let Step::Write { link, .. } = fixture.step(to) {
                        writing.push(((key, link, Writer::Task), fixture.batch.len()));
                    }
                }
                8 => if let Some((write, count)) = writing.pop() {
                    // The network has taken part of the batch, and perhaps not flushed it.
                    let left = count.min(usize::from(identity));
                    let mut batch: VecDeque<_> = (0..left).map(|_| message()).collect();
                    let (flushed, now) = (left == 0, fixture.now);
                    fixture.peers.written(write, &mut batch, flushed, now, &mut fixture.fx);
                },
                9 if known => {
                    let key = fixture.peers.dial_at(to);
                    let mut conn = fixture.conn(to, identity);
                    conn.grounds = secret(u8::from(time > 10));
                    let (now, fx) = (fixture.now, &mut fixture.fx);
                    fixture.peers.dial_succeeded(key, conn, now, fx);
                }
                10 if known => {
                    let key = fixture.peers.dial_at(to);
                    let error = Arc::new(ConnectError::NotDialable { addr: to }.into());
                    let (now, fx) = (fixture.now, &mut fixture.fx);
                    fixture.peers.dial_failed(key, &error, now, fx);
                }
                _ => fixture.now += secs(time),
            }
            fixture.settle();
            fixture.peers.assert_named_consistently();
            let stats = fixture.stats();
            let mut total = stats.total.clone();
            for one in stats.peers.values() {
                prop_assert_eq!(one.submitted, one.sent + one.queued + one.dropped.total());
                prop_assert!(one.queued <= 3);
                total.merge(one);
            }
            prop_assert_eq!(total.submitted, total.sent + total.queued + total.dropped.total());
            let is_unproved = |c: &&crate::transport_layer::ConnectionInfo| {
                c.remote_identity == Identity::UNPROVED
            };
            let unproved = stats.connections.iter().filter(is_unproved).count();
            prop_assert!(unproved <= 1 && stats.connections.len() - unproved <= 4);
            prop_assert!(stats.peers.len() <= 6);
            for connection in &stats.connections {
                let same = |other: &&crate::transport_layer::ConnectionInfo| {
                    other.remote_identity == connection.remote_identity
                        && other.remote_identity != Identity::UNPROVED
                };
                prop_assert!(stats.connections.iter().filter(same).count() <= 2);
                let host = connection.network_addr.ip();
                let of_host = stats.connections.iter().filter(|c| c.network_addr.ip() == host);
                prop_assert!(of_host.filter(|c| !is_unproved(c)).count() <= 3);
            }
        }
        // Closing leaves nothing behind, whatever happened before.
        fixture.peers.close(&mut fixture.fx);
        let stats = fixture.stats();
        prop_assert!(stats.connections.is_empty() && stats.peers.is_empty());
        prop_assert_eq!(stats.total.submitted, stats.total.sent + stats.total.dropped.total());
    }
}

#[test]
fn the_connected_peers_are_reported_whenever_they_have_changed() {
    let mut f = Fixture::new(TransportLayerConfig::default());
    let mut seen = 0;
    let mut changed = |f: &mut Fixture| {
        let peers = f.peers.connected_peers(&mut seen)?;
        Some(peers.iter().map(|peer| peer.addr).collect::<Vec<_>>())
    };
    assert_eq!(changed(&mut f), Some(vec![]));
    assert_eq!(changed(&mut f), None);
    let link = f.accept(addr(1), 1);
    assert_eq!(changed(&mut f), Some(vec![addr(1)]));
    assert_eq!(changed(&mut f), None);
    f.lose(addr(1), link);
    assert_eq!(changed(&mut f), Some(vec![]));
    f.accept(addr(1), 1);
    assert_eq!(changed(&mut f), Some(vec![addr(1)]));
    f.peers.close(&mut f.fx);
    assert_eq!(changed(&mut f), Some(vec![]));
    assert_eq!(changed(&mut f), None);
}

#[test]
fn a_peer_whose_lost_connection_is_still_read_is_forgotten_after_those_that_are_not() {
    let mut f = Fixture::new(
        TransportLayerConfig::default()
            .with_max_connections(1)
            .with_max_peers(2),
    );
    let link = f.accept(addr(1), 1);
    let (key, now) = (f.key(addr(1)), f.now);
    f.peers
        .disconnected(key, link, &LinkEnd::Lost, now, &mut f.fx);
    f.now += secs(1);
    f.touch(addr(2)).unwrap();
    f.now += secs(1);
    f.touch(addr(3)).unwrap();
    let known: Vec<_> = f.stats().peers.into_keys().collect();
    assert_eq!(known, [addr(1), addr(3)]);
}
