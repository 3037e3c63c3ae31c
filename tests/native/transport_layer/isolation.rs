//! A slow, silent or hostile peer neither delays other peers nor evicts their messages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Wake};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use gossip_transport::memory::{DialFault, Faults};
use gossip_transport::net::{NetConnection, NetListener, NetTransport};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{
    DropReason, OutgoingConnection, OverflowPolicy, TransportLayerSocket, TransportLayerTransport,
};
use gossip_transport::{ClusterSecret, Message as _};
use tokio::time::Instant;

use crate::support::layer::{
    Socket, World, addr, check_sums, config, configured, ip, ms, number, numbered, secs, until,
};
use crate::support::{ANY_PORT, member, open, soon};

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_does_not_delay_other_peers() {
    for fault in [DialFault::Ignored, DialFault::HandshakeUnanswered] {
        let world = World::new();
        let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
        for n in 3..100 {
            world
                .network
                .set_faults(ip(1), ip(n), Faults::dialing(fault));
            a.send(addr(n), numbered(0, 8)).await.unwrap();
        }
        a.send(addr(2), numbered(1, 8)).await.unwrap();
        let (from, _) = soon(b.recv()).await.unwrap();
        b.send(from, numbered(2, 8)).await.unwrap();
        // The paused clock moves only when every task waits for it.
        let start = Instant::now();
        soon(a.recv()).await.unwrap();
        assert!(start.elapsed() <= ms(1), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_does_not_delay_other_peers() {
    let world = World::new();
    let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
    let _c = world.open(3, config()).await;
    world.network.set_faults(ip(1), ip(3), Faults::stalled());
    for n in 0..900 {
        a.send(addr(3), numbered(n, 1000)).await.unwrap();
    }
    until(&a, |s| s.connections.len() == 1).await;
    let start = Instant::now();
    for n in 0..100 {
        a.send(addr(3), numbered(n, 1000)).await.unwrap();
        a.send(addr(2), numbered(n, 8)).await.unwrap();
        let (from, message) = soon(b.recv()).await.unwrap();
        assert_eq!(number(&message), n);
        b.send(from, numbered(n, 8)).await.unwrap();
        soon(a.recv()).await.unwrap();
    }
    assert!(start.elapsed() <= ms(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn under_backpressure_only_a_full_queue_makes_its_senders_wait() {
    let world = World::new();
    let full = |c: &mut gossip_transport::TransportLayerConfig| {
        c.outgoing.overflow = OverflowPolicy::Backpressure;
        c.outgoing.max_messages = 1;
    };
    let a = world.open(1, configured(full)).await;
    let b = world.open(2, config()).await;
    world
        .network
        .set_faults(ip(1), ip(3), Faults::dialing(DialFault::Ignored));
    a.send(addr(3), numbered(0, 8)).await.unwrap();
    let mut stuck = std::pin::pin!(a.send(addr(3), numbered(1, 8)));
    assert!(futures::poll!(&mut stuck).is_pending());
    let start = Instant::now();
    a.send(addr(2), numbered(2, 8)).await.unwrap();
    soon(b.recv()).await.unwrap();
    assert!(start.elapsed() <= ms(1));
    // Messages expire and make room.
    soon(stuck).await.unwrap();
    assert!(start.elapsed() >= secs(29));
}

/// Lets each of `flooders` hosts send `flood` messages, and host 2 `few`, before any is received.
async fn flooded(
    flooders: std::ops::Range<u8>,
    flood: u64,
    few: u64,
    change: impl FnOnce(&mut gossip_transport::TransportLayerConfig),
) -> (World, Vec<Socket>, Vec<(SocketAddr, u64)>) {
    let world = World::new();
    let sink = world.open(1, configured(change)).await;
    let mut sockets = Vec::new();
    let quiet = world.open(2, config()).await;
    for n in 0..few / 2 {
        quiet.send(addr(1), numbered(n, 8)).await.unwrap();
    }
    until(&quiet, |s| s.total.sent == few / 2).await;
    let queued = until(&sink, |s| s.total.received == few / 2).await;
    assert_eq!(queued.total.incoming_queued, few / 2);
    for host in flooders {
        let flooder = world.open(host, config()).await;
        for n in 0..flood {
            flooder.send(addr(1), numbered(n, 8)).await.unwrap();
            if n % 500 == 499 {
                until(&flooder, |s| s.total.queued == 0).await;
            }
        }
        until(&flooder, |s| s.total.queued == 0).await;
        sockets.push(flooder);
    }
    for n in few / 2..few {
        quiet.send(addr(1), numbered(n, 8)).await.unwrap();
    }
    until(&quiet, |s| s.total.sent == few).await;
    let expected = few + flood * sockets.len() as u64;
    until(&sink, |s| s.total.received == expected).await;
    let mut got = Vec::new();
    while sink.stats().total.incoming_queued > 0 {
        let (from, message) = soon(sink.recv()).await.unwrap();
        got.push((from, number(&message)));
    }
    until(&sink, |_| true).await;
    sockets.push(quiet);
    sockets.push(sink);
    (world, sockets, got)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_floods_loses_only_its_own_messages() {
    let (_world, sockets, got) = flooded(3..4, 5000, 10, |_| {}).await;
    let quiet: Vec<_> = got.iter().filter(|(from, _)| from.ip() == ip(2)).collect();
    assert_eq!(quiet.len(), 10);
    assert!(quiet.iter().map(|(_, n)| *n).eq(0..10));
    let flood: Vec<_> = got.iter().filter(|(from, _)| from.ip() == ip(3)).collect();
    // Its newest messages are left, as many as one peer may have.
    assert!(flood.iter().map(|(_, n)| *n).eq(4000..5000));
    let dropped = sockets[2].stats().total.incoming_dropped;
    assert_eq!(dropped.count(DropReason::Overflow), 4000);
}

#[tokio::test(start_paused = true)]
async fn when_the_whole_queue_is_full_the_peer_with_the_most_messages_loses_one() {
    let (_world, _sockets, got) = flooded(3..6, 400, 10, |c| c.incoming.max_messages = 310).await;
    let count = |n| got.iter().filter(|(from, _)| from.ip() == ip(n)).count();
    assert_eq!(
        [count(2), count(3), count(4), count(5)],
        [10, 100, 100, 100]
    );
}

#[tokio::test(start_paused = true)]
async fn when_the_queue_is_full_by_bytes_the_peer_with_the_most_bytes_loses_a_message() {
    let (_world, sockets, got) = flooded(3..4, 400, 10, |c| c.incoming.max_bytes = 800).await;
    let count = |n| got.iter().filter(|(from, _)| from.ip() == ip(n)).count();
    assert_eq!([count(2), count(3)], [10, 90]);
    let stats = sockets[2].stats();
    assert_eq!(
        stats.total.incoming_dropped.count(DropReason::Overflow),
        310
    );
}

#[tokio::test(start_paused = true)]
async fn recv_takes_messages_from_all_peers_in_turn() {
    let (_world, _sockets, got) = flooded(3..5, 100, 20, |_| {}).await;
    // After sixty messages, every peer has had the same number of turns.
    let first: Vec<_> = got.iter().take(60).map(|(from, _)| from.ip()).collect();
    for n in 2..5 {
        assert_eq!(first.iter().filter(|from| **from == ip(n)).count(), 20);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_incoming_queue_can_drop_the_newest_message() {
    let (_world, _sockets, got) = flooded(3..4, 100, 10, |c| {
        c.incoming.max_messages_per_peer = 10;
        c.incoming.overflow = OverflowPolicy::DropNewest;
    })
    .await;
    let flood = got.iter().filter(|(from, _)| from.ip() == ip(3));
    assert!(flood.map(|(_, n)| *n).eq(0..10));
}

#[tokio::test(start_paused = true)]
async fn under_backpressure_the_connection_is_not_read_and_nothing_is_lost() {
    let world = World::new();
    let sink = world
        .open(
            1,
            configured(|c| {
                c.incoming.max_messages_per_peer = 10;
                c.incoming.overflow = OverflowPolicy::Backpressure;
            }),
        )
        .await;
    let (b, c) = (world.open(2, config()).await, world.open(3, config()).await);
    // The network buffers 1,024 messages.
    for n in 0..900 {
        b.send(addr(1), numbered(n, 8)).await.unwrap();
    }
    until(&b, |s| s.total.sent == 900).await;
    for n in 900..1500 {
        b.send(addr(1), numbered(n, 8)).await.unwrap();
    }
    tokio::time::sleep(secs(1)).await;
    let stats = b.stats();
    assert!(stats.total.queued > 400, "{stats:#?}");
    assert_eq!(sink.stats().total.incoming_queued, 10);
    // Another peer is still read.
    let start = Instant::now();
    c.send(addr(1), numbered(7, 8)).await.unwrap();
    loop {
        let (from, _) = soon(sink.recv()).await.unwrap();
        if from.ip() == ip(3) {
            break;
        }
    }
    assert!(start.elapsed() <= ms(1));
    let mut got = Vec::new();
    while got.last() != Some(&1499) {
        got.push(number(&soon(sink.recv()).await.unwrap().1));
    }
    assert!(got.windows(2).all(|w| w[1] == w[0] + 1));
    let stats = until(&sink, |s| s.total.received == 1501).await;
    assert_eq!(stats.total.incoming_dropped.total(), 0);
}

type TcpSocket = TransportLayerSocket<TcpTransport, Bytes>;

/// Returns how long a message and its answer take.
async fn round_trip(a: &TcpSocket, b: &TcpSocket) -> Duration {
    let start = Instant::now();
    a.send(b.local_addr(), numbered(1, 8)).await.unwrap();
    let (from, message) = soon(b.recv()).await.unwrap();
    b.send(from, message).await.unwrap();
    soon(a.recv()).await.unwrap();
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tcp_unresponsive_peers_do_not_delay_messages_to_a_responsive_one() {
    let secret = ClusterSecret::generate();
    let (a, b) = (
        open(TcpTransport::default(), member(&secret)).await,
        open(TcpTransport::default(), member(&secret)).await,
    );
    round_trip(&a, &b).await;

    // This peer accepts connections and never answers the handshake.
    let mute = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
    // The backlog of this one is full, so that the system drops further SYNs.
    let full = tokio::net::TcpSocket::new_v4().unwrap();
    full.bind(ANY_PORT).unwrap();
    let full = full.listen(0).unwrap();
    let full_addr = full.local_addr().unwrap();
    let _fill: Vec<_> = (0..4)
        .map(|_| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            gossip_transport::rt::Task::spawn(async move {
                let _held = socket.connect(full_addr).await;
                std::future::pending::<()>().await;
            })
        })
        .collect();
    // This one completes the handshake and never reads.
    let credential = member(&secret);
    let deaf = TcpTransport::default()
        .create_listener(
            ANY_PORT,
            &[<Bytes as gossip_transport::Message>::ALPN],
            &credential,
        )
        .await
        .unwrap();
    let deaf_addr = deaf.local_addr();

    a.send(mute.local_addr().unwrap(), numbered(0, 8))
        .await
        .unwrap();
    a.send(full_addr, numbered(0, 8)).await.unwrap();
    a.send(deaf_addr, numbered(0, 8)).await.unwrap();
    let request = soon(deaf.accept()).await.unwrap();
    let _never_read = soon(gossip_transport::net::NetIncomingRequest::accept(request))
        .await
        .unwrap();
    // Send more than the system buffers, until messages stay in the queue.
    let mut n = 0;
    while a.stats().peers[&deaf_addr].queued < 8 {
        a.send(deaf_addr, numbered(n, 200_000)).await.unwrap();
        n += 1;
        tokio::task::yield_now().await;
    }
    let mut trips = Vec::new();
    for _ in 0..50 {
        a.send(deaf_addr, numbered(0, 8)).await.unwrap();
        trips.push(round_trip(&a, &b).await);
    }
    trips.sort();
    // The median, since other tests share the machine; one wait for a bad peer costs seconds.
    assert!(trips[25] < ms(20), "{trips:?}");
    assert!(trips[49] < ms(1000), "{trips:?}");
}

#[tokio::test(start_paused = true)]
async fn what_an_ended_connection_has_no_room_for_is_dropped() {
    const CONNECTIONS: u64 = 50;
    let world = World::new();
    let receiver = configured(|c| {
        c.incoming.overflow = OverflowPolicy::Backpressure;
        c.incoming.max_messages = 1;
    });
    let b = world.open(2, receiver).await;
    // Each connection breaks before the next one is opened, with a message that has been read.
    let (network, credential) = (world.network.host(ip(1)), world.credential());
    let mut conns = Vec::new();
    for n in 0..CONNECTIONS {
        world.network.break_connections(ip(1), ip(2));
        let alpn = [Bytes::ALPN];
        let conn = network.connect(addr(2), &alpn, &credential).await.unwrap();
        conn.send(numbered(n, 8)).await.unwrap();
        conns.push(conn);
        // The paused clock moves only when every task waits for it.
        tokio::time::sleep(ms(1)).await;
    }
    let stats = b.stats();
    check_sums(&stats);
    assert_eq!(stats.connections.len(), 1);
    assert_eq!(stats.total.incoming_queued, 1);
    // The last one may still wait for room.
    let dropped = stats.total.incoming_dropped.count(DropReason::Overflow);
    assert_eq!(dropped, CONNECTIONS - 2);
    for expected in [0, CONNECTIONS - 1] {
        let (_, message) = soon(b.recv()).await.unwrap();
        assert_eq!(number(&message), expected);
    }
    tokio::time::sleep(ms(1)).await;
    let stats = b.stats();
    assert_eq!((stats.total.received, stats.total.delivered), (50, 2));
}

/// A waiting sender's waker that makes the task of the peer look again each time it is woken.
struct Insistent {
    peer: OutgoingConnection<Bytes>,
    wakes: AtomicUsize,
}

impl Wake for Insistent {
    fn wake(self: Arc<Self>) {
        if self.wakes.fetch_add(1, Ordering::Relaxed) < 10_000 {
            let wish = self.peer.connected(secs(1)).now_or_never();
            assert!(wish.is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_asked_for_all_the_time_leaves_other_tasks_their_turns() {
    let world = World::new();
    let config = configured(|c| {
        c.outgoing.overflow = OverflowPolicy::Backpressure;
        c.outgoing.max_messages = 1;
        c.outgoing.ttl = ms(10);
        (c.backoff_min, c.backoff_max) = (secs(1000), secs(1000));
    });
    let a = world.open(1, config).await;
    a.send(addr(2), numbered(0, 8)).await.unwrap();
    until(&a, |s| s.dials_failed == 1).await;
    let insistent = Arc::new(Insistent {
        peer: a.get_or_create_outgoing_connection(addr(2)).unwrap(),
        wakes: AtomicUsize::new(0),
    });
    let waker = Arc::clone(&insistent).into();
    let mut stuck = std::pin::pin!(a.send(addr(2), numbered(1, 8)));
    let poll = stuck.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(poll.is_pending());
    // Another task, which is always ready.
    let other = tokio::spawn(async move {
        let (mut before, mut most) = (0, 0);
        while before <= 10_000 {
            let wakes = insistent.wakes.load(Ordering::Relaxed);
            most = most.max(wakes - before);
            before = wakes;
            tokio::task::yield_now().await;
        }
        most
    });
    // The message in the queue expires, which makes room.
    tokio::time::advance(ms(20)).await;
    let most = soon(other).await.unwrap();
    // Tokio may poll a task that is always ready 61 times before it looks for others that have yielded.
    assert!(most < 61 * 32, "{most} wakes in a row");
}

/// Completes once each task that could run has run. The caller must be a task, since a runtime polls what it
/// blocks on after many turns of tasks.
async fn let_others_run() {
    let mut is_second = false;
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut is_second, true) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

/// The observer and the node share one thread, so the observer sees what a reader does in a row.
#[tokio::test]
async fn a_peer_that_sends_very_many_short_messages_lets_other_tasks_run_in_between() {
    // 2,048, and the record that exceeds them. Sixteen reads were 8,000.
    const MOST: u64 = 4096;
    let secret = ClusterSecret::generate();
    let node = open::<_, Bytes>(TcpTransport::default(), member(&secret)).await;
    let addr = node.local_addr();
    let credential = member(&secret);
    let goes_on = Arc::new(AtomicBool::new(true));
    let floods = Arc::clone(&goes_on);
    let flooder = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(async {
            let config = configured(|c| c.outgoing.overflow = OverflowPolicy::Backpressure);
            let network = TcpTransport::default();
            let transport = TransportLayerTransport::with_config(network, credential, config);
            let socket = transport.open(ANY_PORT).await.unwrap();
            while floods.load(Ordering::Relaxed) {
                socket.send(addr, numbered(1, 8)).await.unwrap();
            }
        });
    });
    until(&node, |stats| stats.total.received > 0).await;
    let observer = tokio::spawn(async move {
        let mut most = 0;
        for _ in 0..10 {
            // Meanwhile, the buffers of the system are filled.
            std::thread::sleep(ms(100));
            for _ in 0..10 {
                let before = node.stats().total.received;
                let_others_run().await;
                most = most.max(node.stats().total.received - before);
            }
        }
        most
    });
    let most = observer.await.unwrap();
    goes_on.store(false, Ordering::Relaxed);
    flooder.join().unwrap();
    assert!(most > 1000, "{most} messages in a row are no flood");
    assert!(most <= MOST, "{most} messages were read in a row");
}
