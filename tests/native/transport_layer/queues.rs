//! Outgoing queues: their limits, their order, what they drop and what they count.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use gossip_transport::Message;
use gossip_transport::memory::{DialFault, Faults, MemoryConfig};
use gossip_transport::message::{DecodeError, EncodeError};
use gossip_transport::net::Alpn;
use gossip_transport::transport_layer::{
    DropReason, OverflowPolicy, PeerState, PeerStats, TransportLayerConfig, TransportLayerTransport,
};

use crate::support::layer::{
    Socket, World, addr, check_sums, config, configured, ip, ms, number, numbered, secs, until,
};
use crate::support::soon;

/// Returns a socket with room for `count` messages to host 2, which cannot be reached.
async fn blocked(overflow: OverflowPolicy, count: usize) -> (World, Socket) {
    let world = World::new();
    let faults = Faults::dialing(DialFault::Ignored);
    world.network.set_faults(ip(1), ip(2), faults);
    let socket = world
        .open(
            1,
            configured(|c| {
                c.outgoing.max_messages = count;
                c.outgoing.overflow = overflow;
            }),
        )
        .await;
    (world, socket)
}

/// Makes host 2 reachable and returns the numbers of the next `count` messages that arrive there.
async fn arrivals(world: &World, count: usize) -> Vec<u64> {
    let peer = world.open(2, config()).await;
    world.network.heal();
    let mut got = Vec::new();
    for _ in 0..count {
        got.push(number(&soon(peer.recv()).await.unwrap().1));
    }
    got
}

