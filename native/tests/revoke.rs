//! Revoked invites of `gossip-node`, with real processes, also over restarts.
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

use std::path::PathBuf;
use std::time::{Duration, Instant};

use gossip_transport::credential::InviteId;
use support::admin::objects;
use support::invites::{Files, id_of, invites, wait_for_members, wait_for_refusal, word_of};
use support::process::{Node, run, stderr, wait_for};

/// The time in which a revocation takes effect.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn a_revoked_invite_ends_its_connections_and_is_refused_after_a_restart() {
    let files = Files::new();
    let state = files.path("state");
    let a = files.core("a", &["--state-dir", &state]);
    let listen = a.gossip.to_string();
    let word = word_of(&a, &["--for", "1h"]);
    let kept = word_of(&a, &["--for", "1h"]);
    let leaf = files.leaf("leaf", &word, &[]);
    let other = files.leaf("other", &kept, &[]);
    wait_for_members(&[&a, &leaf, &other], &["a", "leaf", "other"]);
    let id = id_of(&word);
    // Its first characters could mean another one.
    let part = a.admin(&["revoke", &id[..20]]);
    assert_eq!(part.status.code(), Some(2), "{}", stderr(&part));
    let start = Instant::now();
    let revoked = a.run(&["revoke", &id]);
    let begins = format!("revoked {id}: all nodes refuse it until it expires at 2");
    assert!(
        revoked.starts_with(&begins) && revoked.ends_with("Z; kept on disk\n"),
        "{revoked}"
    );
    // Written before it was acknowledged.
    assert_eq!(files.read("state/revocations"), format!("{id}\n"));
    wait_for("the connection to end", || {
        (!invites(&a).contains(&id)).then_some(())
    });
    let took = start.elapsed();
    assert!(took < REVOKED_WITHIN, "{took:?}");
    assert_eq!(invites(&a), [id_of(&kept)]);
    let (_, metrics) = a.request("GET", "/metrics", "", "");
    assert!(
        metrics.contains("\ngossip_revoked_invites 1\n"),
        "{metrics}"
    );
    drop(leaf);
    a.signal("KILL");
    a.ended();

    let a = files.core("a", &["--state-dir", &state, "--listen", &listen]);
    assert_eq!(a.json("/status")["revoked_invites"], 1);
    let leaf = files.leaf("leaf", &word, &[]);
    wait_for_refusal(&leaf, "revoked");
    wait_for_members(&[&other], &["a", "other"]);
    let listed = objects(&a.run(&["revoke", "--list", "--json"]));
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &(*id).into()));
    assert_eq!(listed[0]["kept"], "disk");
    assert!(a.run(&["revoke", "--list"]).contains(&id));
    // Revoking it again is no error, and the word will do.
    assert_eq!(a.run(&["revoke", &word]), revoked);
    let line = wait_for("the line of the log", || {
        let log = a.log();
        let mut lines = log.lines();
        lines
            .find(|line| line.contains("command=\"revoke\""))
            .map(str::to_owned)
    });
    assert!(line.contains(&format!("about=\"{id}\"")), "{line}");
}

#[test]
fn a_revocation_that_cannot_be_kept_is_reported_as_such() {
    let files = Files::new();
    let state = files.path("state");
    let a = files.core("a", &["--state-dir", &state]);
    let b = files.core("b", &[]);
    let id = |node: &Node| id_of(&word_of(node, &["--for", "1h"]));
    // A directory is in the way of the file.
    std::fs::create_dir(files.path("state/revocations")).unwrap();
    let failed = a.admin(&["revoke", &id(&a), "--json"]);
    let text = stderr(&failed);
    assert_eq!(failed.status.code(), Some(1), "{text}");
    assert!(
        text.contains("\"unfinished\"") && text.contains("until this node restarts"),
        "{text}"
    );
    assert_eq!(a.json("/status")["revoked_invites"], 1);
    std::fs::remove_dir(files.path("state/revocations")).unwrap();
    let second = id(&a);
    a.run(&["revoke", &second]);
    assert_eq!(files.read("state/revocations").lines().count(), 2);
    // Without a state directory.
    let revoked = b.admin(&["revoke", &id(&b)]);
    assert!(revoked.status.success());
    let text = stderr(&revoked);
    assert!(text.contains("--state-dir"), "{text}");
    let listed = objects(&b.run(&["revoke", "--list", "--json"]));
    assert_eq!(listed[0]["kept"], "memory");
}

