//! The subcommands: what they print, and their exit codes. Nodes and subcommands are real processes.

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

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use support::admin::{Watch, objects, start, start_pair};
use support::process::{command, run, stderr, wait_for};

#[test]
fn get_set_and_delete_print_for_people_and_for_programs() {
    let node = start(&["--id", "a", "--set", "color=red"]);
    assert_eq!(node.run(&["get", "color"]), "red\n");
    assert_eq!(
        node.run(&["set", "color", "dark blue"]),
        "set a color = dark blue\n"
    );
    assert_eq!(node.run(&["get", "color", "--node", "a"]), "dark blue\n");
    assert_eq!(node.run(&["set", "load", "-0.5"]), "set a load = -0.5\n");
    assert_eq!(
        node.run(&["set", "--expire", "lease", "x"]),
        "set a lease = x\n"
    );
    assert_eq!(node.run(&["delete", "load"]), "deleted a load\n");

    let expected = |key: &str, value: &str| {
        let status = node.json("/status");
        serde_json::json!({
            "id": "a",
            "generation": status["generation"],
            "addr": node.gossip.to_string(),
            "live": true,
            "key": key,
            "value": value,
        })
    };
    let set = objects(&node.run(&["set", "--json", "text", "two\nlines"]));
    assert_eq!(set, [expected("text", "two\nlines")]);
    assert_eq!(objects(&node.run(&["get", "text", "--json"])), set);
    assert_eq!(
        objects(&node.run(&["get", "text", "--json", "--node", "a"])),
        set
    );
    let deleted = objects(&node.run(&["delete", "text", "--json"]));
    assert_eq!(deleted.len(), 1);
    assert_eq!(
        (&deleted[0]["id"], &deleted[0]["key"]),
        (&"a".into(), &"text".into())
    );
    assert_eq!(node.key_of("a", "text"), None);
    assert_eq!(node.key_of("a", "color").as_deref(), Some("dark blue"));
}

#[test]
fn what_the_node_refuses_has_exit_code_1_and_says_why() {
    let node = start(&["--id", "a"]);
    let long = "x".repeat(70_000);
    for (args, code, part) in [
        (
            &["get", "none"][..],
            "no-such-key",
            "\"a\" has no key \"none\"; gossip-node members --keys lists",
        ),
        (
            &["get", "kind", "--node", "zz"],
            "no-such-member",
            "no member \"zz\"; gossip-node members lists",
        ),
        (
            &["get", "none", "--node", "a"],
            "no-such-key",
            "\"a\" has no key",
        ),
        (
            &["delete", "none"],
            "no-such-key",
            "\"a\" has no key \"none\"",
        ),
        (
            &["set", "\u{e9}", "v"],
            "refused",
            "must begin with an ASCII",
        ),
        (&["set", "long", &long], "refused", "a message has room for"),
    ] {
        let output = node.admin(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stdout.is_empty());
        let text = stderr(&output);
        assert!(text.starts_with("error: ") && text.contains(part), "{text}");
        let output = node.admin(&[args, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stdout.is_empty());
        assert_eq!(objects(&stderr(&output))[0]["error"]["code"], code);
    }
}

#[test]
fn a_wrong_argument_of_a_subcommand_is_named_with_what_is_expected() {
    let node = start(&["--id", "a"]);
    let secret = format!("gossip-secret-{}", "a2".repeat(26));
    for (args, part) in [
        (&["get", ""][..], "is empty, but must be the name of a key"),
        (&["set", "", "v"], "is empty, but must be the name of a key"),
        (&["delete", ""], "is empty, but must be the name of a key"),
        (
            &["set", "key", &secret],
            "the key or the value contains a secret",
        ),
        (
            &["set", &secret, "v"],
            "the key or the value contains a secret",
        ),
        (
            &["secret", "foo"],
            "the subcommands are list, add, use, remove\n",
        ),
    ] {
        let output = node.admin(args);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(part), "{args:?}: {text}");
        assert!(!text.contains(&secret[14..]), "{args:?}: {text}");
    }
    assert_eq!(node.key_of("a", "key"), None);
    let directory = node.dir.path().to_str().unwrap();
    let output = run(&["members", "--admin", directory]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains(directory) && text.contains("it is a directory"),
        "{text}"
    );
}

