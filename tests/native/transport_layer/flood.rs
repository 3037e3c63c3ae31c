//! Hosts that open connections and send nothing, on real sockets.
//!
//! They have IPv4 addresses, of which loopback has many. Of IPv6 it has one, so what several networks of /64 can do is
//! tested in `src/host/` only.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gossip_transport::net::{AcceptFailure, NetTransport as _};
use gossip_transport::rt::Task;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::TransportLayerSocket;
use gossip_transport::{ClusterSecret, Message};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket};

use crate::support::{ANY_PORT, member, open, soon};

/// Connections that all hosts of a flood together open in a second.
const RATE: usize = 5000;
/// The least that they open in a second if the machine is busy with other tests.
const LEAST_RATE: f64 = 1000.0;
/// The time for which a flood goes on.
const AT_LEAST: Duration = Duration::from_secs(3);
/// Connections that a flood keeps open.
const HELD: usize = 400;
/// The delay in each direction between an honest peer and the node.
const DELAY: Duration = Duration::from_millis(50);

/// Opens connections that send nothing until it is dropped.
struct Flood {
    running: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn start(node: SocketAddr, hosts: u8) -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let opened = Arc::new(AtomicUsize::new(0));
        let (go_on, count) = (Arc::clone(&running), Arc::clone(&opened));
        let thread = std::thread::spawn(move || {
            let mut held = VecDeque::new();
            let start = Instant::now();
            while go_on.load(Ordering::Relaxed) {
                let n = count.load(Ordering::Relaxed);
                if n > (start.elapsed().as_secs_f64() * RATE as f64) as usize {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let host = Ipv4Addr::new(127, 0, 1, n as u8 % hosts + 1);
                held.extend(connect(host, node));
                count.fetch_add(1, Ordering::Relaxed);
                if held.len() > HELD {
                    held.pop_front();
                }
            }
        });
        Self {
            running,
            opened,
            thread: Some(thread),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.running.store(false, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Connects from `host`, without waiting if the node is slow to accept.
fn connect(host: Ipv4Addr, node: SocketAddr) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // So that neither its port nor the node's stays in use.
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    socket.bind(&SocketAddr::from((host, 0)).into()).ok()?;
    socket.set_nonblocking(true).unwrap();
    // It is in progress.
    let _ = socket.connect(&node.into());
    Some(socket)
}

/// Passes connections on to `node` from the address `host`, with a delay in each direction.
async fn distant(host: Ipv4Addr, node: SocketAddr) -> (SocketAddr, Task) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = Task::spawn(async move {
        let mut pumps = Vec::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((host, 0).into()).unwrap();
            let (from, to) = stream.into_split();
            let (back, onwards) = socket.connect(node).await.unwrap().into_split();
            pumps.push([
                Task::spawn(pump(from, onwards)),
                Task::spawn(pump(back, to)),
            ]);
        }
    });
    (addr, task)
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut chunk = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut chunk).await {
        tokio::time::sleep(DELAY).await;
        if to.write_all(&chunk[..len]).await.is_err() {
            return;
        }
    }
}

/// Dials a node ten times or more over a round trip of 100 ms while `hosts` hosts flood it. Returns how many of
/// the dials failed.
///
/// In unoptimised code on two busy cores, the flood reached its full rate: 25,940 connections in 5.2 s.
async fn failures_during_a_flood(hosts: u8) -> usize {
    let secret = ClusterSecret::generate();
    let node: TransportLayerSocket<_, Bytes> = open(TcpTransport::default(), member(&secret)).await;
    let (relay, _relaying) = distant(Ipv4Addr::new(127, 0, 0, 9), node.local_addr()).await;
    let flood = Flood::start(node.local_addr(), hosts);
    let alpn = [<Bytes as Message>::ALPN];
    let (start, mut dials, mut succeeded) = (Instant::now(), 0, 0);
    // They last for a few seconds, since each takes several round trips.
    while dials < 10 || start.elapsed() < AT_LEAST {
        dials += 1;
        // Each peer has an identity of its own.
        let credential = member(&secret);
        let network = TcpTransport::default();
        let dial = soon(network.connect(relay, &alpn, &credential)).await;
        succeeded += usize::from(dial.is_ok());
    }
    let stats = node.stats();
    let opened = flood.opened.load(Ordering::Relaxed);
    let took = start.elapsed();
    println!("{opened} connections in {took:?}, {dials} dials");
    let rate = opened as f64 / took.as_secs_f64();
    assert!(
        rate > LEAST_RATE,
        "{rate:.0} connections a second are no flood"
    );
    // Many are gone before the node accepts them.
    let crowded = stats.accept_failures.count(AcceptFailure::Crowded);
    assert!(crowded > 500, "{crowded} of {opened}");
    let sum: u64 = stats.accept_failures.iter().map(|(_, count)| count).sum();
    assert_eq!(sum, stats.accept_failed);
    dials - succeeded
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dials_succeed_while_one_host_floods_the_port() {
    assert_eq!(failures_during_a_flood(1).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dials_succeed_while_ten_hosts_flood_the_port() {
    assert_eq!(failures_during_a_flood(10).await, 0);
}
