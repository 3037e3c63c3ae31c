//! What a node logs about admin commands, and the connections that it lists, with real processes.
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

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use support::admin::{objects, start, start_pair};
use support::cluster::make_secret;
use support::invites::{Files, id_of, wait_for_members, word_of};
use support::process::{Node, stderr, wait_for};

/// Waits for the line about a command, and returns it.
fn line_about(node: &Node, command: &str, outcome: &str) -> String {
    let (command, outcome) = (
        format!("command={command:?}"),
        format!("outcome={outcome:?}"),
    );
    wait_for("the line of the log", || {
        let log = node.log();
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains(&command) && line.contains(&outcome));
        line.map(str::to_owned)
    })
}

fn own_uid() -> String {
    let id = std::process::Command::new("id").arg("-u").output().unwrap();
    String::from_utf8(id.stdout).unwrap().trim().to_owned()
}

#[test]
fn every_change_is_logged_with_its_user_and_without_its_value() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    make_secret(&dir.path().join("secret"));
    make_secret(&dir.path().join("new"));
    let new = std::fs::read_to_string(dir.path().join("new")).unwrap();
    let node = Node::start(&["--secret", &path("secret")]);
    let long = "k".repeat(60_000);
    node.run(&["set", "color", "vermilion"]);
    node.run(&["set", &long, "v"]);
    node.run(&["delete", "color"]);
    node.admin(&["delete", "none"]);
    node.run(&["members"]);
    node.run(&["secret", "add", &path("new")]);
    node.admin(&["secret", "remove", "zz"]);
    let by = format!("by=\"uid {}, pid ", own_uid());
    for (command, outcome, about) in [
        ("set", "done", "about=\"color\""),
        ("delete", "done", "about=\"color\""),
        ("delete", "no-such-key", "about=\"none\""),
        ("secret-add", "done", "about="),
        ("secret-remove", "no-such-secret", "about=\"zz\""),
    ] {
        let line = line_about(&node, command, outcome);
        assert!(line.contains("INFO") && line.contains(&by), "{line}");
        assert!(line.contains(about), "{line}");
    }
    let log = node.log();
    assert!(
        !log.contains("vermilion") && !log.contains(new.trim()),
        "{log}"
    );
    assert!(log.contains("(60000 bytes)"));
    assert!(log.lines().all(|line| line.len() < 500), "{log}");
    assert!(!log.contains("command=\"members\""), "it changes nothing");
}

#[test]
fn the_change_of_a_client_that_does_not_wait_for_the_reply_is_logged() {
    let node = start(&["--id", "a"]);
    let mut client = UnixStream::connect(&node.admin).unwrap();
    let request = r#"{"version":1,"command":"set","arguments":{"key":"k","value":"v"}}"#;
    writeln!(client, "{request}").unwrap();
    drop(client);
    line_about(&node, "set", "done");
    let with_token = start(&["--id", "b", "--admin-loopback"]);
    with_token.run(&["set", "k", "v"]);
    let line = line_about(&with_token, "set", "done");
    assert!(line.contains("by=\"holder of the token\""), "{line}");
}

#[test]
fn connections_are_a_table_or_an_object_each() {
    let (a, b) = start_pair();
    let listed = wait_for("a connection", || {
        let listed = objects(&b.run(&["connections", "--json"]));
        (!listed.is_empty()).then_some(listed)
    });
    let connection = &listed[0];
    assert_eq!(connection["addr"], a.gossip.to_string());
    assert_eq!(connection["identity"], a.identity);
    assert_eq!(connection["direction"], "outgoing");
    assert_eq!(connection["protocol"], "noise");
    assert_eq!(connection["alpn"], "chitchat/v1");
    for number in [
        "age_seconds",
        "silence_seconds",
        "queued",
        "queued_bytes",
        "incoming_queued",
    ] {
        assert!(connection[number].is_number(), "{connection}");
    }
    let table = a.run(&["connections"]);
    let rows: Vec<Vec<_>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0][..5],
        ["ADDRESS", "IDENTITY", "DIRECTION", "PROTOCOL", "ALPN"]
    );
    let (addr, short) = (b.gossip.to_string(), &b.identity[..10]);
    let row = [&addr, short, "incoming", "noise", "chitchat/v1"];
    assert_eq!(rows[1][..5], row, "{table}");
    b.signal("KILL");
    drop(b);
    wait_for("the connection to end", || {
        (a.run(&["connections"]).lines().count() == 1).then_some(())
    });
    let none = a.admin(&["connections", "--json"]);
    assert!(
        none.status.success() && none.stdout.is_empty(),
        "{}",
        stderr(&none)
    );
}

#[test]
fn the_most_detailed_log_has_no_secret_and_no_word() {
    let files = Files::new();
    make_secret(files.path("next").as_ref());
    let core = |id: &str, seed: &[&str]| {
        let secret = files.path(&format!("{id}.secret"));
        std::fs::copy(files.path("secret"), &secret).unwrap();
        let own = ["--secret", &secret, "--id", id, "--cluster", "c"];
        Node::start_with_log(&[&own[..], seed].concat(), "trace")
    };
    let a = core("a", &[]);
    let b = core("b", &["--seed", &a.gossip.to_string()]);
    let word = word_of(&a, &["--for", "1h"]);
    let file = files.write("word", &word);
    let leaf = Node::start_with_log(&["--invite", &file, "--id", "leaf"], "trace");
    wait_for_members(&[&a, &b, &leaf], &["a", "b", "leaf"]);
    for node in [&a, &b] {
        node.run(&["secret", "add", &files.path("next")]);
    }
    a.run(&["revoke", &id_of(&word)]);
    line_about(&a, "revoke", "done");
    wait_for("the refusal", || {
        leaf.log().contains("has been revoked").then_some(())
    });
    let secrets = ["secret", "next"].map(|name| files.read(name));
    let words = [&secrets[0], &secrets[1], &word];
    // Those that dial have more to say.
    assert!([&b, &leaf].iter().all(|node| node.log().contains("TRACE")));
    for node in [&a, &b, &leaf] {
        let log = node.log();
        for word in words {
            let body = word.trim().rsplit('-').next().unwrap();
            for part in body.as_bytes().windows(12) {
                let part = std::str::from_utf8(part).unwrap();
                let line = log.lines().find(|line| line.contains(part));
                assert_eq!(line, None, "{part} of {word}");
            }
        }
    }
}
