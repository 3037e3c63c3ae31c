//! Which peers a node trusts: its key, its secrets, lists of keys, and the files of these.

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

use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;

use support::process::{DEADLINE, Node, command, run, signal, stderr, wait_for};

#[test]
fn a_missing_secret_is_reported_and_make_secret_makes_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    let path = path.to_str().unwrap();
    let output = run(&["--listen", "127.0.0.1:0", "--secret", path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--make-secret"));
    assert_eq!(run(&["--make-secret", path]).status.code(), Some(0));
    let secret = std::fs::read_to_string(path).unwrap();
    assert_eq!(run(&["--make-secret", path]).status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(path).unwrap(), secret);
    Node::start(&["--secret", path]);
}

#[test]
fn a_signal_ends_a_node_that_still_reads_its_key_or_secret() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for option in ["--secret", "--key"] {
        let mut command = command();
        command.args(["--listen", "127.0.0.1:0", option]).arg(&pipe);
        if option == "--key" {
            command.arg("--trust-anyone");
        }
        let mut process = command.stderr(Stdio::null()).spawn().unwrap();
        // It completes when the node has opened the other end, which then has nothing to read.
        let (pipe, (opened, writer)) = (pipe.clone(), std::sync::mpsc::channel());
        std::thread::spawn(move || opened.send(std::fs::File::create(pipe)));
        let _writer = writer.recv_timeout(DEADLINE).unwrap().unwrap();
        signal(&process, "TERM");
        wait_for("its end", || process.try_wait().unwrap());
    }
}

#[test]
fn nodes_with_different_secrets_do_not_join_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = ["one", "two"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    for secret in &secrets {
        assert!(run(&["--make-secret", secret]).status.success());
    }
    let a = Node::start(&["--id", "a", "--secret", &secrets[0]]);
    let seed = a.gossip.to_string();
    let other = Node::start(&["--id", "other", "--secret", &secrets[1], "--seed", &seed]);
    let b = Node::start(&["--id", "b", "--secret", &secrets[0], "--seed", &seed]);
    wait_for("the reason in the log", || {
        let reason = "check that both have the same cluster secret";
        other.log().contains(reason).then_some(())
    });
    assert!(!other.log().contains("joined the cluster"));
    wait_for("the other node in the log", || {
        b.log().contains("joined the cluster").then_some(())
    });
    for node in [&a, &b] {
        wait_for("a and b to join each other", || {
            (node.live_members() == ["a", "b"]).then_some(())
        });
    }
    wait_for("a to refuse the other", || {
        let refused = a.json("/status")["stats"]["accept_failed"].as_u64();
        (refused > Some(0)).then_some(())
    });
    let addr = |line: &&str| {
        line.contains("refused an incoming connection") && line.contains("127.0.0.1:")
    };
    wait_for("the line about it", || {
        a.log().lines().any(|line| addr(&line)).then_some(())
    });
    assert_eq!(other.live_members(), ["other"]);
}

#[test]
fn with_a_list_of_keys_only_peers_with_these_keys_join() {
    let dir = tempfile::tempdir().unwrap();
    let keys = ["a.key", "b.key"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    // Started once to create the keys.
    let identities = keys.each_ref().map(|key| {
        Node::start(&["--trust-anyone", "--key", key])
            .identity
            .clone()
    });
    let a = Node::start(&["--id", "a", "--key", &keys[0], "--trust", &identities[1]]);
    assert_eq!(a.identity, identities[0]);
    let seed = a.gossip.to_string();
    let b = [
        "--id",
        "b",
        "--key",
        &keys[1],
        "--trust",
        &identities[0],
        "--seed",
        &seed,
    ];
    let b = Node::start(&b);
    let unlisted = [
        "--id",
        "unlisted",
        "--trust",
        &identities[0],
        "--seed",
        &seed,
    ];
    let unlisted = Node::start(&unlisted);
    for node in [&a, &b] {
        wait_for("a and b to join each other", || {
            (node.live_members() == ["a", "b"]).then_some(())
        });
    }
    assert_eq!(unlisted.live_members(), ["unlisted"]);
}

#[test]
fn a_key_or_secret_that_others_can_read_is_warned_of_with_its_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (key, secret) = (dir.path().join("key"), dir.path().join("secret"));
    let [key, secret] = [&key, &secret].map(|path| path.to_str().unwrap());
    assert_eq!(run(&["--make-secret", secret]).status.code(), Some(0));
    let files = ["--secret", secret, "--key", key];
    let node = Node::start(&files);
    assert!(!node.log().contains("other users"), "{}", node.log());
    drop(node);
    for path in [key, secret] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640)).unwrap();
    }
    let log = Node::start(&files).log();
    for path in [key, secret] {
        let names = |line: &&str| line.contains("other users") && line.contains(path);
        assert!(log.lines().any(|line| names(&line)), "{log}");
    }
}

