//! A node whose name server does not answer. The node is a real process, in a mount namespace with a
//! name server of this test.
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

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::process::signal;

/// The time within which a node starts, and within which it ends.
const SOON: Duration = Duration::from_secs(2);
/// The address of a name server that receives queries and answers none.
const NAME_SERVER: &str = "127.9.9.9";

/// Returns a command whose arguments are a command, which has `resolv_conf` as its list of name servers.
fn with_names(resolv_conf: &Path) -> Command {
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]);
    command.arg(resolv_conf);
    command
}

#[test]
fn a_silent_name_server_delays_neither_the_start_nor_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let resolv_conf = dir.path().join("resolv.conf");
    std::fs::write(&resolv_conf, format!("nameserver {NAME_SERVER}\n")).unwrap();
    let is_possible = with_names(&resolv_conf).arg("true").status();
    let (true, Ok(_silent)) = (
        is_possible.is_ok_and(|status| status.success()),
        UdpSocket::bind((NAME_SERVER, 53)),
    ) else {
        eprintln!("skipped: this test needs root, and a free port 53");
        return;
    };
    let mut command = with_names(&resolv_conf);
    command.arg(env!("CARGO_BIN_EXE_gossip-node")).args([
        "--trust-anyone",
        "--listen",
        "127.0.0.1:0",
    ]);
    for n in 0..8 {
        command.args(["--seed", &format!("seed-{n}.example.com:7946")]);
    }
    let start = Instant::now();
    let mut node = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = node.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let started = start.elapsed();
    let end = Instant::now();
    signal(&node, "TERM");
    let status = node.wait().unwrap();
    let ended = end.elapsed();
    assert!(
        line.starts_with("listening on ") && status.success(),
        "{line}"
    );
    assert!(started < SOON, "it started after {started:?}");
    assert!(ended < SOON, "it ended after {ended:?}");
}
