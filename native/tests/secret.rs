//! Secrets and trusted keys that change while nodes run. Nodes and subcommands are real processes.

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

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use support::admin::objects;
use support::cluster::{Cluster, IDS, Load, dials_with, make_secret, secrets};
use support::process::{Node, stderr, wait_for};

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Asserts that no secret of these files is in what the nodes show.
fn assert_hidden(nodes: &[Node], files: &[&Path]) {
    for node in nodes {
        let (_, status) = node.request("GET", "/status", "", "");
        let (_, metrics) = node.request("GET", "/metrics", "", "");
        let list = node.run(&["secret", "list"]);
        for shown in [node.log(), status, metrics, list] {
            assert!(!shown.contains("gossip-secret-"), "{shown}");
            for file in files {
                let secret = read(file);
                let random = secret.trim().trim_start_matches("gossip-secret-");
                assert!(!random.is_empty() && !shown.contains(random), "{shown}");
            }
        }
    }
}

/// Asserts that a node with this secret is kept out of a cluster.
fn assert_refused(cluster: &Cluster, secret: &Path) {
    let seed = cluster.nodes[0].gossip.to_string();
    let args = ["--id", "d", "--secret", secret.to_str().unwrap()];
    let late = Node::start(&[&args[..], &["--seed", &seed]].concat());
    wait_for("its dial to be refused", || {
        let log = late.log();
        (log.contains("secret") && log.contains("WARN")).then_some(())
    });
    assert_eq!(late.live_members(), ["d"]);
    assert_eq!(cluster.nodes[0].live_members(), IDS);
}

