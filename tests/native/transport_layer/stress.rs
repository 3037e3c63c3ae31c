//! Many threads send, receive, give up waiting and lose connections at random. Every message must
//! be accounted for, in order, and none may stay queued.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use gossip_transport::ClusterSecret;
use gossip_transport::memory::Faults;
use gossip_transport::net::NetTransport;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{
    OverflowPolicy, TransportLayerConfig, TransportLayerSocket, TransportLayerTransport,
};

use crate::support::layer::{World, check_sums, configured, ip, ms, number, numbered, secs, until};
use crate::support::{ANY_PORT, member, soon};

type Shared<T> = Arc<TransportLayerSocket<T, Bytes>>;

const POLICIES: [OverflowPolicy; 3] = [
    OverflowPolicy::DropOldest,
    OverflowPolicy::DropNewest,
    OverflowPolicy::Backpressure,
];
const SOCKETS: usize = 3;
const SENDERS: u64 = 3;
const MESSAGES: u64 = 400;

/// Small limits, and times that end connections all the time.
fn restless(rng: &mut fastrand::Rng) -> TransportLayerConfig {
    configured(|c| {
        c.outgoing.overflow = POLICIES[rng.usize(..3)];
        c.incoming.overflow = POLICIES[rng.usize(..3)];
        c.outgoing.max_messages = rng.usize(1..40);
        c.outgoing.max_bytes = rng.usize(20_000..100_000);
        c.incoming.max_messages = rng.usize(20..200);
        c.incoming.max_messages_per_peer = rng.usize(10..100);
        c.incoming.max_bytes_per_peer = 40_000;
        c.backoff_min = ms(1);
        c.backoff_max = ms(20);
        c.idle_timeout = ms(rng.u64(5..50));
        c.keepalive_interval = ms(rng.u64(1..10));
        c.peer_linger = ms(rng.u64(1..20));
        c.max_connections = rng.usize(2..8);
        c.max_connections_per_identity = rng.usize(1..3);
    })
}

