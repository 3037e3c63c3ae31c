//! What clients that do not read cost a node that knows much state. The nodes are real processes.
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

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use support::admin::{Raw, start};
use support::process::{Node, wait_for};

const VALUE_LEN: usize = 60_000;

/// Returns `count` members that set `keys` values of 60 kB each, which consist of `letter`. The first one
/// knows all of them.
fn members_with_much_state(count: usize, keys: usize, letter: &str) -> Vec<Node> {
    let first = start(&["--id", "member-0"]);
    let seed = first.gossip.to_string();
    let mut nodes = vec![first];
    for n in 1..count {
        nodes.push(start(&["--id", &format!("member-{n}"), "--seed", &seed]));
    }
    for node in &nodes {
        let mut admin = Raw::connect(&node.admin);
        for n in 0..keys {
            let (key, value) = (format!("key-{n}"), letter.repeat(VALUE_LEN));
            let set = json!({
                "version": 1, "command": "set", "arguments": { "key": key, "value": value }
            });
            admin.send(&format!("{set}\n"));
            assert!(admin.next().unwrap().get("item").is_some());
            assert!(admin.next().unwrap().get("done").is_some());
        }
    }
    wait_for("the first to know everything", || {
        let (_, answer) = nodes[0].request("GET", "/status", "", "");
        (answer.len() > count * keys * VALUE_LEN).then_some(())
    });
    nodes
}

/// Returns the resident memory of a node in megabytes.
fn resident(node: &Node) -> u64 {
    node.memory("VmRSS") / 1_000
}

/// Connects a socket for which the kernel keeps little that was not read.
fn connect_with_small_buffer(to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let stream = runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.connect(to).await.unwrap()
    });
    stream.into_std().unwrap()
}

/// A client that has sent a request and reads nothing of the response.
fn unread(node: &Node) -> TcpStream {
    let mut stream = connect_with_small_buffer(node.http);
    write!(
        stream,
        "GET /status HTTP/1.1\r\nHost: {}\r\n\r\n",
        node.http
    )
    .unwrap();
    stream
}

#[test]
fn responses_that_nobody_reads_take_little_memory_and_keep_no_other_waiting() {
    // 2.4 MB of state, and 14.4 MB of JSON.
    let nodes = members_with_much_state(1, 40, "\u{1}");
    let node = &nodes[0];
    let before = resident(node);
    let mut most = before;
    let mut clients = Vec::new();
    for _ in 0..4 {
        // Each wave wants another response than the one before.
        let start = Instant::now();
        let wave: Vec<_> = (0..16).map(|_| unread(node)).collect();
        wait_for("a wave to be answered", || {
            most = most.max(resident(node));
            for path in ["/healthz", "/config.json", "/"] {
                assert_eq!(node.request("GET", path, "", "").0, 200, "{path}");
            }
            let is_answered = |client: &TcpStream| client.peek(&mut [0]).is_ok();
            let are_answered = wave.iter().all(is_answered);
            (are_answered && start.elapsed() > Duration::from_secs(1)).then_some(())
        });
        clients.extend(wave);
    }
    println!("resident: {before} MB before, {most} MB at most");
    assert!(most < before + 110, "{before} MB, then {most} MB");
    // One that reads is answered, since those that do not read give way.
    let status = wait_for("a status", || {
        let (code, answer) = node.request("GET", "/status", "", "");
        assert!(code == 200 || code == 503, "{code}");
        (code == 200).then_some(answer)
    });
    let (_, status) = status.split_once("\r\n\r\n").unwrap();
    let status: Value = serde_json::from_str(status).unwrap();
    assert_eq!(
        status["members"][0]["keys"]["key-0"],
        "\u{1}".repeat(VALUE_LEN)
    );
    assert!(status["http"]["evicted"].as_u64() > Some(0));
    // The others end by themselves.
    wait_for("clients that do not read to be disconnected", || {
        let (_, metrics) = node.request("GET", "/metrics", "", "");
        metrics
            .contains("\ngossip_http_connections 1\n")
            .then_some(())
    });
    drop(clients);
}

#[test]
fn replies_of_the_admin_port_that_nobody_reads_take_little_memory() {
    let nodes = members_with_much_state(6, 20, "x");
    let node = &nodes[0];
    for command in ["members", "watch"] {
        let before = resident(node);
        let clients: Vec<_> = (0..7)
            .map(|_| {
                let mut client = Raw::connect(&node.admin);
                client.send(&format!("{{\"version\":1,\"command\":\"{command}\"}}\n"));
                // The reply has begun, and goes on.
                assert!(client.next().unwrap().get("item").is_some());
                client
            })
            .collect();
        let most = resident(node);
        println!("{command}: {before} MB before, {most} MB at most");
        assert!(most < before + 35, "{command}: {before} MB, then {most} MB");
        drop(clients);
    }
    // One that reads gets everything.
    let members = node.run(&["members", "--json"]);
    assert!(members.len() > 6 * 20 * VALUE_LEN);
}
