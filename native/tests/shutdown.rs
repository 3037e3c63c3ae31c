//! A signal ends a node that others keep busy or waiting. The node is a real process.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket};

use support::admin::start;
use support::process::{Node, signal, wait_for};

/// The time within which a node ends, whatever it does.
const SOON: Duration = Duration::from_secs(2);
/// The connections that a flood keeps open, of each kind.
const HELD: usize = 100;

/// Asserts that a signal ends the node in time and as if it were idle.
fn ends_soon(node: Node) {
    let start = Instant::now();
    node.signal("TERM");
    let (code, _) = node.ended();
    let took = start.elapsed();
    println!("ended after {took:?}");
    assert_eq!(code, Some(0));
    assert!(took < SOON, "{took:?}");
}

/// Threads that go on until they are dropped.
struct Floods {
    goes_on: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Floods {
    fn start(floods: Vec<Box<dyn FnMut() + Send>>) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let start = |mut flood: Box<dyn FnMut() + Send>| {
            let goes_on = Arc::clone(&goes_on);
            std::thread::spawn(move || {
                while goes_on.load(Ordering::Relaxed) {
                    flood();
                }
            })
        };
        let threads = floods.into_iter().map(start).collect();
        Self { goes_on, threads }
    }
}

impl Drop for Floods {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Returns a flood of connections on each of which `bytes` are sent and nothing is read.
fn connections(to: SocketAddr, bytes: Vec<u8>) -> Box<dyn FnMut() + Send> {
    let mut held = VecDeque::new();
    Box::new(move || {
        let Ok(mut stream) = TcpStream::connect_timeout(&to, SOON) else {
            return std::thread::sleep(Duration::from_millis(1));
        };
        let _ = stream.write_all(&bytes);
        held.push_back(stream);
        if held.len() > HELD {
            held.pop_front();
        }
    })
}

/// Returns a flood of datagrams, each from a port of its own.
fn datagrams(to: SocketAddr) -> Box<dyn FnMut() + Send> {
    Box::new(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..20 {
            // A BadCluster message.
            let _ = socket.send_to(&[0x53, 0xb0, 0, 3], to);
        }
    })
}

#[test]
fn a_node_whose_ports_are_flooded_ends_within_two_seconds_of_a_signal() {
    let node = start(&["--udp"]);
    let request = format!("GET /status HTTP/1.1\r\nHost: {}\r\n\r\n", node.http);
    let floods = Floods::start(vec![
        connections(node.gossip, Vec::new()),
        connections(node.http, Vec::new()),
        connections(node.http, request.repeat(100).into_bytes()),
        datagrams(node.gossip),
    ]);
    // Its log tells, since a request may well be refused. Every power of two is logged.
    wait_for("the floods to exceed the limits of both ports", || {
        let log = node.log();
        let counts = ["refused=128", "evicted=128", "rejections=128"];
        counts.iter().all(|count| log.contains(count)).then_some(())
    });
    ends_soon(node);
    drop(floods);
}

/// Returns a socket to which connections cannot be made, since the system drops the packets that ask for
/// one, and what keeps it in that state.
fn unreachable() -> (SocketAddr, Vec<Box<dyn std::any::Any>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let listener: TcpListener = runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("0.0.0.0:0".parse().unwrap()).unwrap();
        socket.listen(0).unwrap()
    });
    let addr = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    let mut kept: Vec<Box<dyn std::any::Any>> = vec![Box::new(listener), Box::new(runtime)];
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        kept.push(Box::new(stream));
        assert!(kept.len() < 100, "its queue has no end");
    }
    (addr, kept)
}

#[test]
fn a_node_with_messages_for_silent_peers_and_dials_under_way_ends_within_two_seconds_of_a_signal() {
    // The first accepts connections and never answers. Packets to the others are lost.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (lost, _kept) = unreachable();
    let mut seeds = vec![silent.local_addr().unwrap().to_string()];
    seeds.extend((1..=30).map(|n| format!("127.0.1.{n}:{}", lost.port())));
    let mut args = vec!["--id", "node"];
    for seed in &seeds {
        args.extend(["--seed", seed]);
    }
    let node = start(&args);
    let peer = start(&["--id", "peer", "--seed", &node.gossip.to_string()]);
    wait_for("the peer to join", || {
        (node.live_members() == ["node", "peer"]).then_some(())
    });
    // It is connected, and reads nothing from now on.
    signal(&peer.process, "STOP");
    let value = "x".repeat(60_000);
    let mut n = 0;
    let count = |status: &Value, addr: &str, name: &str| {
        status["stats"]["peers"][addr][name].as_u64().unwrap_or(0)
    };
    wait_for("messages to wait for each of them", || {
        for _ in 0..20 {
            n += 1;
            node.run(&["set", &format!("key-{}", n % 20), &format!("{n}{value}")]);
        }
        let status = node.json("/status");
        let peers = status["stats"]["peers"].as_object().unwrap();
        let dialling = peers.values().filter(|peer| peer["state"] == "dialing");
        let waits = |addr: &str| count(&status, addr, "queued") > 0;
        (dialling.count() > 20 && waits(&seeds[0]) && waits(&peer.gossip.to_string())).then_some(())
    });
    ends_soon(node);
}
