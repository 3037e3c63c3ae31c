//! The admin port: who may use it, what becomes of its file, and clients that break its rules. Nodes are
//! real processes.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test fails by panicking, and runs natively"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use support::admin::{Raw, Watch, objects, start, start_pair};
use support::process::{self, DEADLINE, command, signal, stderr, wait_for};

#[test]
fn the_socket_is_for_its_owner_only_whatever_the_umask_is_and_goes_with_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let mut process = Command::new("sh")
        .args(["-c", "umask 0; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_gossip-node"))
        .args(["--trust-anyone", "--listen", "127.0.0.1:0", "--admin"])
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("an answer", || {
        let mut members = command();
        members.arg("members").arg("--admin").arg(&path);
        members.output().unwrap().status.success().then_some(())
    });
    let file = std::fs::symlink_metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.mode() & 0o777, 0o600);
    signal(&process, "TERM");
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert!(!path.exists());
}

/// The mode is loosened after the start, as by a mistake of the operator.
#[test]
fn another_user_is_refused_even_if_the_socket_lets_everyone_connect() {
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65534;
    // In the system's folder, which everybody can reach; the program is copied there, too.
    let dir = tempfile::tempdir().unwrap();
    if dir.path().metadata().unwrap().uid() != 0 {
        eprintln!("skipped: only root can start a process as another user");
        return;
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("gossip-node");
    std::fs::copy(env!("CARGO_BIN_EXE_gossip-node"), &program).unwrap();
    let path = dir.path().join("socket");
    let node = start(&["--admin", path.to_str().unwrap()]);
    let as_nobody = || {
        let mut command = Command::new(&program);
        command.arg("members").arg("--admin").arg(&path);
        command.uid(NOBODY).gid(NOBODY).output().unwrap()
    };
    let output = as_nobody();
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("belongs to another user"),
        "{}",
        stderr(&output)
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    let output = as_nobody();
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
    wait_for("the refusal to be logged", || {
        node.log()
            .contains("refused an admin connection of another user")
            .then_some(())
    });
    assert!(node.run(&["members"]).contains("self"));
}

#[test]
fn the_socket_of_a_dead_node_is_replaced_and_that_of_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let shown = path.to_str().unwrap();
    let dead = start(&["--id", "dead", "--admin", shown]);
    dead.signal("KILL");
    drop(dead);
    assert!(path.exists(), "a killed node leaves its socket");
    let live = start(&["--id", "live", "--admin", shown]);
    assert!(live.run(&["members"]).contains("live  self"));

    for kind in [&[][..], &["--admin-loopback"]] {
        let args = [
            "--trust-anyone",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            shown,
        ];
        let output = process::run(&[&args[..], kind].concat());
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(
            text.contains(shown) && text.contains("choose another path"),
            "{text}"
        );
        assert!(live.run(&["members"]).contains("live  self"));
    }
    // A stopped node is not a dead one.
    live.signal("STOP");
    let output = process::run(&[
        "--trust-anyone",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        shown,
    ]);
    assert_eq!(output.status.code(), Some(1));
    live.signal("CONT");
    assert!(live.run(&["members"]).contains("live  self"));
}

#[test]
fn a_file_of_something_else_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let (shown, link) = (path.to_str().unwrap(), dir.path().join("link"));
    std::fs::write(&path, "precious").unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for (at, kind) in [
        (shown, &[][..]),
        (shown, &["--admin-loopback"]),
        (link.to_str().unwrap(), &[]),
        (dir.path().to_str().unwrap(), &[]),
    ] {
        let args = ["--trust-anyone", "--listen", "127.0.0.1:0", "--admin", at];
        let output = process::run(&[&args[..], kind].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(at), "{}", stderr(&output));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
    for missing in ["/nonexistent/folder/socket", &"x".repeat(200)] {
        let args = [
            "--trust-anyone",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            missing,
        ];
        let output = process::run(&args);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(missing), "{}", stderr(&output));
    }
}

#[test]
fn garbage_and_long_lines_are_refused_and_end_their_connection_only() {
    let node = start(&["--id", "a"]);
    let long = "x".repeat(600 << 10) + "\n";
    for (line, code) in [
        ("GET / HTTP/1.1\r\n", "malformed"),
        ("\n", "malformed"),
        ("{}\n", "malformed"),
        ("\u{0}\u{1}\n", "malformed"),
        (&long, "too-long"),
    ] {
        let mut raw = Raw::connect(&node.admin);
        raw.send(line);
        // What follows may be the body of a request of another protocol, and is not carried out.
        raw.send(
            "{\"version\":1,\"command\":\"set\",\"arguments\":{\"key\":\"k\",\"value\":\"v\"}}\n",
        );
        assert_eq!(raw.error_code(), code);
        assert_eq!(raw.next(), None);
        assert_eq!(node.key_of("a", "k"), None);
    }
    // An incomplete line is no request.
    let mut raw = Raw::connect(&node.admin);
    raw.send("{\"version\":1,\"command\":\"ping\"}");
    raw.0.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(raw.next(), None);

    let mut raw = Raw::connect(&node.admin);
    for (line, code) in [
        (
            "{\"version\":1,\"command\":\"rotate\"}\n",
            "unknown-command",
        ),
        (
            "{\"version\":2,\"command\":\"ping\"}\n",
            "unsupported-version",
        ),
    ] {
        raw.send(line);
        assert_eq!(raw.error_code(), code);
    }
    // The connection is still good, and requests may come together.
    raw.send(&"{\"version\":1,\"command\":\"ping\"}\n".repeat(2));
    for _ in 0..2 {
        assert_eq!(raw.next(), Some(serde_json::json!({ "done": {} })));
    }
}

