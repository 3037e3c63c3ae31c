//! A node that may have few files open, and peers that use them up. The node is a real process.
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

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use support::process::{self, DEADLINE, signal, wait_for};

/// The time within which both ports must answer.
const SOON: Duration = Duration::from_secs(2);
/// The files that a node may have open.
const FILES: &str = "64";
/// The files that are left of these when the connections of all kinds are: what a node reserves, the pages that HTTP
/// connections would read, and some that are just being replaced.
const FEW: usize = 20;

struct Node {
    process: Child,
    dir: TempDir,
    gossip: SocketAddr,
    http: SocketAddr,
}

/// Returns the command of a node that may have `files` files open.
fn command(files: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n \"$0\"; exec \"$@\"", files])
        .arg(env!("CARGO_BIN_EXE_gossip-node"))
        .args(["--trust-anyone", "--listen", "127.0.0.1:0"])
        .args(["--http", "127.0.0.1:0"])
        .env_remove("RUST_LOG");
    command
}

impl Node {
    fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready.json");
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut process = command(FILES)
            .arg("--ready-file")
            .arg(&ready)
            .args(args)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let ready: Value = wait_for("the ready file", || {
            assert!(process.try_wait().unwrap().is_none(), "the node has ended");
            Some(serde_json::from_slice(&std::fs::read(&ready).ok()?).unwrap())
        });
        let addr = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        Self {
            gossip: addr("gossip"),
            http: addr("http"),
            process,
            dir,
        }
    }

    /// Returns the status, which must come soon.
    fn status(&self) -> Value {
        let answer = get(self.http, "/status");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    fn live_members(&self) -> usize {
        let status = self.status();
        let members = status["members"].as_array().unwrap().iter();
        members.filter(|member| member["live"] == true).count()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log"));
            eprintln!("log of {}:\n{}", self.gossip, log.unwrap());
        }
    }
}

/// Sends a request to a port and returns the response, which must come soon.
fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&addr, SOON).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("no answer in time");
    answer
}

#[test]
fn idle_http_connections_take_no_descriptor_from_gossip_and_keep_no_request_waiting() {
    let node = Node::start(&["--gossip-interval", "100ms"]);
    let connect = || TcpStream::connect(node.http).unwrap();
    let mut idle: Vec<_> = (0..80).map(|_| connect()).collect();
    // Some have sent the start of a request.
    for stream in idle.iter_mut().step_by(2) {
        let _ = stream.write_all(b"GET /status HTTP/1.1\r\nHost:");
    }
    let answer = get(node.gossip, "/");
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    let http = &node.status()["http"];
    assert!(http["evicted"].as_u64() > Some(0), "{http}");
    let connections = http["connections"].as_u64();
    assert!(connections > Some(0) && connections < Some(20), "{http}");

    let seed = node.gossip.to_string();
    let other = Node::start(&["--gossip-interval", "100ms", "--seed", &seed]);
    wait_for("the other node to join", || {
        (node.live_members() == 2 && other.live_members() == 2).then_some(())
    });
    let (_, metrics) = (drop(other), get(node.http, "/metrics"));
    assert!(
        metrics.contains("\ngossip_http_evicted_total "),
        "{metrics}"
    );

    // Idle connections end by themselves, too.
    let ends = idle.pop().unwrap();
    ends.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!((&ends).read(&mut [0; 1000]).unwrap_or(0), 0);
}

#[test]
fn connections_of_a_trusted_proxy_that_are_refused_are_counted_by_reason() {
    let node = Node::start(&["--proxy-protocol-from", "127.0.0.1"]);
    let connect = || TcpStream::connect(node.gossip).unwrap();
    let silent: Vec<_> = (0..40).map(|_| connect()).collect();
    let crowded = wait_for("refusals to be counted", || {
        let failures = &node.status()["stats"]["accept_failures"];
        failures["crowded"].as_u64().filter(|count| *count > 30)
    });
    let metric = "\ngossip_accept_failures_total{reason=\"crowded\"} ";
    let metrics = get(node.http, "/metrics");
    let (_, count) = metrics.split_once(metric).expect(&metrics);
    let count = count.lines().next().unwrap().parse::<u64>().unwrap();
    assert!(count >= crowded);
    drop(silent);
}

#[test]
fn a_client_that_does_not_read_its_response_is_closed() {
    let node = Node::start(&[]);
    let mut stream = TcpStream::connect(node.http).unwrap();
    // Many responses, of which the client reads none.
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", node.http);
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    let mut sent: usize = 0;
    while stream.write_all(request.as_bytes()).is_ok() {
        sent += 1;
        assert!(sent < 1_000_000, "the connection must end");
    }
    wait_for("the connection to be counted", || {
        (node.status()["http"]["timed_out"].as_u64() > Some(0)).then_some(())
    });
}