/// Polls `future` a few times, and drops it if it is still not ready.
async fn impatient<F: Future>(polls: u32, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        if let std::task::Poll::Ready(output) = futures::poll!(&mut future) {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Sends messages to random peers. The number of a message has that of its sender in the upper 16 bits.
async fn send_all<T: NetTransport>(
    socket: Shared<T>,
    peers: Vec<SocketAddr>,
    sender: u64,
    seed: u64,
) {
    let mut rng = fastrand::Rng::with_seed(seed);
    for n in 0..MESSAGES {
        let to = peers[rng.usize(..peers.len())];
        let len = if rng.u8(..16) == 0 { 10_000 } else { 100 };
        let message = numbered(sender << 48 | n, len);
        match rng.u8(..8) {
            0 => {
                let _ = impatient(rng.u32(1..4), socket.send(to, message)).await;
            }
            1 => {
                let handle = socket.get_or_create_outgoing_connection(to).unwrap();
                let _ = impatient(2, handle.connected(secs(60))).await;
                handle.send(message).await.unwrap();
            }
            _ => socket.send(to, message).await.unwrap(),
        }
        if rng.u8(..4) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Receives until the socket is closed, and checks the order of each sender's messages if it is the
/// only receiver.
async fn receive_all<T: NetTransport>(socket: Shared<T>, only: bool, seed: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut last = HashMap::new();
    let mut count = 0;
    loop {
        let received = match rng.u8(..4) {
            0 => impatient(rng.u32(1..3), socket.recv()).await,
            1 => impatient(1, socket.recv_detailed())
                .await
                .map(|received| received.map(|r| (r.from, r.message))),
            2 => Some(socket.recv_detailed().await.map(|r| (r.from, r.message))),
            _ => Some(socket.recv().await),
        };
        match received {
            None => {}
            Some(Err(_)) => return count,
            Some(Ok((from, message))) => {
                count += 1;
                let (sender, n) = (number(&message) >> 48, number(&message) & 0xFFFF_FFFF);
                if let Some(before) = last.insert((from, sender), n)
                    && only
                {
                    assert!(before < n, "{n} came after {before} from {from}");
                }
                if rng.u8(..8) == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// Opens sockets, runs senders and receivers on all, calls `disturb` meanwhile, and `calm` before the
/// queues must empty.
async fn stress<T: NetTransport>(
    sockets: Vec<Shared<T>>,
    seed: u64,
    mut disturb: impl FnMut(&mut fastrand::Rng),
    calm: impl FnOnce(),
) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let addrs: Vec<_> = sockets.iter().map(|s| s.local_addr()).collect();
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for (index, socket) in sockets.iter().enumerate() {
        let count = if index == 0 { 1 } else { 3 };
        for _ in 0..count {
            let receive = receive_all(Arc::clone(socket), count == 1, rng.u64(..));
            receivers.push(tokio::spawn(receive));
        }
        let mut peers = addrs.clone();
        peers.remove(index);
        for sender in 0..SENDERS {
            let id = index as u64 * SENDERS + sender;
            let send = send_all(Arc::clone(socket), peers.clone(), id, rng.u64(..));
            senders.push(tokio::spawn(send));
        }
    }
    let done = Arc::new(AtomicBool::new(false));
    // Snapshots at every moment.
    let watching = std::thread::spawn({
        let (sockets, done) = (sockets.clone(), Arc::clone(&done));
        move || {
            while !done.load(Ordering::Relaxed) {
                for socket in &sockets {
                    let stats = socket.stats();
                    check_sums(&stats);
                    std::thread::yield_now();
                }
            }
        }
    });
    let mut sending = std::pin::pin!(futures::future::join_all(senders));
    let sent = soon(async {
        loop {
            if let Some(sent) = impatient(5, &mut sending).await {
                return sent;
            }
            disturb(&mut rng);
            tokio::time::sleep(ms(1)).await;
        }
    });
    for sent in sent.await {
        sent.unwrap();
    }
    calm();
    for socket in &sockets {
        until(socket, |s| s.total.queued == 0).await;
    }
    for socket in &sockets {
        until(socket, |s| s.total.incoming_queued == 0).await;
    }
    done.store(true, Ordering::Relaxed);
    watching.join().unwrap();
    for socket in &sockets {
        let report = soon(socket.shutdown(secs(60))).await;
        assert_eq!(report.unsent, 0);
    }
    let mut delivered = 0;
    for receiver in receivers {
        delivered += soon(receiver).await.unwrap();
    }
    let counted: u64 = sockets.iter().map(|s| s.stats().total.delivered).sum();
    assert_eq!(delivered, counted);
    assert!(delivered > 0);
}

async fn stress_memory(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let world = World::new();
    let mut sockets = Vec::new();
    for n in 0..SOCKETS {
        let config = restless(&mut rng);
        sockets.push(Arc::new(world.open(n as u8 + 1, config).await));
    }
    let network = world.network.clone();
    let disturb = |rng: &mut fastrand::Rng| {
        let (a, b) = (ip(rng.u8(1..4)), ip(rng.u8(1..4)));
        match rng.u8(..4) {
            0 => network.break_connections(a, b),
            1 => network.set_faults(a, b, Faults::stalled()),
            2 => network.set_faults(a, b, Faults::default()),
            _ => network.heal(),
        }
    };
    stress(sockets, seed, disturb, || network.heal()).await;
}

async fn stress_tcp(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let secret = ClusterSecret::generate();
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        let (network, config) = (TcpTransport::default(), restless(&mut rng));
        let transport = TransportLayerTransport::with_config(network, member(&secret), config);
        sockets.push(Arc::new(transport.open(ANY_PORT).await.unwrap()));
    }
    stress(sockets, seed, |_| {}, || {}).await;
}

/// More seeds take longer and find more: `STRESS_SEEDS=400`. `STRESS_FROM=70` begins with another one than 0.
/// Each is printed, so that a failure says which one it was.
fn seeds() -> impl Iterator<Item = u64> {
    let number = |variable, default| {
        let value = std::env::var(variable);
        value.map_or(default, |value| value.parse().unwrap())
    };
    let from = number("STRESS_FROM", 0);
    let seeds = from..from + number("STRESS_SEEDS", 5);
    seeds.inspect(|seed| println!("seed {seed}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_message_is_accounted_for_while_connections_in_memory_break() {
    for seed in seeds() {
        stress_memory(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_message_is_accounted_for_while_tcp_connections_are_evicted() {
    for seed in seeds() {
        stress_tcp(seed).await;
    }
}