#[test]
fn a_damaged_file_of_revocations_ends_the_start_with_its_line() {
    let files = Files::new();
    let (secret, state) = (files.path("secret"), files.path("state"));
    drop(files.core("a", &["--state-dir", &state]));
    let id = files.issue(&["--for", "1h"])["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let now = gossip_transport::rt::unix_time();
    let far = InviteId::generate(now + InviteId::MAX_LIFETIME, Duration::from_secs(3600));
    let far = far.unwrap().to_string();
    let args = [
        "--secret",
        &secret,
        "--state-dir",
        &state,
        "--listen",
        "127.0.0.1:0",
    ];
    for (second, reason, remedy) in [
        (
            &id[..9],
            "not the id of an invite",
            "restore it, or remove the line",
        ),
        // As if the clock had been set back since.
        (
            &*far,
            "would expire in more than 30 days",
            "correct the clock, or remove the line",
        ),
    ] {
        let path = files.write("state/revocations", &format!("{id}\n{second}\n"));
        for (more, code) in [(&[][..], 1), (&["--check-config"], 2)] {
            let refused = run(&[&args[..], more].concat());
            let text = stderr(&refused);
            assert_eq!(refused.status.code(), Some(code), "{text}");
            let (_, error) = text.split_once(&format!("{path}, line 2: ")).expect(&text);
            assert!(error.contains(reason) && error.contains(remedy), "{text}");
        }
    }
}

#[test]
fn more_revocations_than_the_limit_are_refused_with_what_to_do() {
    let files = Files::new();
    let state = files.path("state");
    drop(files.core("a", &["--state-dir", &state]));
    let now = gossip_transport::rt::unix_time();
    let id = || InviteId::generate(now, Duration::from_secs(3600)).unwrap();
    let ids: String = (0..4096).map(|_| format!("{}\n", id())).collect();
    files.write("state/revocations", &ids);
    let a = files.core("a", &["--state-dir", &state]);
    let refused = a.admin(&["revoke", &id().to_string(), "--json"]);
    let text = stderr(&refused);
    assert!(
        text.contains("\"too-many-revocations\"") && text.contains("--make-secret"),
        "{text}"
    );
    assert_eq!(a.run(&["revoke", "--list", "--json"]).lines().count(), 4096);
}

#[test]
fn a_revocation_by_one_of_five_nodes_takes_effect_on_all_and_is_written_by_all() {
    const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];
    let files = Files::new();
    let state = |id: &str| files.path(&format!("{id}.state"));
    let mut nodes: Vec<Node> = Vec::new();
    for id in IDS {
        let seeds = nodes.iter().map(|node| node.gossip.to_string());
        let seeds: Vec<_> = seeds.flat_map(|addr| ["--seed".to_owned(), addr]).collect();
        let state = state(id);
        let mut args = vec!["--state-dir", &*state];
        args.extend(seeds.iter().map(String::as_str));
        nodes.push(files.core(id, &args));
    }
    let refs: Vec<&Node> = nodes.iter().collect();
    wait_for_members(&refs, &IDS);

    let mut leaves = Vec::new();
    let word = word_of(&nodes[0], &["--for", "1h"]);
    for node in &nodes {
        let seed = node.gossip.to_string();
        let name = format!("leaf-{}", leaves.len());
        leaves.push(files.leaf(&name, &word, &["--seed", &seed]));
    }
    for node in &nodes {
        wait_for("its leaf", || (!invites(node).is_empty()).then_some(()));
    }
    let start = Instant::now();
    nodes[3].run(&["revoke", &word]);
    for node in &nodes {
        wait_for("the connections to end", || {
            invites(node).is_empty().then_some(())
        });
    }
    let took = start.elapsed();
    assert!(took < REVOKED_WITHIN, "{took:?}");
    for id in IDS {
        let path = PathBuf::from(state(id)).join("revocations");
        wait_for("the file", || {
            let text = std::fs::read_to_string(&path).ok()?;
            (text == format!("{}\n", id_of(&word))).then_some(())
        });
    }
}

#[test]
fn a_word_on_stdin_is_revoked_without_being_in_the_command_line() {
    let files = Files::new();
    let a = files.core("a", &[]);
    let word = word_of(&a, &["--for", "1h"]);
    let leaf = files.leaf("leaf", &word, &[]);
    wait_for_members(&[&a, &leaf], &["a", "leaf"]);
    let revoke = |input: &str| a.admin_with_input(&["revoke", "-", "--json"], input);
    for (input, reason) in [
        ("", "stdin is empty"),
        (&word[..60], "stdin, line 1: the invite is incomplete"),
    ] {
        let refused = revoke(input);
        let text = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{text}");
        assert!(
            text.contains(reason) && text.contains("\"input\""),
            "{text}"
        );
        assert!(!text.contains(&word[14..40]), "{text}");
    }
    assert_eq!(invites(&a), [id_of(&word)]);
    let revoked = revoke(&format!("# a guest\n{word}\n"));
    assert!(revoked.status.success(), "{}", stderr(&revoked));
    let printed = objects(&String::from_utf8(revoked.stdout).unwrap());
    assert_eq!(printed[0]["id"], id_of(&word));
    wait_for("the connection to end", || {
        invites(&a).is_empty().then_some(())
    });
}

