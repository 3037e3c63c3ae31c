//! HTTP on the gossip port: what everyone may see there, the token for the rest, and visitors without an invite.

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
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use gossip_transport::credential::Invite;
use serde_json::Value;
use support::process::{Node, run, stderr, wait_for};

const TOKEN: &str = "0123456789abcdefABCDEF==";

/// Requests a path with another host name, and returns the code and the whole response.
fn get(addr: SocketAddr, path: &str, fields: &str) -> (u16, String) {
    let fields = format!("Host: gossip.example.com\r\n{fields}");
    request(addr, &format!("GET {path}"), &fields)
}

fn request(addr: SocketAddr, method_and_path: &str, fields: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(
        stream,
        "{method_and_path} HTTP/1.1\r\nConnection: close\r\n{fields}\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

fn private(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn secret(dir: &Path) -> String {
    let path = dir.join("secret").display().to_string();
    let made = run(&["--make-secret", &path]);
    assert!(made.status.success(), "{}", stderr(&made));
    path
}

fn json(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

#[test]
fn everyone_sees_the_page_and_its_configuration_and_members_need_the_token() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index.html"), "the page").unwrap();
    let root = dir.path().display().to_string();
    let secret = secret(dir.path());
    let token = private(dir.path(), "token", &format!("{TOKEN}\n"));
    let common = [
        "--secret",
        &secret,
        "--http-on-gossip-port",
        "--web-root",
        &root,
    ];
    let node = Node::start(&[&common[..], &["--id", "a", "--http-token", &token]].concat());
    for (path, content) in [
        ("/", "the page"),
        ("/config.json", "\"seeds\""),
        ("/healthz", "ok"),
        ("/readyz", "ready"),
    ] {
        let (code, answer) = get(node.gossip, path, "");
        assert_eq!(code, 200, "{path}: {answer}");
        assert!(answer.contains(content), "{path}: {answer}");
        assert!(
            answer.to_lowercase().contains("content-security-policy"),
            "{answer}"
        );
        assert!(!answer.contains("invite"), "{path}: {answer}");
    }
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    for path in ["/status", "/metrics"] {
        assert_eq!(get(node.gossip, path, &right).0, 200);
        for wrong in ["", "Authorization: Bearer 0123456789abcdefABCDEF=\r\n"] {
            let (code, answer) = get(node.gossip, path, wrong);
            assert_eq!(code, 401, "{path} {wrong}: {answer}");
            assert!(
                answer.to_lowercase().contains("www-authenticate: bearer"),
                "{answer}"
            );
            assert!(!answer.contains("gossip_"), "{answer}");
        }
    }
    // Without a file for it, nobody has the token.
    let other = Node::start(&[&common[..], &["--id", "b"]].concat());
    let (code, answer) = get(other.gossip, "/status", &right);
    assert_eq!(code, 401, "{answer}");
    assert!(answer.contains("--http-token"), "{answer}");
    // Both ports count together, and no request is a failure of gossip.
    let status = node.json("/status");
    assert!(
        status["http"]["requests"].as_u64().unwrap() >= 11,
        "{status}"
    );
    assert_eq!(status["stats"]["accept_failed"], 0);
    for node in [&node, &other] {
        assert!(!node.log().contains(TOKEN), "the token is in the log");
    }
}

#[test]
fn a_node_is_ready_once_a_peer_is_live() {
    let dir = tempfile::tempdir().unwrap();
    let secret = secret(dir.path());
    // Nobody is there yet.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let first = port.local_addr().unwrap();
    drop(port);
    let (listen, common) = (
        first.to_string(),
        ["--secret", &*secret, "--http-on-gossip-port"],
    );
    let node = Node::start(&[&common[..], &["--seed", &listen]].concat());
    let (code, answer) = get(node.gossip, "/readyz", "");
    assert_eq!(code, 503, "{answer}");
    assert_eq!(get(node.gossip, "/healthz", "").0, 200);
    let _first = Node::start(&[&common[..], &["--listen", &listen]].concat());
    wait_for("the node to be ready", || {
        (get(node.gossip, "/readyz", "").0 == 200).then_some(())
    });
}

#[test]
fn a_page_learns_the_url_that_it_has_reached_and_no_inner_address() {
    let node = Node::start(&["--trust-anyone", "--http-on-gossip-port"]);
    let (_, answer) = get(node.gossip, "/config.json", "");
    let seeds = json(&answer)["seeds"].clone();
    assert_eq!(seeds, serde_json::json!(["ws://gossip.example.com/"]));
    // The dot means the same name, and a proxy that is not trusted states nothing.
    let odd = "Host: Gossip.example.com.:8080\r\nX-Forwarded-Proto: https\r\n";
    let (_, answer) = request(node.gossip, "GET /config.json", odd);
    let seeds = json(&answer)["seeds"].clone();
    assert_eq!(seeds, serde_json::json!(["ws://gossip.example.com:8080/"]));
    for (hosts, why) in [
        ("", "names no host"),
        ("Host: a\r\nHost: b\r\n", "or several"),
        ("Host: u@a\r\n", "u@a"),
        ("Host: 0.0.0.0:7946\r\n", "0.0.0.0 is not an address"),
    ] {
        let (code, answer) = request(node.gossip, "GET /config.json", hosts);
        assert_eq!(code, 400, "{hosts}: {answer}");
        assert!(answer.contains(why), "{hosts}: {answer}");
        assert!(!answer.contains(&node.gossip.to_string()), "{answer}");
    }
    // The private port names addresses.
    assert_eq!(
        node.json("/config.json")["seeds"],
        serde_json::json!([node.gossip.to_string()])
    );
}

#[test]
fn a_page_that_was_loaded_over_tls_of_a_trusted_proxy_learns_a_url_that_it_can_open() {
    let node = Node::start(&[
        "--trust-anyone",
        "--http-on-gossip-port",
        "--forwarded-for-from",
        "127.0.0.1",
    ]);
    for (stated, seed) in [
        ("https", "wss://gossip.example.com/"),
        ("http", "ws://gossip.example.com/"),
    ] {
        let field = format!("X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Proto: {stated}\r\n");
        let (_, answer) = get(node.gossip, "/config.json", &field);
        assert_eq!(json(&answer)["seeds"], serde_json::json!([seed]));
    }
}

#[test]
fn the_token_is_read_again_when_its_file_changes_and_a_broken_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = private(dir.path(), "token", TOKEN);
    let node = Node::start(&[
        "--trust-anyone",
        "--http-on-gossip-port",
        "--http-token",
        &file,
    ]);
    let code = |token: &str| {
        let field = format!("Authorization: Bearer {token}\r\n");
        get(node.gossip, "/status", &field).0
    };
    assert_eq!(code(TOKEN), 200);
    let next = "anotherTokenOfTheSameNode==";
    private(dir.path(), "token", next);
    wait_for("the new token", || (code(next) == 200).then_some(()));
    assert_eq!(code(TOKEN), 401);
    private(dir.path(), "token", "too short");
    node.wait_for_log("the token of --http-token stays as it is");
    assert_eq!(code(next), 200);
    private(dir.path(), "token", TOKEN);
    wait_for("the first token again", || {
        (code(TOKEN) == 200).then_some(())
    });
    let log = node.log();
    assert_eq!(log.matches("stays as it is").count(), 1, "{log}");
    assert!(
        !log.contains(next) && !log.contains(TOKEN),
        "a token is in the log"
    );
}

#[test]
fn a_page_is_invited_under_the_public_url_and_any_address_and_the_log_says_why_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let secret = secret(dir.path());
    let node = Node::start(&[
        "--secret",
        &secret,
        "--http-on-gossip-port",
        "--invite-visitors",
        "--public-url",
        "wss://gossip.example.com/gossip",
    ]);
    let ask = |host: &str| {
        let field = format!("Host: {host}\r\n");
        json(&request(node.gossip, "GET /config.json?invite", &field).1)
    };
    for host in ["gossip.example.com", "203.0.113.5:7946", "[2001:db8::1]"] {
        let word = ask(host)["invite"].as_str().unwrap().to_owned();
        let invite: Invite = word.parse().unwrap();
        assert_eq!(invite.seeds(), ["wss://gossip.example.com/gossip"]);
    }
    assert!(!node.log().contains("no invite for a page"));
    for _ in 0..2 {
        assert!(ask("evil.example").get("invite").is_none());
    }
    node.wait_for_log("no invite for a page");
    let refused = &node.json("/status")["http"]["visitors_refused"];
    assert_eq!(*refused, 2);
}

#[test]
fn a_visitor_without_an_invite_gets_one_with_which_it_joins_and_few_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let secret = secret(dir.path());
    let node = Node::start(&[
        "--secret",
        &secret,
        "--http-on-gossip-port",
        "--invite-visitors",
        "--http-host",
        "gossip.example.com",
        "--id",
        "a",
    ]);
    // Only the public port gives invites, and only if it is asked by a page of its own.
    assert!(node.json("/config.json?invite").get("invite").is_none());
    let ask = "GET /config.json?invite";
    for (asked, fields) in [
        ("GET /config.json", "Host: gossip.example.com\r\n"),
        (ask, "Host: evil.example\r\n"),
        (
            ask,
            "Host: gossip.example.com\r\nSec-Fetch-Site: cross-site\r\n",
        ),
        (
            ask,
            "Host: gossip.example.com\r\nSec-Fetch-Site: same-site\r\n",
        ),
    ] {
        for _ in 0..25 {
            let (code, answer) = request(node.gossip, asked, fields);
            assert_eq!(code, 200, "{answer}");
            assert!(!answer.contains("invite"), "{fields}: {answer}");
        }
    }
    let own = "Sec-Fetch-Site: same-origin\r\n";
    let (code, answer) = get(node.gossip, "/config.json?invite", own);
    assert_eq!(code, 200, "{answer}");
    let word = json(&answer)["invite"].as_str().unwrap().to_owned();
    // It names what the page has reached, and no inner address.
    let invite: Invite = word.parse().unwrap();
    assert_eq!(invite.seeds(), ["ws://gossip.example.com/"]);
    let file = private(dir.path(), "invite", &word);
    let seed = node.gossip.to_string();
    let leaf = Node::start(&["--invite", &file, "--id", "visitor", "--seed", &seed]);
    wait_for("the visitor to be known", || {
        let live = node.live_members();
        live.contains(&"visitor".to_owned()).then_some(())
    });
    drop(leaf);
    let answers = (0..25).map(|_| json(&get(node.gossip, "/config.json?invite", own).1));
    let answers: Vec<_> = answers.collect();
    let refused = answers.iter().find(|answer| answer.get("invite").is_none());
    // Whoever has an invite in its link can still join.
    let refused = refused.expect("one of 25 gets no invite");
    assert!(
        refused["invite_after_s"].as_u64().unwrap() >= 1,
        "{refused}"
    );
    assert!(refused["seeds"].is_array(), "{refused}");
    let status = node.json("/status");
    let count = status["http"]["visitors_refused"].as_u64().unwrap();
    assert!(count >= 1, "{status}");
    assert!(!node.log().contains(&word), "the invite is in the log");
}