#[test]
fn three_nodes_rotate_to_a_new_secret_with_the_subcommands_under_load() {
    let cluster = Cluster::start();
    let old_file = cluster.dir.path().join("old.secret");
    let new_file = cluster.dir.path().join("new.secret");
    make_secret(&new_file);
    let old = dials_with(&cluster.nodes[0]);
    let load = Load::start(&cluster.nodes);

    for node in &cluster.nodes {
        let added = node.run(&["secret", "add", new_file.to_str().unwrap()]);
        assert!(added.starts_with("added "), "{added}");
    }
    let new = secrets(&cluster.nodes[0])[1].0.clone();
    for node in &cluster.nodes {
        let listed = secrets(node);
        assert_eq!(listed.len(), 2);
        assert!(listed[0].0 == old && listed[0].1 == "dials", "{listed:?}");
        assert!(listed[0].2 > 0, "{listed:?}");
        assert_eq!(listed[1], (new.clone(), "accepted".to_owned(), 0));
    }
    for node in &cluster.nodes {
        let used = node.run(&["secret", "use", &new[..6]]);
        assert_eq!(used, format!("using {new}\n"));
    }
    cluster.wait_for_connections_with(&new);
    for node in &cluster.nodes {
        let removed = node.run(&["secret", "remove", &old]);
        assert_eq!(removed, format!("removed {old}\n"));
        assert_eq!(secrets(node).len(), 1);
    }
    assert!(load.end() > 3);

    for (node, id) in cluster.nodes.iter().zip(IDS) {
        assert_eq!(node.live_members(), IDS);
        assert_eq!(read(&cluster.file(id)), read(&new_file));
        let mode = std::fs::metadata(cluster.file(id)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        let log = node.log();
        for done in ["added", "used for dialling", "removed"] {
            let line = format!("a secret was {done} by an admin command");
            assert!(log.contains(&line), "{log}");
        }
        assert!(log.contains(&old) && log.contains(&new), "{log}");
        assert!(!log.contains("read the secrets again"), "{log}");
    }
    assert_hidden(&cluster.nodes, &[&old_file, &new_file]);
    assert_refused(&cluster, &old_file);
}

#[test]
fn three_nodes_rotate_to_a_new_secret_by_editing_their_files_under_load() {
    let cluster = Cluster::start();
    let old_file = cluster.dir.path().join("old.secret");
    let new_file = cluster.dir.path().join("new.secret");
    make_secret(&new_file);
    let (old_text, new_text) = (read(&old_file), read(&new_file));
    let old = dials_with(&cluster.nodes[0]);
    let load = Load::start(&cluster.nodes);

    let edit = |text: &str, first: Option<&str>, count| {
        for (node, id) in cluster.nodes.iter().zip(IDS) {
            std::fs::write(cluster.file(id), text).unwrap();
            wait_for("the change to be noticed", || {
                let listed = secrets(node);
                let accepted = listed.iter().filter(|secret| secret.1 != "removed");
                let dials = first.is_none_or(|first| listed[0].0 == first);
                (accepted.count() == count && dials).then_some(())
            });
        }
    };
    edit(
        &format!("# both\n\n{old_text}# new\n{new_text}"),
        Some(&old),
        2,
    );
    let new = secrets(&cluster.nodes[0])[1].0.clone();
    edit(&format!("{new_text}{old_text}"), Some(&new), 2);
    cluster.wait_for_connections_with(&new);
    edit(&new_text, Some(&new), 1);
    assert!(load.end() > 3);

    for node in &cluster.nodes {
        assert_eq!(node.live_members(), IDS);
        node.wait_for_log("read the secrets again");
    }
    assert_hidden(&cluster.nodes, &[&old_file, &new_file]);
    assert_refused(&cluster, &old_file);
}

#[test]
fn connections_of_a_removed_secret_end_within_two_seconds() {
    let cluster = Cluster::start();
    let new_file = cluster.dir.path().join("new.secret");
    make_secret(&new_file);
    let node = &cluster.nodes[0];
    node.run(&["secret", "add", new_file.to_str().unwrap()]);
    let (old, new) = (dials_with(node), secrets(node)[1].0.clone());
    node.run(&["secret", "use", &new]);
    node.run(&["secret", "remove", &old]);
    let removed = Instant::now();
    wait_for("the connections to end", || {
        let connections: u64 = secrets(node).iter().map(|secret| secret.2).sum();
        (connections == 0).then_some(())
    });
    let took = removed.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn an_invalid_file_changes_nothing_and_is_warned_of_once() {
    let dir = tempfile::tempdir().unwrap();
    let (file, keys) = (dir.path().join("secret"), dir.path().join("keys"));
    make_secret(&file);
    let valid = read(&file);
    let key = "a".repeat(52);
    std::fs::write(&keys, &key).unwrap();
    let node = Node::start(&[
        "--secret",
        file.to_str().unwrap(),
        "--trust-file",
        keys.to_str().unwrap(),
    ]);
    let before = secrets(&node);
    let warnings = |part: &str| {
        let log = node.log();
        let lines = log.lines().filter(|line| line.contains("WARN"));
        lines.filter(|line| line.contains(part)).count()
    };
    let warned = |part: &str| {
        wait_for("a warning", || (warnings(part) > 0).then_some(()));
    };
    for (text, part) in [
        (format!("{valid}nonsense\n"), "line 2: does not contain"),
        (String::new(), "is empty"),
        (
            format!("{valid}{valid}"),
            "line 2: the same secret as on line 1",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        warned(part);
        assert_eq!(secrets(&node), before);
        let refused = node.admin(&["secret", "use", &before[0].0, "--json"]);
        assert_eq!(refused.status.code(), Some(1));
        assert_eq!(
            objects(&stderr(&refused))[0]["error"]["code"],
            "invalid-file"
        );
    }
    std::fs::remove_file(&file).unwrap();
    warned("secret does not exist any more");
    std::fs::write(&keys, "").unwrap();
    warned("nobody would be trusted");
    std::fs::write(
        &keys,
        format!("{key}\n# again\n{}\n", key.replacen('a', "b", 1)),
    )
    .unwrap();
    wait_for("the keys to be read", || {
        node.log()
            .contains("read the trusted keys again")
            .then_some(())
    });
    // All looks since the warnings have found the same.
    assert_eq!(warnings("stay as they are"), 5, "{}", node.log());
    assert_eq!(warnings("nonsense"), 0);
    std::fs::write(&file, &valid).unwrap();
    wait_for("the file to be valid again", || {
        node.log().contains("read the secrets again").then_some(())
    });
    assert_eq!(secrets(&node), before);
}

#[test]
fn a_key_that_is_taken_from_the_file_is_not_trusted_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (keys_of_a, key_of_b) = (dir.path().join("keys"), dir.path().join("b.key"));
    // To learn its key.
    let b = Node::start(&["--trust-anyone", "--key", key_of_b.to_str().unwrap()]);
    let identity = b.identity.clone();
    drop(b);
    let other = "a".repeat(52);
    std::fs::write(&keys_of_a, format!("{other}\n{identity} # b\n")).unwrap();
    let a = Node::start(&["--id", "a", "--trust-file", keys_of_a.to_str().unwrap()]);
    let b = Node::start(&[
        "--id",
        "b",
        "--key",
        key_of_b.to_str().unwrap(),
        "--trust",
        &a.identity,
        "--seed",
        &a.gossip.to_string(),
    ]);
    wait_for("both to be live", || {
        (a.live_members() == ["a", "b"]).then_some(())
    });
    std::fs::write(&keys_of_a, format!("{other}\n")).unwrap();
    wait_for("the connection to end", || {
        let connections = &a.json("/status")["stats"]["connections"];
        connections.as_array().unwrap().is_empty().then_some(())
    });
    wait_for("b to be dead", || (a.live_members() == ["a"]).then_some(()));
    drop(b);
}

#[test]
fn a_changed_file_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (file, new) = (dir.path().join("secret"), dir.path().join("new"));
    make_secret(&file);
    make_secret(&new);
    let args = ["--secret", file.to_str().unwrap()];
    let node = Node::start(&args);
    let old_id = dials_with(&node);
    let added = node.admin_with_input(&["secret", "add", "--json"], &read(&new));
    assert!(added.status.success(), "{}", stderr(&added));
    let added = objects(&String::from_utf8(added.stdout).unwrap());
    let new_id = added[0]["secret"].as_str().unwrap().to_owned();
    assert_eq!(
        (&added[0]["state"], &added[0]["connections"]),
        (&"accepted".into(), &0.into())
    );
    let used = objects(&node.run(&["secret", "use", &new_id, "--json"]));
    assert_eq!(used[0]["state"], "dials");
    let before = secrets(&node);
    assert_eq!(before[0].0, new_id);
    node.signal("KILL");
    drop(node);
    let node = Node::start(&args);
    assert_eq!(secrets(&node), before);
    let table = node.run(&["secret", "list"]);
    let expected = format!(
        "ID        STATE     CONNECTIONS  LEAVES\n\
         {new_id}  dials     0            0\n\
         {old_id}  accepted  0            0\n"
    );
    assert_eq!(table, expected);
}

#[test]
fn what_cannot_be_changed_is_refused_with_a_remedy_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let word = |name: &str| path(name).to_str().unwrap().to_owned();
    for name in ["secret", "2", "3", "4", "5"] {
        make_secret(&path(name));
    }
    let node = Node::start(&["--secret", &word("secret")]);
    let first = dials_with(&node);
    let refused = |args: &[&str], code: &str, remedy: &str| {
        let before = (read(&path("secret")), secrets(&node));
        let output = node.admin(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stdout.is_empty());
        let text = stderr(&output);
        assert!(
            text.starts_with("error: ") && text.contains(remedy),
            "{text}"
        );
        let output = node.admin(&[args, &["--json"]].concat());
        assert_eq!(
            objects(&stderr(&output))[0]["error"]["code"],
            code,
            "{args:?}"
        );
        assert_eq!((read(&path("secret")), secrets(&node)), before);
        assert!(!text.contains("gossip-secret-"), "{text}");
    };
    refused(&["secret", "remove", &first], "last-secret", "secret add");
    refused(
        &["secret", "add", &word("secret")],
        "secret-exists",
        "already",
    );
    refused(&["secret", "use", "1"], "no-such-secret", &first);
    refused(
        &["secret", "remove", "zz"],
        "no-such-secret",
        "the id \"zz\"",
    );
    let in_use = read(&path("secret"));
    for command in ["use", "remove"] {
        let text = stderr(&node.admin(&["secret", command, in_use.trim(), "--json"]));
        assert!(
            text.contains("{\"code\":\"usage\",") && text.contains("secret list lists the ids"),
            "{text}"
        );
        assert!(!text.contains(&in_use[14..40]), "{text}");
    }
    refused(&["secret", "add", &word("none")], "input", "No such file");
    let text = read(&path("2"));
    refused(
        &["secret", "add", text.trim()],
        "input",
        "on the command line",
    );
    std::fs::write(path("both"), format!("{text}{}", read(&path("3")))).unwrap();
    refused(
        &["secret", "add", &word("both")],
        "input",
        "only the new one",
    );
    let empty = node.admin_with_input(&["secret", "add"], "");
    assert!(
        stderr(&empty).contains("stdin is empty"),
        "{}",
        stderr(&empty)
    );
    for name in ["2", "3", "4"] {
        node.run(&["secret", "add", &word(name)]);
    }
    refused(
        &["secret", "add", &word("5")],
        "too-many-secrets",
        "secret remove ID",
    );
    refused(&["secret", "remove", &first], "secret-in-use", "secret use");
    refused(&["secret", "use", ""], "ambiguous-secret", &first);

    let other = Node::start(&["--trust-anyone"]);
    for args in [&["secret", "list"][..], &["secret", "add", &word("2")]] {
        let output = other.admin(&[args, &["--json"]].concat());
        let failure = &objects(&stderr(&output))[0]["error"];
        assert_eq!(failure["code"], "no-secret-file");
        assert!(
            failure["message"]
                .as_str()
                .unwrap()
                .contains("--secret FILE")
        );
    }
}

