//! Connections: when they are dialled, reused, kept open and closed.

use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::NetCredential;
use gossip_transport::memory::{
    DialFault, Faults, MemoryConfig, MemoryConnection, MemoryListener, MemoryTransport,
};
use gossip_transport::net::{Alpn, ConnectError, NetTransport};
use gossip_transport::transport_layer::{
    ClosedError, Direction, DropReason, OverflowPolicy, PeerState, TransportLayerTransport,
};
use tokio::time::{Instant, sleep};

use crate::support::layer::{
    World, addr, config, configured, ip, ms, number, numbered, secs, until,
};
use crate::support::soon;

#[tokio::test(start_paused = true)]
async fn a_reply_uses_the_connection_that_the_message_came_over() {
    let world = World::new();
    let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
    // Host 1 cannot be dialled, as if it were a browser.
    world
        .network
        .set_faults(ip(2), ip(1), Faults::dialing(DialFault::Refused));
    a.send(addr(2), numbered(1, 8)).await.unwrap();
    let (from, _) = soon(b.recv()).await.unwrap();
    assert_eq!(from, addr(1), "it states the address at which it listens");
    b.send(from, numbered(2, 8)).await.unwrap();
    let (from, message) = soon(a.recv()).await.unwrap();
    assert_eq!((from, number(&message)), (addr(2), 2));
    let stats = b.stats();
    assert_eq!((stats.dials, stats.accepted), (0, 1));
    assert_eq!(stats.connections[0].direction, Direction::Incoming);
    assert_eq!(a.stats().connections[0].direction, Direction::Outgoing);
}

