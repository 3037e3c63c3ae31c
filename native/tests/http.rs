//! What the HTTP port of a node shows to whom. The node is a real process.

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
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};

use support::process::{Node, wait_for};

const SECRET: &str = "only-for-members";

/// Sends a head as it is, and returns the status and the whole response.
fn send(addr: SocketAddr, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(stream, "{head}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

fn get(addr: SocketAddr, path: &str, host: &str) -> (u16, String) {
    send(addr, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n"))
}

/// A page of evil.example runs in a browser on this machine. Its name leads to 127.0.0.1 by now, so the
/// browser sends its requests here, as if they went to the server of the page.
#[test]
fn a_page_whose_name_was_bound_to_this_address_reads_no_member() {
    let key = format!("key={SECRET}");
    let node = Node::start(&["--trust-anyone", "--set", &key]);
    let port = node.http.port();
    for path in ["/status", "/metrics", "/keys/key", "/status?x", "//status"] {
        for host in [
            format!("evil.example:{port}"),
            "evil.example".to_owned(),
            format!("localhost.evil.example:{port}"),
            format!("203.0.113.9:{port}"),
            format!("evil@localhost:{port}"),
        ] {
            let (code, answer) = get(node.http, path, &host);
            assert!(code == 421 || code == 404, "{path} {host}: {answer}");
            assert!(!answer.contains(SECRET), "{path} {host}: {answer}");
            assert!(
                !answer.contains("gossip_members"),
                "{path} {host}: {answer}"
            );
        }
    }
    let (code, answer) = get(node.http, "/status", "evil.example");
    assert_eq!(code, 421);
    assert!(answer.contains("--http-host NAME"), "{answer}");
    for head in [
        "GET /status HTTP/1.0\r\n",
        "GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\n",
        "GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n",
        "HEAD /status HTTP/1.1\r\nHost: evil.example\r\n",
    ] {
        let (code, answer) = send(node.http, head);
        assert_eq!(code, 421, "{head}: {answer}");
    }
}

#[test]
fn the_names_and_the_address_of_this_machine_read_the_members() {
    let node = Node::start(&["--trust-anyone", "--http-host", "Gossip.Example.com"]);
    let port = node.http.port();
    for host in [
        node.http.to_string(),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        "gossip.example.com".to_owned(),
        "gossip.example.com:443".to_owned(),
    ] {
        for path in ["/status", "/metrics"] {
            let (code, answer) = get(node.http, path, &host);
            assert_eq!(code, 200, "{path} {host}: {answer}");
        }
    }
}

#[test]
fn the_page_its_configuration_and_the_health_check_have_any_host() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("index.html"), "the page").unwrap();
    let key = format!("key={SECRET}");
    let root = root.path().to_str().unwrap();
    let node = Node::start(&["--trust-anyone", "--set", &key, "--web-root", root]);
    for (path, content) in [
        ("/", "the page"),
        ("/index.html", "the page"),
        ("/config.json", "\"seeds\""),
        ("/healthz", "ok"),
    ] {
        let (code, answer) = get(node.http, path, "gossip.example.com");
        assert_eq!(code, 200, "{path}: {answer}");
        assert!(answer.contains(content), "{path}: {answer}");
        assert!(!answer.contains(SECRET), "{path}: {answer}");
    }
}

#[test]
fn no_request_changes_a_key() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().to_str().unwrap();
    for more in [&[][..], &["--web-root", root]] {
        let node = Node::start(&[&["--trust-anyone", "--id", "n", "--set", "k=v"], more].concat());
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            for path in ["/keys/k", "/keys/new", "/status", "/config.json"] {
                let (code, answer) = node.request(method, path, "", "changed");
                assert!(code == 404 || code == 405, "{method} {path}: {answer}");
            }
        }
        assert_eq!(node.key_of("n", "k").as_deref(), Some("v"));
        assert_eq!(node.key_of("n", "new"), None);
    }
}

#[test]
fn an_http_address_that_others_can_reach_is_warned_of_once() {
    let warnings = |node: &Node| {
        let log = node.log();
        let lines = log
            .lines()
            .filter(|line| line.contains("not a loopback address"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let node = Node::start(&["--trust-anyone"]);
    assert_eq!(warnings(&node), [""; 0]);
    // This machine's address towards others. A sandbox may have none.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let own = socket
        .connect("192.0.2.1:9")
        .and_then(|()| socket.local_addr());
    for ip in ["0.0.0.0".parse().ok(), own.ok().map(|own| own.ip())]
        .into_iter()
        .flatten()
    {
        if ip.is_loopback() {
            continue;
        }
        let node = Node::start(&["--trust-anyone", "--http", &format!("{ip}:0")]);
        // The log has a thread of its own.
        let some = || Some(warnings(&node)).filter(|lines| !lines.is_empty());
        let warnings = wait_for("the warning", some);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        for part in ["WARN", "/status", "/metrics", "keys of all members"] {
            assert!(warnings[0].contains(part), "{warnings:?}");
        }
        // The address at which a request arrives is no foreign host.
        let addr = SocketAddr::new(ip, node.http.port());
        if !ip.is_unspecified() {
            assert_eq!(get(addr, "/status", &addr.to_string()).0, 200);
        }
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, node.http.port()));
        if ip.is_unspecified() {
            assert_eq!(get(loopback, "/status", &loopback.to_string()).0, 200);
            assert_eq!(get(loopback, "/status", "192.0.2.1").0, 421);
        }
    }
}

#[test]
fn a_pipe_or_a_device_among_the_files_holds_no_thread_and_a_long_path_is_no_error_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir(path("sub")).unwrap();
    for pipe in [path("pipe"), path("sub/index.html")] {
        let made = std::process::Command::new("mkfifo").arg(pipe).status();
        assert!(made.unwrap().success());
    }
    std::os::unix::fs::symlink("/dev/zero", path("zero")).unwrap();
    std::fs::create_dir(path("a b")).unwrap();
    std::fs::write(path("a b/index.html"), "index").unwrap();
    std::fs::write(path("file.txt"), "file").unwrap();
    std::os::unix::fs::symlink("file.txt", path("link.txt")).unwrap();
    let root = dir.path().to_str().unwrap();
    let node = Node::start(&["--trust-anyone", "--web-root", root]);
    let threads = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.process.id()));
        let status = status.unwrap();
        let line = status.lines().find(|line| line.starts_with("Threads:"));
        line.unwrap()[8..].trim().parse::<usize>().unwrap()
    };
    let get = |path: &str| get(node.http, path, "localhost").0;
    for (path, code) in [
        ("/file.txt", 200),
        ("/link.txt", 200),
        ("/a%20b/", 200),
        ("/none", 404),
    ] {
        assert_eq!(get(path), code, "{path}");
    }
    let before = threads();
    for _ in 0..20 {
        for path in ["/pipe", "/sub/", "/zero", "/pip%65", "//pipe", "/./pipe"] {
            assert_eq!(get(path), 404, "{path}");
        }
    }
    let after = threads();
    assert!(after < before + 20, "{before} threads, then {after}");
    for path in [
        format!("/{}", "x".repeat(300)),
        format!("/{}", "x/".repeat(1500)),
    ] {
        assert_eq!(get(&path), 404);
    }
    assert_eq!(get(&format!("/{}", "x".repeat(10_000))), 414);
    assert_eq!(get("/%2e%2e/file.txt"), 404);
    assert_eq!(get("/file.txt/more"), 404);
    let (code, _) = send(node.http, "POST /file.txt HTTP/1.1\r\nHost: localhost\r\n");
    assert_eq!(code, 405);
}