#[test]
fn dials_leave_descriptors_for_http_and_for_peers_that_connect() {
    // Connections wait in the backlog of this socket, which never accepts one.
    let silent = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let seeds: Vec<_> = (1..=200).map(|n| format!("127.0.1.{n}:{port}")).collect();
    let mut args = vec!["--gossip-interval", "10ms"];
    for seed in &seeds {
        args.extend(["--seed", seed]);
    }
    let node = Node::start(&args);
    // None of them ends another, so they use up all places for connections.
    wait_for("many dials", || {
        let status = node.status();
        let peers = status["stats"]["peers"].as_object().unwrap();
        let dialling = peers.values().filter(|peer| peer["state"] == "dialing");
        (dialling.count() > 20).then_some(())
    });
    let answer = get(node.gossip, "/");
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    let seed = node.gossip.to_string();
    let other = Node::start(&["--gossip-interval", "100ms", "--seed", &seed]);
    wait_for("the other node to join", || {
        (other.live_members() == 2).then_some(())
    });
}

/// Returns the number of files that a process has open.
fn open_files(process: &Child) -> usize {
    let listed = std::fs::read_dir(format!("/proc/{}/fd", process.id()));
    listed.unwrap().count()
}

#[test]
fn with_few_descriptors_left_a_node_joins_and_both_ports_answer_within_two_seconds() {
    // Connections wait in the backlog of this socket, which never accepts one.
    let silent = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let seeds: Vec<_> = (1..=200).map(|n| format!("127.0.1.{n}:{port}")).collect();
    let mut args = vec!["--gossip-interval", "100ms"];
    for seed in &seeds {
        args.extend(["--seed", seed]);
    }
    let node = Node::start(&args);
    let idle = |addr| (0..80).map(move |_| TcpStream::connect(addr).unwrap());
    let _idle: Vec<_> = idle(node.http).chain(idle(node.gossip)).collect();
    let limit: usize = FILES.parse().unwrap();
    wait_for("descriptors to be used up", || {
        (open_files(&node.process) + FEW >= limit).then_some(())
    });
    let start = Instant::now();
    let answer = get(node.gossip, "/");
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    assert!(node.live_members() == 1 && start.elapsed() < SOON);

    let seed = node.gossip.to_string();
    let other = Node::start(&["--gossip-interval", "100ms", "--seed", &seed]);
    let start = Instant::now();
    wait_for("the other node to join", || {
        (node.live_members() == 2 && other.live_members() == 2).then_some(())
    });
    let joined = start.elapsed();
    println!(
        "{} files open, joined after {joined:?}",
        open_files(&node.process)
    );
    assert!(joined < SOON, "{joined:?}");
}

#[test]
fn a_node_that_may_open_too_few_files_says_how_many_it_needs() {
    let output = command("32").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("may have 32 files open") && text.contains("ulimit -n"),
        "{text}"
    );
}

#[test]
fn more_connections_than_may_be_open_are_refused_and_fewer_are_granted() {
    let refused = command("256").args(["--max-connections", "500"]).output();
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("may have 256 files open"), "{text}");
    assert!(text.contains("or lower --max-connections"), "{text}");
    let checked = command("256")
        .args(["--max-connections", "100", "--check-config"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&checked.stdout);
    assert!(text.contains("# connections: 100, "), "{text}");
}

#[test]
fn the_admin_port_has_descriptors_of_its_own() {
    let needed = |admin: &[&str]| {
        let output = command("32").args(admin).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let words: Vec<_> = text.split([' ', ':']).collect();
        let needs = words.iter().position(|word| *word == "needs").unwrap();
        words[needs + 1].parse::<u32>().unwrap()
    };
    // A listener, eight connections, and one that is told that there are too many.
    assert_eq!(
        needed(&["--admin", "/nonexistent/socket"]),
        needed(&[]) + 10
    );
}

#[test]
fn a_node_whose_log_nobody_reads_serves_and_ends_within_two_seconds() {
    for stdout_is_log in [false, true] {
        let (unread, log) = std::io::pipe().unwrap();
        let mut filler = log.try_clone().unwrap();
        std::thread::spawn(move || while filler.write_all(&[b'x'; 4096]).is_ok() {});
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready.json");
        let mut node = process::command();
        node.args(["--trust-anyone", "--listen", "127.0.0.1:0"]);
        node.args(["--http", "127.0.0.1:0", "--ready-file"]);
        node.arg(&ready);
        if stdout_is_log {
            node.stdout(log.try_clone().unwrap());
        } else {
            node.stdout(Stdio::null());
        }
        let mut node = node.stderr(log).spawn().unwrap();
        let ready = wait_for("the ready file", || std::fs::read(&ready).ok());
        let ready: Value = serde_json::from_slice(&ready).unwrap();
        let http: SocketAddr = ready["http"].as_str().unwrap().parse().unwrap();
        wait_for("the answer to a request", || {
            let mut stream = TcpStream::connect(http).ok()?;
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            write!(stream, "GET /healthz HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.contains(" 200 ").then_some(())
        });
        let start = Instant::now();
        signal(&node, "TERM");
        let ended = wait_for("the node's end", || node.try_wait().unwrap());
        let took = start.elapsed();
        assert_eq!(ended.code(), Some(0), "{stdout_is_log}");
        assert!(took < Duration::from_secs(2), "{stdout_is_log}: {took:?}");
        drop(unread);
    }
}