#[test]
fn a_watcher_that_does_not_read_is_ended_and_gossip_goes_on() {
    let (a, b) = start_pair();
    let mut silent = Raw::connect(&a.admin);
    silent.send("{\"version\":1,\"command\":\"watch\"}\n");
    let value = "x".repeat(50_000);
    // More than the system keeps for a client that does not read.
    let ended = || a.log().contains("whose client does not read");
    let start = Instant::now();
    let mut changes = 0;
    while !ended() {
        assert!(start.elapsed() < DEADLINE, "the watcher must be ended");
        changes += 1;
        let changed = format!("{changes} {value}");
        let sent = Instant::now();
        b.run(&["set", "big", &changed]);
        // Gossip and other commands are not held up meanwhile.
        wait_for("the change to arrive", || {
            let seen = a.admin(&["get", "big", "--node", "b"]);
            (seen.stdout.trim_ascii_end() == changed.as_bytes()).then_some(())
        });
        assert!(
            sent.elapsed() < Duration::from_secs(4),
            "{:?}",
            sent.elapsed()
        );
    }
    assert!(changes > 5);
    let mut rest = Vec::new();
    let _ = silent.0.read_to_end(&mut rest);
}

#[test]
fn a_signal_ends_a_node_within_two_seconds_while_it_is_watched() {
    let node = start(&["--id", "a"]);
    let mut watch = Watch::start(&node, &[]);
    watch.line(|line| line.contains("changes follow"));
    let mut silent = Raw::connect(&node.admin);
    silent.send("{\"version\":1,\"command\":\"watch\"}\n");
    silent.next();
    let path = node.admin.clone();
    let start = Instant::now();
    node.signal("TERM");
    assert_eq!(node.ended().0, Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert!(!path.exists());
    assert_eq!(watch.process.wait().unwrap().code(), Some(3));
    let mut text = String::new();
    watch
        .process
        .stderr
        .as_mut()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.contains("has ended"), "{text}");
}

#[test]
fn connections_that_wait_give_way_and_more_watches_than_the_limit_are_told() {
    let node = start(&["--id", "a"]);
    let idle: Vec<_> = (0..20).map(|_| Raw::connect(&node.admin)).collect();
    assert!(node.run(&["members"]).contains("self"));
    let mut watches: Vec<_> = (0..8).map(|_| Watch::start(&node, &[])).collect();
    for watch in &watches {
        watch.line(|line| line.contains("changes follow"));
    }
    drop(idle);
    let output = node.admin(&["members", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(objects(&stderr(&output))[0]["error"]["code"], "busy");
    node.json("/status");
    watches.pop();
    wait_for("room for a command", || {
        node.admin(&["members"]).status.success().then_some(())
    });
    for watch in &watches {
        node.run(&["set", "n", "1"]);
        watch.line(|line| line == "set a n = 1");
    }
}

#[test]
fn a_loopback_port_serves_those_who_can_read_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.json");
    let shown = path.to_str().unwrap();
    let args = ["--id", "a", "--admin-loopback", "--admin", shown];
    let dead = start(&args);
    dead.signal("KILL");
    drop(dead);
    let left = std::fs::read_to_string(&path).unwrap();
    let node = start(&args);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_ne!(text, left, "the token is new");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(node.run(&["set", "k", "v"]), "set a k = v\n");
    assert_eq!(node.run(&["get", "k"]), "v\n");

    let file: Value = serde_json::from_str(&text).unwrap();
    let addr: std::net::SocketAddr = file["addr"].as_str().unwrap().parse().unwrap();
    assert!(addr.ip().is_loopback());
    let set = "\"command\":\"set\",\"arguments\":{\"key\":\"k\",\"value\":\"changed\"}}\n";
    let wrong = "0".repeat(64);
    for line in [
        format!("{{\"version\":1,{set}"),
        format!("{{\"version\":1,\"token\":\"\",{set}"),
        format!("{{\"version\":1,\"token\":\"{wrong}\",{set}"),
        format!("POST / HTTP/1.1\r\n{{\"version\":1,{set}"),
    ] {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(
            !answer.contains("item") && !answer.contains("done"),
            "{answer}"
        );
        assert_eq!(node.key_of("a", "k").as_deref(), Some("v"));
    }
    // Connections without a token keep nobody out.
    let _idle: Vec<_> = (0..20)
        .map(|_| std::net::TcpStream::connect(addr).unwrap())
        .collect();
    assert_eq!(node.run(&["get", "k"]), "v\n");

    let output =
        process::run(&[&["--trust-anyone", "--listen", "127.0.0.1:0"], &args[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("another node uses"),
        "{}",
        stderr(&output)
    );
    let watch = Watch::start(&node, &["--json"]);
    watch.event("current");
    node.signal("TERM");
    assert_eq!(node.ended().0, Some(0));
    assert!(!path.exists());
}