#[test]
fn strangers_take_no_connection_of_the_private_port() {
    let node = Node::start(&[
        "--trust-anyone",
        "--http-on-gossip-port",
        "--max-http-connections",
        "8",
    ]);
    let ask = |stream: &mut TcpStream| {
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = [0; 1024];
        let len = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..len]).into_owned()
    };
    let mut private = TcpStream::connect(node.http).unwrap();
    assert!(ask(&mut private).contains("200 OK"));
    let mut strangers = Vec::new();
    for _ in 0..30 {
        let mut stranger = TcpStream::connect(node.gossip).unwrap();
        assert!(ask(&mut stranger).contains("200 OK"));
        strangers.push(stranger);
    }
    assert!(ask(&mut private).contains("200 OK"));
    let http = &node.json("/status")["http"];
    assert!(http["evicted"].as_u64() >= Some(24), "{http}");
}

#[test]
fn options_that_do_not_fit_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let secret = secret(dir.path());
    let short = private(dir.path(), "short", "0123456789");
    let none = dir.path().join("none").display().to_string();
    let base = ["--secret", &secret, "--listen", "127.0.0.1:0"];
    for (args, code, reason) in [
        (&["--http-token", &short][..], 2, "--http-on-gossip-port"),
        (&["--invite-visitors"], 2, "--http-on-gossip-port"),
        (
            &[
                "--http-on-gossip-port",
                "--invite-visitors",
                "--visitor-lifetime",
                "299s",
            ],
            2,
            "between 5m and 24h",
        ),
        (
            &["--http-on-gossip-port", "--http-token", &short],
            1,
            "16 to 512",
        ),
        (&["--http-on-gossip-port", "--http-token", &none], 1, &*none),
    ] {
        let output = run(&[&base[..], args].concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(reason), "{args:?}: {text}");
    }
}