#[test]
fn a_list_of_keys_or_options_that_others_can_write_to_is_warned_of_with_its_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (keys, options) = (dir.path().join("keys"), dir.path().join("node.toml"));
    let key = Node::start(&["--trust-anyone"]).identity.clone();
    std::fs::write(&keys, format!("{key}\n")).unwrap();
    std::fs::write(&options, "trust-file = \"keys\"\n").unwrap();
    let options = options.to_str().unwrap();
    let set_mode = |mode| {
        for path in ["keys", "node.toml"] {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(dir.path().join(path), mode).unwrap();
        }
    };
    // Keys are no secret, so that others may read them.
    set_mode(0o644);
    let node = Node::start(&["--config", options]);
    assert!(!node.log().contains("other users"), "{}", node.log());
    drop(node);
    set_mode(0o664);
    let log = Node::start(&["--config", options]).log();
    let checked = stderr(&run(&["--config", options, "--check-config"]));
    for path in [keys.to_str().unwrap(), options] {
        let names = |line: &&str| line.contains("other users") && line.contains(path);
        assert!(log.lines().any(|line| names(&line)), "{log}");
        assert!(checked.lines().any(|line| names(&line)), "{checked}");
    }
}

#[test]
fn the_key_file_keeps_the_identity_and_is_readable_by_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.key");
    let args = ["--trust-anyone", "--key", path.to_str().unwrap()];
    let first = Node::start(&args).identity.clone();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(Node::start(&args).identity, first);
}

#[test]
fn a_second_node_with_the_key_of_one_that_runs_is_refused_until_that_one_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("node.key");
    let hub = Node::start(&["--trust-anyone", "--id", "hub"]);
    let seed = hub.gossip.to_string();
    let start = |id: &str| {
        let key = key.to_str().unwrap();
        let args = ["--trust-anyone", "--id", id, "--key", key, "--seed", &seed];
        Node::start(&args)
    };
    let first = start("first");
    wait_for("the first to join", || {
        (hub.live_members() == ["first", "hub"]).then_some(())
    });
    let second = start("second");
    assert_eq!(second.identity, first.identity);
    wait_for("the reason in the log", || {
        let log = second.log();
        let says = |line: &&str| {
            line.contains("duplicate-key")
                && line.contains("another member with the same key is connected to seed")
                && line.contains(&seed)
                && line.contains("give each member a key of its own")
        };
        log.lines().any(|line| says(&line)).then_some(())
    });
    // The first one notices nothing, and nobody hears of the second.
    assert_eq!(second.live_members(), ["second"]);
    for node in [&hub, &first] {
        assert_eq!(node.live_members(), ["first", "hub"]);
    }
    let refused = hub.request("GET", "/metrics", "", "").1;
    let count = |line: &str| {
        let value = line.strip_prefix("gossip_duplicates_refused_total ")?;
        value.parse::<u64>().ok()
    };
    assert!(refused.lines().find_map(count) > Some(0), "{refused}");
    first.signal("KILL");
    drop(first);
    wait_for("the second to take its place", || {
        let is_live = hub.live_members().contains(&"second".to_owned());
        (is_live && second.log().contains("joined the cluster")).then_some(())
    });
}