#[test]
fn a_file_that_cannot_be_replaced_leaves_the_node_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let word = |name: &str| path(name).to_str().unwrap().to_owned();
    make_secret(&path("old"));
    make_secret(&path("new"));
    // Read to its end at the start, and never again.
    let pipe = path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let (to, text) = (pipe.clone(), read(&path("old")));
    let writer = std::thread::spawn(move || std::fs::write(to, text).unwrap());
    let node = Node::start(&["--secret", &word("pipe")]);
    writer.join().unwrap();
    let before = secrets(&node);
    let refused = node.admin(&["secret", "add", &word("new"), "--json"]);
    let failure = &objects(&stderr(&refused))[0]["error"];
    assert_eq!(failure["code"], "not-writable");
    assert_eq!(secrets(&node), before);
    drop(node);

    // Root may write everywhere, but not into a directory that does not take a name as long as that of a draft.
    let long = dir.path().join("x".repeat(250));
    std::fs::copy(path("old"), &long).unwrap();
    let node = Node::start(&["--secret", long.to_str().unwrap()]);
    let refused = node.admin(&["secret", "add", &word("new"), "--json"]);
    let failure = &objects(&stderr(&refused))[0]["error"];
    assert_eq!(failure["code"], "not-writable");
    assert_eq!((secrets(&node), read(&long)), (before, read(&path("old"))));
    // The node notices a change that is made in another way.
    let mode = PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&long, mode).unwrap();
    std::fs::write(&long, format!("{}{}", read(&long), read(&path("new")))).unwrap();
    wait_for("the change to be noticed", || {
        (secrets(&node).len() == 2).then_some(())
    });
}
