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
    for hosts in ["", "Host: a\r\nHost: b\r\n", "Host: u@a\r\n"] {
        let (code, answer) = request(node.gossip, "GET /config.json", hosts);
        assert_eq!(code, 400, "{hosts}: {answer}");
        assert!(!answer.contains(&node.gossip.to_string()), "{answer}");
    }
    // The private port names addresses.
    assert_eq!(
        node.json("/config.json")["seeds"],
        serde_json::json!([node.gossip.to_string()])
    );
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
    let file = private(dir.path(), "invite", &word);
    let leaf = Node::start(&["--invite", &file, "--id", "visitor"]);
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