#[tokio::test(start_paused = true)]
async fn a_message_arrives_and_is_counted_on_both_sides() {
    let world = World::new();
    let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
    a.send(addr(2), numbered(5, 100)).await.unwrap();
    let (_, message) = soon(b.recv()).await.unwrap();
    assert_eq!(number(&message), 5);
    let stats = until(&a, |s| s.total.sent == 1).await;
    let peer = &stats.peers[&addr(2)];
    assert_eq!((peer.submitted, peer.sent, peer.sent_bytes), (1, 1, 100));
    assert_eq!(peer.state, PeerState::Connected);
    assert_eq!((stats.dials, stats.dials_failed), (1, 0));
    let stats = b.stats();
    assert_eq!(stats.accepted, 1);
    let total = &stats.total;
    assert_eq!(
        (total.received, total.received_bytes, total.delivered),
        (1, 100, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_the_oldest_message_by_default() {
    let (world, socket) = blocked(OverflowPolicy::DropOldest, 3).await;
    for n in 0..10 {
        socket.send(addr(2), numbered(n, 8)).await.unwrap();
        assert!(socket.stats().total.queued <= 3);
    }
    let stats = until(&socket, |_| true).await;
    assert_eq!(stats.total.dropped.count(DropReason::Overflow), 7);
    assert_eq!(arrivals(&world, 3).await, [7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_the_newest_message_if_so_configured() {
    let (world, socket) = blocked(OverflowPolicy::DropNewest, 3).await;
    for n in 0..10 {
        socket.send(addr(2), numbered(n, 8)).await.unwrap();
    }
    let stats = until(&socket, |_| true).await;
    assert_eq!(stats.total.dropped.count(DropReason::Overflow), 7);
    assert_eq!(arrivals(&world, 3).await, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn under_backpressure_senders_wait_in_order_and_nothing_is_lost() {
    let (world, socket) = blocked(OverflowPolicy::Backpressure, 2).await;
    let sending = async {
        for n in 0..2 {
            socket.send(addr(2), numbered(n, 8)).await.unwrap();
        }
        let mut waiting = (2..6)
            .map(|n| Box::pin(socket.send(addr(2), numbered(n, 8))))
            .collect::<Vec<_>>();
        poll_fn(|cx| {
            for send in &mut waiting {
                assert!(send.as_mut().poll(cx).is_pending());
            }
            Poll::Ready(())
        })
        .await;
        // A dropped send leaves nothing behind and passes its turn on.
        drop(waiting.remove(1));
        assert_eq!(socket.stats().total.submitted, 2);
        futures::future::join_all(waiting).await
    };
    let (sent, got) = soon(async { tokio::join!(sending, arrivals(&world, 5)) }).await;
    assert!(sent.iter().all(Result::is_ok));
    assert_eq!(got, [0, 1, 2, 4, 5]);
    let stats = until(&socket, |s| s.total.sent == 5).await;
    assert_eq!(stats.total.dropped.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_waits_for_room_returns_its_message_when_the_socket_closes() {
    let (_world, socket) = blocked(OverflowPolicy::Backpressure, 1).await;
    socket.send(addr(2), numbered(0, 8)).await.unwrap();
    let mut waiting = pin!(socket.send(addr(2), numbered(1, 8)));
    assert!(futures::poll!(&mut waiting).is_pending());
    let report = soon(socket.shutdown(ms(50))).await;
    assert_eq!(report.unsent, 1);
    let error = soon(waiting).await.unwrap_err();
    assert_eq!(number(&error.0), 1);
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_bounded_in_bytes_as_well() {
    let (world, _) = blocked(OverflowPolicy::DropOldest, 1).await;
    let socket = world
        .open(3, configured(|c| c.outgoing.max_bytes = 1000))
        .await;
    world
        .network
        .set_faults(ip(3), ip(2), Faults::dialing(DialFault::Ignored));
    for n in 0..10 {
        socket.send(addr(2), numbered(n, 300)).await.unwrap();
        assert!(socket.stats().total.queued_bytes <= 1000);
    }
    let stats = until(&socket, |_| true).await;
    assert_eq!(stats.total.queued, 3);
    assert_eq!(stats.total.dropped.count(DropReason::Overflow), 7);
}

#[tokio::test(start_paused = true)]
async fn a_message_longer_than_a_queue_or_the_network_allows_is_too_large() {
    let mut limits = MemoryConfig::default();
    limits.max_message_len = 500;
    let world = World::with_config(limits);
    for overflow in [
        OverflowPolicy::DropOldest,
        OverflowPolicy::DropNewest,
        OverflowPolicy::Backpressure,
    ] {
        let socket = world
            .open(
                1,
                configured(|c| {
                    c.outgoing.max_bytes = 400;
                    c.outgoing.overflow = overflow;
                }),
            )
            .await;
        for len in [401, 501] {
            soon(socket.send(addr(2), numbered(0, len))).await.unwrap();
        }
        let stats = until(&socket, |_| true).await;
        assert_eq!(stats.total.dropped.count(DropReason::TooLarge), 2);
        drop(socket);
        let socket = world.open(1, config()).await;
        socket.send(addr(2), numbered(0, 501)).await.unwrap();
        let stats = until(&socket, |_| true).await;
        assert_eq!(stats.total.dropped.count(DropReason::TooLarge), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn expired_messages_to_an_unreachable_peer_are_dropped() {
    let world = World::new();
    let socket = world
        .open(
            1,
            configured(|c| {
                c.outgoing.ttl = secs(3);
                // The next dial must come before the second message expires.
                c.backoff_max = ms(500);
            }),
        )
        .await;
    // Host 2 has no listener yet, so the socket backs off.
    socket.send(addr(2), numbered(0, 8)).await.unwrap();
    tokio::time::sleep(secs(2)).await;
    socket.send(addr(2), numbered(1, 8)).await.unwrap();
    let stats = until(&socket, |s| s.total.dropped.count(DropReason::Expired) == 1).await;
    assert_eq!(stats.total.queued, 1);
    assert_eq!(arrivals(&world, 1).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn expired_messages_are_dropped_before_live_ones() {
    let world = World::new();
    let faults = Faults::dialing(DialFault::Ignored);
    world.network.set_faults(ip(1), ip(2), faults);
    let socket = world
        .open(
            1,
            configured(|c| {
                c.outgoing.ttl = secs(3);
                c.outgoing.max_messages = 2;
            }),
        )
        .await;
    socket.send(addr(2), numbered(0, 8)).await.unwrap();
    tokio::time::sleep(secs(2)).await;
    socket.send(addr(2), numbered(1, 8)).await.unwrap();
    tokio::time::sleep(secs(2)).await;
    socket.send(addr(2), numbered(2, 8)).await.unwrap();
    let stats = until(&socket, |_| true).await;
    assert_eq!(stats.total.dropped.count(DropReason::Expired), 1);
    assert_eq!(stats.total.dropped.count(DropReason::Overflow), 0);
    assert_eq!(arrivals(&world, 2).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_message_to_an_address_that_cannot_be_dialled_is_dropped_and_counted() {
    let world = World::new();
    let socket = world.open(1, config()).await;
    let nowhere: [SocketAddr; 2] = [([0, 0, 0, 0], 7000).into(), (ip(2), 0).into()];
    for to in nowhere {
        socket.send(to, numbered(0, 8)).await.unwrap();
    }
    let stats = until(&socket, |_| true).await;
    assert_eq!(stats.total.dropped.count(DropReason::Unroutable), 2);
    assert_eq!(
        stats.peers[&nowhere[0]]
            .dropped
            .count(DropReason::Unroutable),
        1
    );
    tokio::time::sleep(secs(100)).await;
    assert_eq!(socket.stats().dials, 0);
}

/// A message whose first byte decides whether encoding or decoding fails.
#[derive(Debug, PartialEq)]
struct Fickle(u8);

impl Message for Fickle {
    const ALPN: Alpn = Alpn::from_static(b"fickle");
    fn encode(&self, buffer: &mut BytesMut) -> Result<(), EncodeError> {
        if self.0 == b'e' {
            return Err(EncodeError::TooLong {
                field: "it",
                len: 2,
                max: 1,
            });
        }
        buffer.extend_from_slice(&[self.0]);
        Ok(())
    }
    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes[0] == b'd' {
            return Err(DecodeError::Truncated {
                field: "it",
                missing: 1,
            });
        }
        Ok(Self(bytes[0]))
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_cannot_be_encoded_or_decoded_are_counted_and_the_connection_survives() {
    let world = World::new();
    let open = |n| {
        TransportLayerTransport::<_, Fickle>::with_config(
            world.network.host(ip(n)),
            world.credential(),
            TransportLayerConfig::default(),
        )
    };
    let a = open(1).open(addr(1)).await.unwrap();
    let b = open(2).open(addr(2)).await.unwrap();
    for message in [b'e', b'd', b'x'] {
        a.send(addr(2), Fickle(message)).await.unwrap();
    }
    let (from, message) = soon(b.recv()).await.unwrap();
    assert_eq!(message, Fickle(b'x'));
    let stats = until(&a, |s| s.total.sent == 2).await;
    assert_eq!(stats.total.dropped.count(DropReason::EncodeFailed), 1);
    assert_eq!(stats.dials, 1);
    let stats = until(&b, |s| s.total.received == 2).await;
    let peer = &stats.peers[&from];
    assert_eq!(peer.incoming_dropped.count(DropReason::DecodeFailed), 1);
    assert_eq!(stats.connections.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn messages_to_one_peer_arrive_in_order_across_reconnections() {
    let world = World::new();
    let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
    let mut last = None;
    for n in 0..300 {
        a.send(addr(2), numbered(n, 8)).await.unwrap();
        if n % 100 == 50 {
            soon(b.recv())
                .await
                .map(|(_, m)| last = Some(number(&m)))
                .unwrap();
            world.network.break_connections(ip(1), ip(2));
        }
    }
    while last != Some(299) {
        let next = number(&soon(b.recv()).await.unwrap().1);
        assert!(last.is_none_or(|last| last < next), "{next} after {last:?}");
        last = Some(next);
    }
    until(&a, |s| s.total.sent == 300).await;
}

#[tokio::test(start_paused = true)]
async fn the_counters_add_up_in_every_snapshot_while_the_network_breaks_and_heals() {
    for seed in 0..20 {
        let world = World::new();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut sockets = Vec::new();
        for n in 0..4 {
            let overflow = [
                OverflowPolicy::DropOldest,
                OverflowPolicy::DropNewest,
                OverflowPolicy::DropOldest,
                OverflowPolicy::Backpressure,
            ][usize::from(n)];
            let tight = configured(|c| {
                c.outgoing.max_messages = 20;
                c.outgoing.ttl = ms(300);
                c.incoming.max_messages = 30;
                c.incoming.max_messages_per_peer = 15;
                c.incoming.overflow = overflow;
                c.max_connections = 3;
                c.max_peers = 5;
                c.peer_linger = ms(100);
                c.idle_timeout = ms(200);
                c.dial_timeout = ms(100);
                c.write_timeout = ms(100);
            });
            sockets.push(world.open(n, tight).await);
        }
        for _ in 0..1500 {
            let socket = &sockets[random.usize(0..4)];
            let (x, y) = (random.u8(0..4), random.u8(0..6));
            match random.u8(0..40) {
                0 => world.network.break_connections(ip(x), ip(y)),
                1 => world.network.set_faults(ip(x), ip(y), Faults::cut()),
                2 => world.network.set_faults(ip(x), ip(y), Faults::stalled()),
                3 => world.network.heal(),
                4..=8 => tokio::time::sleep(ms(random.u64(1..50))).await,
                9..=16 => drop(futures::poll!(Box::pin(socket.recv()))),
                _ => socket.send(addr(y), numbered(0, 100)).await.unwrap(),
            }
            let stats = socket.stats();
            check_sums(&stats);
            assert!(stats.connections.len() <= 3);
            // A forgotten peer is listed for as long as messages from it are queued.
            let known = |peer: &&PeerStats| peer.incoming_queued == 0;
            assert!(
                stats.peers.values().filter(known).count() <= 5,
                "{stats:#?}"
            );
            assert!(stats.peers.values().all(|peer| peer.queued <= 20));
        }
        for socket in &sockets {
            soon(socket.shutdown(ms(50))).await;
            let stats = socket.stats();
            check_sums(&stats);
            assert_eq!(stats.total.queued, 0);
        }
    }
}
