//! Opening and closing sockets, and futures that are dropped while they wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

use bytes::Bytes;
use futures::FutureExt as _;
use gossip_transport::memory::{DialFault, Faults};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{
    ClosedError, DropReason, OverflowPolicy, SocketStats, TransportLayerConfig,
    TransportLayerTransport,
};
use tokio::time::Instant;

use crate::support::layer::{
    World, addr, config, configured, ip, ms, number, numbered, secs, until,
};
use crate::support::{ANY_PORT, anyone, soon};

fn tcp(config: TransportLayerConfig) -> TransportLayerTransport<TcpTransport, Bytes> {
    let credential = anyone();
    TransportLayerTransport::with_config(TcpTransport::default(), credential, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tcp_a_dropped_socket_frees_its_port_at_once_a_thousand_times() {
    // Connections of the peer end before it has received anything: let it dial again soon.
    let transport = tcp(configured(|c| {
        (c.backoff_min, c.backoff_max) = (ms(1), ms(1))
    }));
    let peer = transport.open(ANY_PORT).await.unwrap();
    let first = transport.open(ANY_PORT).await.unwrap();
    let addr = first.local_addr();
    drop(first);
    for n in 0..1000 {
        let socket = transport.open(addr).await.unwrap();
        assert_eq!(socket.local_addr(), addr);
        // Some sockets have an accepted and a dialled connection, established or being established.
        if n % 50 == 0 {
            // A message written to a connection that has ended unnoticed is lost: that of a socket before, which the
            // peer accepts only now. One written to a connection that lives arrives.
            let from = soon(async {
                loop {
                    until(&peer, |s| s.connections.is_empty()).await;
                    peer.send(addr, numbered(n, 8)).await.unwrap();
                    let is_lost = |s: &SocketStats| s.connections.is_empty() && s.total.queued == 0;
                    tokio::select! {
                        biased;
                        received = socket.recv() => break received.unwrap().0,
                        _ = until(&peer, is_lost) => {}
                    }
                }
            })
            .await;
            socket.send(from, numbered(n, 8)).await.unwrap();
            socket
                .send(peer.local_addr(), numbered(n, 8))
                .await
                .unwrap();
            soon(peer.recv()).await.unwrap();
        } else if n % 10 == 0 {
            socket
                .send(peer.local_addr(), numbered(n, 8))
                .await
                .unwrap();
        }
        drop(socket);
    }
}

#[tokio::test(start_paused = true)]
async fn in_memory_a_dropped_socket_frees_its_address_at_once_a_thousand_times() {
    let world = World::new();
    for n in 0..1000 {
        let socket = world.open(1, config()).await;
        socket.send(addr(2), numbered(n, 8)).await.unwrap();
    }
}

#[tokio::test]
async fn opening_a_port_that_is_in_use_fails() {
    let transport = tcp(config());
    let socket = transport.open(ANY_PORT).await.unwrap();
    assert!(transport.open(socket.local_addr()).await.is_err());
    let world = World::new();
    let _socket = world.open(1, config()).await;
    assert!(world.try_open(1, config()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_socket_ends_its_connections() {
    let world = World::new();
    let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
    a.send(addr(2), numbered(0, 8)).await.unwrap();
    soon(b.recv()).await.unwrap();
    assert_eq!(b.stats().connections.len(), 1);
    let start = Instant::now();
    // A handle that still exists keeps nothing open.
    let handle = a.get_or_create_outgoing_connection(addr(2)).unwrap();
    drop(a);
    until(&b, |s| s.connections.is_empty()).await;
    assert!(start.elapsed() <= ms(5));
    assert!(handle.send(numbered(0, 8)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn shutdown_sends_queued_messages_and_reports_how_many_are_unsent() {
    let world = World::new();
    let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
    world
        .network
        .set_faults(ip(1), ip(3), Faults::dialing(DialFault::Ignored));
    for n in 0..500 {
        a.send(addr(2), numbered(n, 8)).await.unwrap();
    }
    a.send(addr(3), numbered(0, 8)).await.unwrap();
    a.send(addr(3), numbered(1, 8)).await.unwrap();
    let start = Instant::now();
    let report = soon(a.shutdown(secs(3))).await;
    assert_eq!(report.unsent, 2);
    assert!(start.elapsed() >= secs(3) && start.elapsed() < secs(5));
    let stats = until(&a, |_| true).await;
    assert_eq!(stats.total.sent, 500);
    assert_eq!(stats.total.dropped.count(DropReason::Closed), 2);
    assert!(stats.connections.is_empty());
    for n in 0..500 {
        assert_eq!(number(&soon(b.recv()).await.unwrap().1), n);
    }
    // The address is free, and `b` has received a goodbye.
    world.open(1, config()).await;
    until(&b, |s| s.connections.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_frees_the_address_before_it_has_sent_everything() {
    let world = World::new();
    let a = world.open(1, config()).await;
    a.send(addr(2), numbered(1, 8)).await.unwrap();
    let mut shutdown = Box::pin(a.shutdown(secs(5)));
    assert!(futures::poll!(&mut shutdown).is_pending());
    world.open(1, config()).await;
    assert_eq!(soon(shutdown).await.unsent, 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_as_soon_as_everything_is_sent() {
    let world = World::new();
    let (a, _b) = (world.open(1, config()).await, world.open(2, config()).await);
    world
        .network
        .set_faults(ip(1), ip(2), Faults::delayed(ms(100)));
    a.send(addr(2), numbered(0, 8)).await.unwrap();
    let start = Instant::now();
    let report = soon(a.shutdown(secs(1000))).await;
    assert_eq!(report.unsent, 0);
    assert!(start.elapsed() < secs(3), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_recv_returns_what_has_arrived_and_send_returns_the_message() {
    let world = World::new();
    let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
    a.send(addr(2), numbered(1, 8)).await.unwrap();
    a.send(addr(2), numbered(2, 8)).await.unwrap();
    until(&b, |s| s.total.incoming_queued == 2).await;
    // Two concurrent shutdowns have the same effect as one.
    let (first, second) =
        soon(async { tokio::join!(b.shutdown(secs(1)), b.shutdown(secs(2))) }).await;
    assert_eq!((first.unsent, second.unsent), (0, 0));
    soon(b.shutdown(secs(1))).await;
    assert_eq!(number(&soon(b.recv()).await.unwrap().1), 1);
    assert_eq!(number(&soon(b.recv()).await.unwrap().1), 2);
    assert_eq!(soon(b.recv()).await, Err(ClosedError));
    let error = b.send(addr(1), numbered(9, 8)).await.unwrap_err();
    assert_eq!(number(&error.0), 9);
    assert_eq!(
        b.get_or_create_outgoing_connection(addr(1)).err(),
        Some(ClosedError)
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_all_calls_that_wait() {
    let world = World::new();
    let a = world
        .open(
            1,
            configured(|c| {
                c.outgoing.overflow = OverflowPolicy::Backpressure;
                c.outgoing.max_messages = 1;
            }),
        )
        .await;
    world
        .network
        .set_faults(ip(1), ip(2), Faults::dialing(DialFault::Ignored));
    let handle = a.get_or_create_outgoing_connection(addr(2)).unwrap();
    a.send(addr(2), numbered(0, 8)).await.unwrap();
    let waiting = async {
        tokio::join!(
            a.recv(),
            a.recv(),
            a.send(addr(2), numbered(1, 8)),
            handle.connected(secs(1000))
        )
    };
    let start = Instant::now();
    let (waited, _) = soon(async { tokio::join!(waiting, a.shutdown(ms(10))) }).await;
    assert!(waited.0.is_err() && waited.1.is_err() && waited.2.is_err());
    assert!(waited.3.unwrap_err().is::<ClosedError>());
    assert!(start.elapsed() < secs(3));
}

/// A waker that counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Woken {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl futures::task::ArcWake for Woken {
    fn wake_by_ref(this: &Arc<Self>) {
        this.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_recv_loses_neither_a_message_nor_a_wake_up() {
    let world = World::new();
    let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
    let mut given_up = Box::pin(b.recv());
    let mut patient = Box::pin(b.recv());
    assert!(futures::poll!(&mut given_up).is_pending());
    assert!(futures::poll!(&mut patient).is_pending());
    a.send(addr(2), numbered(1, 8)).await.unwrap();
    until(&b, |s| s.total.incoming_queued == 1).await;
    // The first call has been woken, and is dropped before it is polled again.
    drop(given_up);
    // A timeout would poll again on its own, so the wake-ups are counted instead.
    let woken = Arc::new(Woken::default());
    let waker = futures::task::waker(Arc::clone(&woken));
    let mut first = Box::pin(b.recv());
    let mut context = Context::from_waker(&waker);
    assert_eq!(number(&soon(patient).await.unwrap().1), 1);
    assert!(first.as_mut().poll(&mut context).is_pending());
    let mut second = Box::pin(b.recv());
    assert!(second.as_mut().poll(&mut context).is_pending());
    a.send(addr(2), numbered(2, 8)).await.unwrap();
    until(&b, |s| s.total.incoming_queued == 1).await;
    assert_eq!(woken.count(), 1);
    drop(first);
    assert_eq!(woken.count(), 2);
    assert_eq!(number(&soon(second).await.unwrap().1), 2);
}

#[tokio::test(start_paused = true)]
async fn several_callers_of_recv_share_the_messages() {
    let world = World::new();
    let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
    let take = async || {
        let mut got = Vec::new();
        for _ in 0..50 {
            got.push(number(&b.recv().await.unwrap().1));
        }
        got
    };
    let sending = async {
        for n in 0..150 {
            a.send(addr(2), numbered(n, 8)).await.unwrap();
        }
    };
    let (x, y, z, ()) = soon(async { tokio::join!(take(), take(), take(), sending) }).await;
    let mut all = [x, y, z].concat();
    all.sort();
    assert!(all.into_iter().eq(0..150));
}

#[tokio::test]
async fn a_handshake_above_the_limit_ends_the_oldest_one_at_once() {
    // Connections that send nothing, as many as there are, must leave room for a peer.
    let transport = tcp(configured(|c| c.max_pending_handshakes = 4));
    let socket = transport.open(ANY_PORT).await.unwrap();
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(
            tokio::net::TcpStream::connect(socket.local_addr())
                .await
                .unwrap(),
        );
    }
    until(&socket, |s| s.accept_failed == 16).await;
    let peer = transport.open(ANY_PORT).await.unwrap();
    peer.send(socket.local_addr(), numbered(3, 8))
        .await
        .unwrap();
    assert_eq!(number(&soon(socket.recv()).await.unwrap().1), 3);
    assert_eq!(socket.stats().accepted, 1);
}

#[tokio::test]
async fn a_thread_outside_of_the_runtime_may_send() {
    let world = World::new();
    let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
    let handle = a.get_or_create_outgoing_connection(addr(2)).unwrap();
    let a = Arc::new(a);
    let sending = Arc::clone(&a);
    std::thread::spawn(move || {
        // Both start the task of a new peer.
        let _other = sending.get_or_create_outgoing_connection(addr(3)).unwrap();
        for sent in [
            sending.send(addr(4), numbered(0, 8)).now_or_never(),
            handle.send(numbered(1, 8)).now_or_never(),
        ] {
            sent.expect("it never waits").unwrap();
        }
    });
    let (_, message) = soon(b.recv()).await.unwrap();
    assert_eq!(number(&message), 1);
    assert_eq!(a.stats().peers.len(), 3);
    drop(a);
}