#[test]
fn an_id_that_no_valid_invite_can_have_is_refused_with_the_reason_and_revokes_nothing() {
    let files = Files::new();
    let a = files.core("a", &[]);
    let now = gossip_transport::rt::unix_time();
    let id = |time| InviteId::generate(time, Duration::from_secs(3600)).unwrap();
    let hour = Duration::from_secs(3600);
    let expired = id(now - 48 * hour).to_string();
    let far = id(now + InviteId::MAX_LIFETIME).to_string();
    let good = id(now).to_string();
    for (given, reason) in [
        (&*expired, "expired at 20"),
        (&far, "would expire at 20"),
        (&far, "check the id for typing errors"),
        (&good[..20], "its whole id"),
        (
            "no-such-file",
            "\"no-such-file\" is neither the id nor the word of an invite, nor the name of a file",
        ),
        ("no-such-file", "gossip-node invite has printed to stderr"),
        ("", "is empty"),
    ] {
        let refused = a.admin(&["revoke", given]);
        let text = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{given}: {text}");
        assert!(
            text.contains(reason) && text.contains(given),
            "{given}: {text}"
        );
        let json = stderr(&a.admin(&["revoke", given, "--json"]));
        assert!(json.contains("{\"code\":\"usage\","), "{json}");
    }
    let nothing = a.admin(&["revoke"]);
    let text = stderr(&nothing);
    assert_eq!(nothing.status.code(), Some(2), "{text}");
    assert!(text.contains("say which invite"), "{text}");
    assert_eq!(a.run(&["revoke", "--list", "--json"]), "");
    // The random part has no check, and the help says so.
    let help = run(&["revoke", "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        help.contains("A node does not know which ids were issued"),
        "{help}"
    );
}

#[test]
fn a_file_with_the_invite_and_a_link_with_its_word_are_taken_in_place_of_the_id() {
    let files = Files::new();
    let a = files.core("a", &[]);
    let new = || word_of(&a, &["--for", "1h"]);
    let (in_file, in_link, kept) = (new(), new(), new());
    let file = files.write("guest.invite", &format!("# a guest\n{in_file}\n"));
    let link = format!("http://127.0.0.1:8080/#invite={in_link}");
    for (given, word) in [(&file, &in_file), (&link, &in_link)] {
        let revoked = a.run(&["revoke", given]);
        let begins = format!("revoked {}: ", id_of(word));
        assert!(revoked.starts_with(&begins), "{revoked}");
    }
    let secret = files.path("secret");
    let several = files.write("several", &format!("{kept}\n{in_file}\n"));
    let damaged = files.write("damaged", &kept[..60]);
    let empty = files.write("empty", "");
    for (given, reason) in [
        (&secret, "secret, line 1: this is neither the id"),
        (&several, "several, line 2: a second invite"),
        (&damaged, "damaged, line 1: the invite is incomplete"),
        (&empty, "empty is empty"),
        (&files.path(""), "cannot read the invite from the file"),
    ] {
        let refused = a.admin(&["revoke", given]);
        let text = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{text}");
        assert!(text.contains(reason), "{text}");
        for part in [&kept[14..40], &files.read("secret")[14..40]] {
            assert!(!text.contains(part), "{text}");
        }
    }
    let listed = a.run(&["revoke", "--list", "--json"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
}

/// Returns the lines of the log of `node` that say that it is refused after it had joined.
fn refusals(node: &Node) -> Vec<String> {
    let log = node.log();
    let lines = log.lines().filter(|line| line.contains("any more"));
    let lines = lines.filter(|line| line.contains(" WARN "));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_node_whose_invite_is_revoked_after_it_has_joined_says_so_once_until_another_one_ends() {
    let files = Files::new();
    let a = files.core("a", &[]);
    let word = word_of(&a, &["--for", "1h"]);
    let leaf = files.leaf("leaf", &word, &[]);
    wait_for_members(&[&a, &leaf], &["a", "leaf"]);
    leaf.wait_for_log("joined the cluster");
    assert_eq!(refusals(&leaf), [""; 0]);
    let dials = |node: &Node| {
        let stats = &node.json("/status")["stats"];
        stats["dials"].as_u64().unwrap()
    };
    let end = |word: &str, count: usize| {
        a.run(&["revoke", word]);
        let lines = wait_for("the warning", || {
            let lines = refusals(&leaf);
            (lines.len() == count).then_some(lines)
        });
        let line = &lines[count - 1];
        for part in [
            "code=\"revoked\"",
            &id_of(word),
            "use a new one",
            "--invite",
        ] {
            assert!(line.contains(part), "{line}");
        }
        // Further dials add nothing.
        let before = dials(&leaf);
        wait_for("further dials", || {
            (dials(&leaf) > before + 3).then_some(())
        });
        assert_eq!(refusals(&leaf).len(), count);
    };
    end(&word, 1);
    // A new invite takes effect, and is warned of when it ends as well.
    let second = word_of(&a, &["--for", "1h"]);
    files.write("leaf.invite", &second);
    wait_for("the new invite to be used", || {
        (invites(&a) == [id_of(&second)]).then_some(())
    });
    end(&second, 2);
}