#[test]
fn without_a_node_a_subcommand_names_the_path_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let shown = path.to_str().unwrap();
    let run = |args: &[&str], env: &[(&str, &str)]| {
        let output = command()
            .args(args)
            .envs(env.iter().copied())
            .output()
            .unwrap();
        (output.status.code(), stderr(&output))
    };
    let remedy = format!("gossip-node --admin {shown}");
    let (code, text) = run(&["members", "--admin", shown], &[]);
    assert_eq!(code, Some(3));
    assert!(
        text.contains(&format!("no node listens at {shown}")),
        "{text}"
    );
    assert!(text.contains(&remedy), "{text}");
    let (code, text) = run(&["members", "--json"], &[("GOSSIP_NODE_ADMIN", shown)]);
    assert_eq!(
        (code, &objects(&text)[0]["error"]["code"]),
        (Some(3), &"unreachable".into())
    );
    let (code, text) = run(
        &["members"],
        &[("XDG_RUNTIME_DIR", dir.path().to_str().unwrap())],
    );
    assert_eq!(code, Some(3));
    assert!(text.contains("/gossip-node.sock: start one with"), "{text}");
    let (code, text) = run(&["members"], &[]);
    assert_eq!(code, Some(2));
    assert!(text.contains("--admin PATH"), "{text}");
    for wrong in [&["set", "k"][..], &["get"], &["--trust-anyone", "members"]] {
        assert_eq!(run(wrong, &[]).0, Some(2), "{wrong:?}");
    }

    let node = start(&["--admin", shown]);
    node.signal("KILL");
    drop(node);
    let (code, text) = run(&["members", "--admin", shown], &[]);
    assert_eq!(code, Some(3));
    assert!(
        text.contains("any more") && text.contains(&remedy),
        "{text}"
    );
}

#[test]
fn members_are_a_table_or_an_object_each() {
    let (a, b) = start_pair();
    let table = a.run(&["members"]);
    let lines: Vec<Vec<_>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let (a_addr, b_addr) = (a.gossip.to_string(), b.gossip.to_string());
    assert_eq!(
        lines,
        [
            ["ID", "STATE", "ADDRESS", "KEYS"],
            ["a", "self", &a_addr, "2"],
            ["b", "live", &b_addr, "1"]
        ]
    );
    let listed = a.run(&["members", "--keys"]);
    assert!(
        listed.contains("\n  color = red\n  kind = node\nb "),
        "{listed}"
    );
    let members = objects(&a.run(&["members", "--json"]));
    let mut status = a.json("/status")["members"].as_array().unwrap().clone();
    for (member, status) in members.iter().zip(&mut status) {
        // The only field that changes by itself.
        status["heartbeat"] = member["heartbeat"].clone();
    }
    assert_eq!(members, status);
}

#[test]
fn get_reads_keys_of_other_members_also_of_dead_ones() {
    let (a, b) = start_pair();
    assert_eq!(b.run(&["get", "color", "--node", "a"]), "red\n");
    assert_eq!(
        objects(&b.run(&["get", "color", "--node", "a", "--json"]))[0]["live"],
        true
    );
    a.signal("KILL");
    let output = wait_for("the death of a to be noticed", || {
        let output = b.admin(&["get", "color", "--node", "a"]);
        (!output.stderr.is_empty()).then_some(output)
    });
    assert_eq!(output.stdout, b"red\n");
    assert!(
        stderr(&output).contains("a is not live"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        objects(&b.run(&["get", "color", "--node", "a", "--json"]))[0]["live"],
        false
    );
    assert!(b.run(&["members"]).contains("a   dead"));
}

#[test]
fn a_watch_shows_the_members_and_then_what_other_nodes_change() {
    let (a, b) = start_pair();
    let people = Watch::start(&a, &[]);
    let programs = Watch::start(&a, &["--json"]);
    for id in ["a", "b"] {
        people.line(|line| line.starts_with(&format!("member {id} ")));
        assert_eq!(programs.event("member")["id"], id);
    }
    people.line(|line| line.contains("changes follow"));
    programs.event("current");

    b.run(&["set", "mood", "sunny"]);
    people.line(|line| line == "set b mood = sunny");
    let set = programs.event("set");
    assert_eq!(
        (&set["id"], &set["key"], &set["value"]),
        (&"b".into(), &"mood".into(), &"sunny".into())
    );
    b.run(&["delete", "mood"]);
    people.line(|line| line == "deleted b mood");
    let deleted = programs.event("delete");
    assert_eq!(
        (&deleted["id"], &deleted["key"]),
        (&"b".into(), &"mood".into())
    );
    b.signal("KILL");
    people.line(|line| line.starts_with("dead b "));
    assert_eq!(programs.event("state")["live"], false);
    let c = start(&["--id", "c", "--seed", &a.gossip.to_string()]);
    people.line(|line| line.starts_with("member c ") || line.starts_with("live c "));
    drop(c);
}

#[test]
fn a_pipe_that_nobody_reads_ends_a_watch_without_an_error() {
    let node = start(&["--id", "a"]);
    let mut watch = command();
    watch.arg("watch").arg("--admin").arg(&node.admin);
    watch.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(watch.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    drop(output);
    node.run(&["set", "k", "v"]);
    let status = wait_for("the end of the watch", || watch.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    let mut error = String::new();
    watch.stderr.unwrap().read_to_string(&mut error).unwrap();
    assert_eq!(error, "");
}