#[tokio::test(start_paused = true)]
async fn two_nodes_may_dial_each_other_and_both_connections_work() {
    let world = World::new();
    let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
    a.send(addr(2), numbered(1, 8)).await.unwrap();
    b.send(addr(1), numbered(2, 8)).await.unwrap();
    let (to_a, _) = soon(b.recv()).await.unwrap();
    let (to_b, _) = soon(a.recv()).await.unwrap();
    assert_eq!(a.stats().connections.len(), 2);
    a.send(to_b, numbered(3, 8)).await.unwrap();
    b.send(to_a, numbered(4, 8)).await.unwrap();
    assert_eq!(number(&soon(b.recv()).await.unwrap().1), 3);
    assert_eq!(number(&soon(a.recv()).await.unwrap().1), 4);
    assert_eq!((a.stats().dials, b.stats().dials), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn dials_of_an_unreachable_peer_become_less_frequent() {
    let world = World::new();
    let socket = world
        .open(
            1,
            configured(|c| {
                c.backoff_min = ms(100);
                c.backoff_max = secs(2);
                c.outgoing.ttl = secs(3600);
            }),
        )
        .await;
    socket.send(addr(2), numbered(0, 8)).await.unwrap();
    let mut begun = Vec::new();
    for dials in 1..=9 {
        until(&socket, |s| s.dials_failed == dials).await;
        begun.push(Instant::now());
        assert_eq!(socket.stats().peers[&addr(2)].state, PeerState::BackingOff);
    }
    let waits: Vec<_> = begun.windows(2).map(|w| w[1] - w[0]).collect();
    for (wait, whole) in waits
        .iter()
        .zip([100, 200, 400, 800, 1600, 2000, 2000, 2000])
    {
        let whole = Duration::from_millis(whole);
        // `until` checks once in a millisecond.
        assert!(
            *wait >= whole / 2 - ms(3) && *wait <= whole + ms(3),
            "{waits:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_dialled_while_there_is_nothing_to_send() {
    let world = World::new();
    let socket = world
        .open(1, configured(|c| c.outgoing.ttl = secs(2)))
        .await;
    socket.get_or_create_outgoing_connection(addr(2)).unwrap();
    sleep(secs(30)).await;
    assert_eq!(socket.stats().dials, 0);
    socket.send(addr(2), numbered(0, 8)).await.unwrap();
    until(&socket, |s| s.total.dropped.count(DropReason::Expired) == 1).await;
    let dials = socket.stats().dials;
    assert!(dials >= 2);
    sleep(secs(300)).await;
    assert_eq!(socket.stats().dials, dials);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_not_dialled_again_until_there_is_something_to_send() {
    let world = World::new();
    let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
    a.send(addr(2), numbered(0, 8)).await.unwrap();
    soon(b.recv()).await.unwrap();
    world.network.break_connections(ip(1), ip(2));
    until(&a, |s| s.connections.is_empty()).await;
    sleep(secs(30)).await;
    assert_eq!(a.stats().dials, 1);
    a.send(addr(2), numbered(1, 8)).await.unwrap();
    soon(b.recv()).await.unwrap();
    assert_eq!(a.stats().dials, 2);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_accepts_and_hangs_up_is_not_dialled_in_a_tight_loop() {
    let world = World::new();
    let a = world.open(1, config()).await;
    let b = world.open(2, config()).await;
    let start = Instant::now();
    let breaking = async {
        loop {
            sleep(ms(2)).await;
            world.network.break_connections(ip(1), ip(2));
        }
    };
    let sending = async {
        while start.elapsed() < secs(20) {
            a.send(addr(2), numbered(0, 8)).await.unwrap();
            sleep(ms(5)).await;
        }
    };
    futures::future::select(Box::pin(breaking), Box::pin(sending)).await;
    let dials = a.stats().dials;
    assert!((3..20).contains(&dials), "{dials} dials");
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_dial_fails_after_the_dial_timeout() {
    let world = World::new();
    for fault in [DialFault::Ignored, DialFault::HandshakeUnanswered] {
        world
            .network
            .set_faults(ip(1), ip(2), Faults::dialing(fault));
        let socket = world
            .open(1, configured(|c| c.dial_timeout = secs(4)))
            .await;
        let start = Instant::now();
        socket.send(addr(2), numbered(0, 8)).await.unwrap();
        until(&socket, |s| s.peers[&addr(2)].state == PeerState::Dialing).await;
        until(&socket, |s| s.dials_failed == 1).await;
        assert!(start.elapsed() >= secs(4) && start.elapsed() < ms(4010));
    }
}

#[tokio::test(start_paused = true)]
async fn connected_dials_and_returns_our_address_as_the_peer_sees_it() {
    let world = World::new();
    let (a, b) = (world.open(1, config()).await, world.open(2, config()).await);
    let connection = a.get_or_create_outgoing_connection(addr(2)).unwrap();
    assert_eq!(connection.peer_addr(), addr(2));
    let info = soon(connection.connected(secs(1))).await.unwrap();
    assert_eq!(info.remote_addr, addr(2));
    assert_eq!(info.remote_identity, b.local_identity());
    connection.send(numbered(0, 8)).await.unwrap();
    let (from, _) = soon(b.recv()).await.unwrap();
    assert_eq!(from, a.local_addr());
    assert_eq!(b.stats().connections[0].network_addr, info.local_addr);
}

#[tokio::test(start_paused = true)]
async fn connected_fails_with_the_error_of_the_last_dial() {
    let world = World::new();
    let a = world.open(1, config()).await;
    let connection = a.get_or_create_outgoing_connection(addr(2)).unwrap();
    let error = soon(connection.connected(secs(1))).await.unwrap_err();
    let refused = error.chain().find_map(|e| e.downcast_ref());
    assert!(
        matches!(refused, Some(ConnectError::Io { .. })),
        "{error:#}"
    );
    let nowhere = a
        .get_or_create_outgoing_connection((ip(2), 0).into())
        .unwrap();
    let error = soon(nowhere.connected(secs(1))).await.unwrap_err();
    assert!(matches!(
        error.downcast_ref(),
        Some(ConnectError::NotDialable { .. })
    ));
    // Nothing waits for a connection any more, so nothing is dialled.
    let dials = a.stats().dials;
    sleep(secs(100)).await;
    assert_eq!(a.stats().dials, dials);
    drop(a);
    let error = soon(connection.connected(secs(1))).await.unwrap_err();
    assert!(error.is::<ClosedError>());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let world = World::new();
    let idle = || configured(|c| c.idle_timeout = secs(60));
    let a = world.open(1, idle()).await;
    let (b, c) = (world.open(2, config()).await, world.open(3, config()).await);
    a.send(addr(2), numbered(0, 8)).await.unwrap();
    a.send(addr(3), numbered(0, 8)).await.unwrap();
    let (from, _) = soon(b.recv()).await.unwrap();
    soon(c.recv()).await.unwrap();
    for _ in 0..4 {
        sleep(secs(40)).await;
        // Received messages keep a connection open just as sent ones do.
        b.send(from, numbered(0, 8)).await.unwrap();
        soon(a.recv()).await.unwrap();
    }
    let stats = a.stats();
    assert_eq!(stats.connections.len(), 1);
    assert_eq!(stats.connections[0].remote_addr, addr(2));
    until(&c, |s| s.connections.is_empty()).await;
    sleep(secs(70)).await;
    assert!(a.stats().connections.is_empty());
}

#[tokio::test(start_paused = true)]
async fn keepalives_keep_a_quiet_connection_open_and_reveal_a_dead_link() {
    let world = World::new();
    let quiet = || configured(|c| c.idle_timeout = secs(100_000));
    let (a, b) = (world.open(1, quiet()).await, world.open(2, quiet()).await);
    a.send(addr(2), numbered(0, 8)).await.unwrap();
    soon(b.recv()).await.unwrap();
    for _ in 0..100 {
        sleep(secs(60)).await;
        assert_eq!(a.stats().connections.len(), 1);
        assert!(b.stats().connections[0].silence <= secs(26));
    }
    assert_eq!(a.stats().dials, 1);
    world
        .network
        .set_faults_between(ip(1), ip(2), Faults::stalled());
    let start = Instant::now();
    until(&a, |s| s.connections.is_empty()).await;
    until(&b, |s| s.connections.is_empty()).await;
    assert!(start.elapsed() < secs(100), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_being_read_is_not_considered_dead() {
    let world = World::new();
    let a = world.open(1, config()).await;
    let b = world
        .open(
            2,
            configured(|c| {
                c.incoming.max_messages = 1;
                c.incoming.overflow = OverflowPolicy::Backpressure;
                c.idle_timeout = secs(100_000);
            }),
        )
        .await;
    for n in 0..3 {
        a.send(addr(2), numbered(n, 8)).await.unwrap();
    }
    until(&b, |s| s.total.incoming_queued == 1).await;
    sleep(secs(200)).await;
    for n in 0..3 {
        assert_eq!(number(&soon(b.recv()).await.unwrap().1), n);
    }
    assert_eq!(a.stats().dials, 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_loses_its_connection_but_not_its_messages() {
    let world = World::new();
    let a = world
        .open(1, configured(|c| c.outgoing.ttl = secs(1000)))
        .await;
    let b = world.open(2, config()).await;
    a.send(addr(2), numbered(0, 8)).await.unwrap();
    soon(b.recv()).await.unwrap();
    world
        .network
        .set_faults_between(ip(1), ip(2), Faults::stalled());
    // More than the network buffers.
    for n in 0..600 {
        a.send(addr(2), numbered(n, 1000)).await.unwrap();
    }
    let start = Instant::now();
    until(&a, |s| s.connections.is_empty() || s.dials == 2).await;
    assert!(start.elapsed() >= secs(29) && start.elapsed() < secs(35));
    world.network.heal();
    let mut last = 0;
    while last != 599 {
        last = number(&soon(b.recv()).await.unwrap().1);
    }
    until(&a, |s| s.total.queued == 0 && s.total.dropped.total() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_message_has_as_much_time_as_its_256_kib_would_have_each() {
    const KIB_256: usize = 256 << 10;
    // Not a multiple of the time after which a write looks whether the peer has connected again.
    let limit = ms(1100);
    for (len, limits) in [(1000, 1), (KIB_256, 1), (KIB_256 + 1, 2), (4 * KIB_256, 4)] {
        // The network takes one message, and no more before that has been received.
        let world = World::with_config(MemoryConfig::default().with_pipe_messages(1));
        let a = world.open(1, configured(|c| c.write_timeout = limit)).await;
        let _b = world.open(2, config()).await;
        world.network.set_faults(ip(1), ip(2), Faults::stalled());
        a.send(addr(2), numbered(0, 8)).await.unwrap();
        until(&a, |s| s.total.sent == 1).await;
        let start = Instant::now();
        a.send(addr(2), numbered(1, len)).await.unwrap();
        // The peer is dialled again when it has not read in time.
        until(&a, |s| s.dials == 2).await;
        let (elapsed, expected) = (start.elapsed(), limit * limits);
        assert!(elapsed >= expected, "{len} bytes: {elapsed:?}");
        assert!(elapsed < expected + ms(50), "{len} bytes: {elapsed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_the_least_recently_used_connection_is_closed() {
    let world = World::new();
    let a = world.open(1, configured(|c| c.max_connections = 3)).await;
    let mut peers = Vec::new();
    for n in 2..=5 {
        peers.push(world.open(n, config()).await);
    }
    let reach = async |n: u8| {
        a.send(addr(n), numbered(0, 8)).await.unwrap();
        soon(peers[usize::from(n) - 2].recv()).await.unwrap();
        let stats = a.stats();
        assert!(stats.connections.len() <= 3);
        sleep(ms(10)).await;
    };
    for n in [2, 3, 4, 2, 5] {
        reach(n).await;
    }
    let mut known: Vec<_> = a
        .stats()
        .connections
        .iter()
        .map(|c| c.remote_addr)
        .collect();
    known.sort();
    assert_eq!(known, [addr(2), addr(4), addr(5)]);
    until(&peers[1], |s| s.connections.is_empty()).await;
    // A connection with queued messages stays, however long it has been unused.
    world.network.set_faults(ip(1), ip(4), Faults::stalled());
    for n in 0..600 {
        a.send(addr(4), numbered(n, 1000)).await.unwrap();
    }
    sleep(ms(10)).await;
    for n in [2, 5, 3] {
        reach(n).await;
    }
    let known = a.stats().connections;
    assert!(known.iter().any(|c| c.remote_addr == addr(4)), "{known:?}");
}

#[tokio::test(start_paused = true)]
async fn accepted_connections_and_dials_count_towards_the_limit() {
    let world = World::new();
    let a = world.open(1, configured(|c| c.max_connections = 2)).await;
    for n in 2..=3 {
        world
            .network
            .set_faults(ip(1), ip(n), Faults::dialing(DialFault::Ignored));
        a.send(addr(n), numbered(0, 8)).await.unwrap();
        sleep(ms(1)).await;
    }
    assert_eq!(a.stats().dials, 2);
    let b = world.open(4, config()).await;
    b.send(addr(1), numbered(7, 8)).await.unwrap();
    let (_, message) = soon(a.recv()).await.unwrap();
    assert_eq!(number(&message), 7);
    let stats = until(&a, |_| true).await;
    // The oldest dial was cancelled to make room, and no message was lost.
    assert_eq!((stats.connections.len(), stats.dials_failed), (1, 1));
    assert_eq!(stats.total.queued, 2);
}

#[tokio::test(start_paused = true)]
async fn the_counts_of_a_forgotten_peer_stay_in_the_totals() {
    let world = World::new();
    let a = world
        .open(
            1,
            configured(|c| {
                c.idle_timeout = secs(10);
                c.peer_linger = secs(20);
                c.outgoing.ttl = secs(1);
            }),
        )
        .await;
    let b = world.open(2, config()).await;
    a.send(addr(2), numbered(0, 8)).await.unwrap();
    a.send(addr(3), numbered(0, 8)).await.unwrap();
    let (from, _) = soon(b.recv()).await.unwrap();
    b.send(from, numbered(0, 8)).await.unwrap();
    soon(a.recv()).await.unwrap();
    let stats = until(&a, |s| s.peers.is_empty()).await;
    let total = &stats.total;
    assert_eq!((total.submitted, total.sent, total.delivered), (2, 1, 1));
    assert_eq!(total.dropped.count(DropReason::Expired), 1);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_peers_is_bounded() {
    let world = World::new();
    let a = world
        .open(
            1,
            configured(|c| {
                c.max_connections = 4;
                c.max_peers = 10;
                c.outgoing.ttl = secs(1000);
            }),
        )
        .await;
    for n in 2..200 {
        a.send(addr(n), numbered(0, 8)).await.unwrap();
        sleep(ms(1)).await;
        assert!(a.stats().peers.len() <= 10);
    }
    let stats = until(&a, |_| true).await;
    assert_eq!(stats.total.submitted, 198);
    assert_eq!(stats.total.dropped.count(DropReason::Overflow), 188);
    assert!(stats.peers.contains_key(&addr(199)));
}

/// A network that forbids every dial, as a browser does on a secure page.
#[derive(Clone)]
struct Forbidden(MemoryTransport);

impl NetTransport for Forbidden {
    type Listener = MemoryListener;
    type Connection = MemoryConnection;
    async fn create_listener(
        &self,
        addr: SocketAddr,
        alpn: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<MemoryListener> {
        self.0.create_listener(addr, alpn, credential).await
    }
    async fn connect(
        &self,
        addr: SocketAddr,
        _alpn: &[Alpn],
        _credential: &NetCredential,
    ) -> anyhow::Result<MemoryConnection> {
        let help = String::from("use wss");
        Err(ConnectError::NotPermitted { addr, help }.into())
    }
    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        self.0.resolve(name).await
    }
}

#[tokio::test(start_paused = true)]
async fn queued_messages_are_dropped_if_no_retry_of_the_dial_can_help() {
    let world = World::new();
    let transport = TransportLayerTransport::<_, bytes::Bytes>::new(
        Forbidden(world.network.host(ip(1))),
        world.credential(),
    );
    let socket = transport.open(addr(1)).await.unwrap();
    socket.send(addr(2), numbered(0, 8)).await.unwrap();
    let stats = until(&socket, |s| s.dials_failed == 1).await;
    assert_eq!(stats.total.dropped.count(DropReason::DialFailed), 1);
    let connection = socket.get_or_create_outgoing_connection(addr(2)).unwrap();
    let start = Instant::now();
    let error = soon(connection.connected(secs(500))).await.unwrap_err();
    let reason = error.chain().find_map(|e| e.downcast_ref());
    assert!(matches!(reason, Some(ConnectError::NotPermitted { .. })));
    // It fails at once instead of after its time limit.
    assert!(start.elapsed() < secs(1));
}

#[tokio::test(start_paused = true)]
async fn more_callers_than_peers_wait_for_connections_without_dialling_all_the_time() {
    let world = World::new();
    let few = configured(|c| (c.max_connections, c.max_peers) = (1, 2));
    let a = world.open(1, few).await;
    let handles = (2..6).map(|n| a.get_or_create_outgoing_connection(addr(n)).unwrap());
    let handles: Vec<_> = handles.collect();
    let waiting = handles.iter().map(|handle| handle.connected(secs(5)));
    for connected in futures::future::join_all(waiting).await {
        connected.unwrap_err();
    }
    let stats = a.stats();
    assert!(stats.dials < 100, "{} dials", stats.dials);
    assert!(stats.peers.len() <= 2);
    // The socket goes on.
    let b = world.open(2, config()).await;
    a.send(addr(2), numbered(1, 8)).await.unwrap();
    soon(b.recv()).await.unwrap();
}
