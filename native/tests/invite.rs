//! Invites of `gossip-node`, with real processes: issuing them, and joining with them.
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

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use gossip_transport::ClusterSecret;
use gossip_transport::credential::{Claims, Invite, InviteId};
use support::admin::objects;
use support::cluster::make_secret;
use support::invites::{Files, id_of, invites, wait_for_members, wait_for_refusal, word_of};
use support::process::{Node, run, stderr, wait_for};

#[test]
fn a_node_joins_with_a_word_as_a_leaf_that_all_members_see() {
    let files = Files::new();
    let a = files.core("a", &[]);
    let seed = a.gossip.to_string();
    let b = files.core("b", &["--seed", &seed]);
    // Cluster and seed are those of the node that issues it.
    let word = word_of(&a, &["--for", "1h", "--name", "tab-"]);
    let leaf = files.leaf("tab-1", &word, &["--set", "mood=sunny"]);
    wait_for_members(&[&a, &b, &leaf], &["a", "b", "tab-1"]);
    wait_for("its key to arrive", || b.key_of("tab-1", "mood"));
    let id = id_of(&word);
    assert_eq!(invites(&a), [&*id]);
    assert!(invites(&leaf).iter().all(|held| *held == id));
    assert!(a.run(&["connections"]).contains(&id));
    let secrets = objects(&a.run(&["secret", "list", "--json"]));
    assert_eq!(secrets[0]["leaves"], 1, "{secrets:?}");
    let status = a.json("/status");
    assert_eq!(status["stats"]["leaves"], 1, "{status}");
    let connections = status["stats"]["connections"].as_array().unwrap();
    assert!(connections.iter().any(|open| open["invite"] == *id));
    let (_, metrics) = a.request("GET", "/metrics", "", "");
    assert!(metrics.contains("\ngossip_leaves 1\n"), "{metrics}");
    // A leaf has no secret, so it can neither issue nor revoke.
    for args in [&["invite", "--for", "1h"][..], &["revoke", &id]] {
        let refused = leaf.admin(&[args, &["--json"]].concat());
        let text = stderr(&refused);
        assert!(text.contains("\"no-secret-file\""), "{text}");
    }
}

#[test]
fn invites_issued_with_and_without_a_node_agree() {
    let files = Files::new();
    let a = files.core("a", &[]);
    let seed = a.gossip.to_string();
    let holder = a.identity.clone();
    let args = [
        "--for",
        "2h",
        "--name",
        "tab-",
        "--max-keys",
        "7",
        "--max-bytes",
        "4KiB",
        "--max-changes",
        "3",
        "--max-connections",
        "9",
        "--holder",
        &holder,
        "--seed",
        &seed,
    ];
    let online = a.run(&[&["invite", "--json"][..], &args].concat());
    let mut online = objects(&online).remove(0);
    let mut offline = files.issue(&args);
    for issued in [&mut online, &mut offline] {
        let word: Invite = issued["word"].as_str().unwrap().parse().unwrap();
        let claims = word.claims();
        assert_eq!(issued["id"], claims.id().to_string());
        assert_eq!(claims.quotas().max_bytes(), 4096);
        let expires = issued["expires"].as_str().unwrap();
        assert!(expires.ends_with('Z') && expires.len() == 20, "{expires}");
        for random in ["id", "word", "expires"] {
            issued.as_object_mut().unwrap().remove(random);
        }
    }
    assert_eq!(online, offline);
    let claims = &online["claims"];
    for (claim, value) in [
        ("max_keys", 7),
        ("max_bytes", 4096),
        ("max_changes", 3),
        ("max_connections", 9),
    ] {
        assert_eq!(claims[claim], value, "{claims}");
    }
    assert_eq!(
        (&claims["name"], &claims["holder"]),
        (&"tab-".into(), &(*holder).into())
    );
    assert_eq!(
        (&online["cluster"], &online["seeds"][0]),
        (&"c".into(), &(*seed).into())
    );
}

#[test]
fn an_invite_is_issued_with_the_secret_that_is_used() {
    let files = Files::new();
    make_secret(files.path("next").as_ref());
    let a = files.core("a", &[]);
    a.run(&["secret", "add", &files.path("next")]);
    let secrets = || objects(&a.run(&["secret", "list", "--json"]));
    let next = secrets()[1]["secret"].as_str().unwrap().to_owned();
    a.run(&["secret", "use", &next]);
    let leaf = files.leaf("tab-1", &word_of(&a, &["--for", "1h"]), &[]);
    wait_for_members(&[&a, &leaf], &["a", "tab-1"]);
    let leaves = secrets();
    let leaves = leaves
        .iter()
        .map(|secret| (&secret["secret"], &secret["leaves"]));
    let leaves: Vec<_> = leaves.filter(|(_, leaves)| **leaves != 0).collect();
    assert_eq!(leaves, [(&next.as_str().into(), &1.into())]);
}

#[test]
fn a_leaf_that_took_a_name_before_its_node_came_is_not_read_in_the_place_of_the_node() {
    let files = Files::new();
    let a = files.core("a", &[]);
    let leaf = files.leaf("db", &word_of(&a, &["--for", "1h"]), &["--set", "at=leaf"]);
    wait_for_members(&[&a, &leaf], &["a", "db"]);
    let node = files.core("db", &["--set", "at=node", "--seed", &a.gossip.to_string()]);
    let read = || objects(&a.run(&["get", "at", "--node", "db", "--json"])).remove(0);
    let states = || {
        let status = a.json("/status");
        let members = status["members"].as_array().unwrap();
        let named = members.iter().filter(|member| member["id"] == "db");
        let mut states: Vec<_> = named
            .map(|member| {
                let at = member["keys"]["at"].as_str().map(str::to_owned);
                (at, member["live"] == true)
            })
            .collect();
        states.sort();
        states
    };
    let wait_for_states = |what: &str, of_node: bool| {
        let of = |at: &str, live| (Some(at.to_owned()), live);
        let expected = [of("leaf", true), of("node", of_node)];
        wait_for(what, || (states() == expected).then_some(()));
    };
    wait_for_states("both to be live", true);
    assert_eq!(read()["value"], "node");
    node.signal("KILL");
    wait_for_states("the node to be dead", false);
    assert_eq!(read()["value"], "node");
    assert_eq!(read()["live"], false);
}

#[test]
fn an_invite_of_another_cluster_an_expired_one_and_one_of_another_holder_are_refused() {
    let (files, others) = (Files::new(), Files::new());
    let a = files.core("a", &[]);
    let seed = a.gossip.to_string();
    let args = ["--for", "1h", "--seed", &seed];
    let foreign = others.issue(&args)["word"].as_str().unwrap().to_owned();
    let secret: ClusterSecret = files.read("secret").parse().unwrap();
    let long_ago = Duration::from_secs(1_700_000_000);
    let id = InviteId::generate(long_ago, Duration::from_secs(60)).unwrap();
    let expired = Invite::issue(&secret, Claims::new(id), "c".to_owned(), vec![seed.clone()]);
    let expired = expired.unwrap().to_text();
    let of_a = word_of(&a, &["--for", "1h", "--holder", &a.identity]);
    let nodes = [
        (files.leaf("foreign", &foreign, &[]), "handshake"),
        (files.leaf("late", &expired, &[]), "the invite has expired"),
        (files.leaf("thief", &of_a, &[]), "code=\"key\""),
    ];
    for (node, reason) in &nodes {
        wait_for_refusal(node, reason);
    }
    let log = nodes[2].0.log();
    assert!(log.contains("the invite is for another key"), "{log}");
    assert!(!log.contains("list of trusted keys"), "{log}");
    assert_eq!(a.live_members(), ["a"]);
    // The holder itself is let in.
    let key = files.path("key");
    let args = ["--trust-anyone", "--key", &key];
    let identity = Node::start(&args).identity.clone();
    let word = word_of(&a, &["--for", "1h", "--holder", &identity]);
    let holder = files.leaf("holder", &word, &["--key", &key]);
    wait_for_members(&[&holder], &["a", "holder"]);
}

#[test]
fn a_new_word_in_the_file_is_used_and_one_that_does_not_suit_is_not() {
    let files = Files::new();
    let a = files.core("a", &[]);
    let first = word_of(&a, &["--for", "1h"]);
    let leaf = files.leaf("leaf", &first, &[]);
    wait_for_members(&[&a], &["a", "leaf"]);
    for (wrong, reason) in [
        ("nonsense".to_owned(), "line 1: this is not an invite"),
        (
            word_of(&a, &["--for", "1h", "--name", "tab-"]),
            "demands names that begin with",
        ),
        (first[..50].to_owned(), "the invite is incomplete"),
    ] {
        files.write("leaf.invite", &wrong);
        wait_for("the warning", || leaf.log().contains(reason).then_some(()));
    }
    let second = word_of(&a, &["--for", "2h"]);
    files.write("leaf.invite", &second);
    wait_for("the new invite to be used", || {
        (invites(&a) == [id_of(&second)]).then_some(())
    });
    // The first one is not needed any more.
    a.run(&["revoke", &first]);
    assert_eq!(a.live_members(), ["a", "leaf"]);
    leaf.wait_for_log("read the invite again");
    assert!(!leaf.log().contains(&first[20..40]));
}

#[test]
fn a_node_that_refuses_invites_lets_no_holder_in() {
    let files = Files::new();
    let a = files.core("a", &["--refuse-invites"]);
    let word = word_of(&a, &["--for", "1h"]);
    let leaf = files.leaf("leaf", &word, &[]);
    wait_for_refusal(&leaf, "handshake");
    assert_eq!(a.live_members(), ["a"]);
}

#[test]
fn options_that_do_not_fit_to_the_invite_are_refused_at_the_start() {
    let files = Files::new();
    let seed = ["--seed", "127.0.0.1:9"];
    let issued = files.issue(&[&["--for", "1h", "--name", "tab-"][..], &seed].concat());
    let word = issued["word"].as_str().unwrap();
    let invite = files.write("invite", word);
    let secret = files.path("secret");
    let toml = files.write("node.toml", "id = \"node-1\"\ninvite = \"invite\"\n");
    for (args, reason) in [
        (
            &["--invite", &invite, "--id", "node-1"][..],
            "must begin with \"tab-\"",
        ),
        (&["--config", &toml], "node.toml:1: --id is \"node-1\""),
        (
            &["--invite", &invite, "--secret", &secret],
            "cannot be used with",
        ),
        (
            &["--invite", &invite, "--trust-anyone"],
            "cannot be used with",
        ),
        (&["--invite", word], "and not a secret"),
        (&["--trust-anyone", "--refuse-invites"], "--secret"),
        (&["--invite", "-"], "must be a file"),
    ] {
        for more in [&["--listen", "127.0.0.1:0"][..], &["--check-config"]] {
            let refused = run(&[args, more].concat());
            let text = stderr(&refused);
            assert_eq!(refused.status.code(), Some(2), "{text}");
            assert!(text.contains(reason), "{text}");
            assert!(!text.contains(word), "{text}");
        }
    }
    // What the node takes from the invite is shown.
    let checked = run(&["--invite", &invite, "--check-config"]);
    let text = String::from_utf8(checked.stdout).unwrap();
    for line in [
        "cluster = \"c\" # invite",
        "seed = [\"127.0.0.1:9\"] # invite",
        &format!("# invite: {}, expires", issued["id"].as_str().unwrap()),
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains(word), "{text}");
}

#[test]
fn the_word_goes_to_stdout_alone_and_into_no_log_status_or_error() {
    let files = Files::new();
    let a = files.core("a", &[]);
    let issued = a.admin(&["invite", "--for", "1h"]);
    let word = String::from_utf8(issued.stdout.clone()).unwrap();
    assert!(word.starts_with("gossip-invite-") && word.lines().count() == 1);
    let word = word.trim();
    let meaning = stderr(&issued);
    let id = id_of(word);
    assert!(
        meaning.contains(&format!("invite {id} to the cluster c, valid until 2")),
        "{meaning}"
    );
    assert!(meaning.contains("nowhere from other machines"), "{meaning}");
    let leaf = files.leaf("leaf", word, &[]);
    wait_for_members(&[&a, &leaf], &["a", "leaf"]);
    a.run(&["revoke", word]);
    let damaged = format!("{word}a");
    let mut texts = vec![meaning, a.log(), leaf.log()];
    for node in [&a, &leaf] {
        texts.push(node.json("/status").to_string());
        texts.push(node.request("GET", "/metrics", "", "").1);
        texts.push(node.run(&["connections", "--json"]));
    }
    for args in [
        &["revoke", &damaged][..],
        &["--invite", word],
        &["--seed", word],
        &["--trust-anyone", "--set", &format!("key={word}")],
        &["invite", "--for", word],
        &["invite", "--for", "1h", "--seed", word],
        &["invite", "--for", "1h", "--secret", word],
        &[word],
    ] {
        let refused = run(args);
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        texts.push(stderr(&refused));
    }
    for text in texts {
        assert!(!text.contains("gossip-invite-"), "{text}");
        assert!(!text.contains(&word[14..40]), "{text}");
    }
    let audit = a.log();
    let line = audit
        .lines()
        .find(|line| line.contains("command=\"invite\""))
        .unwrap();
    assert!(
        line.contains(&format!("about=\"{id}\"")) && line.contains("by=\"uid"),
        "{line}"
    );
}

#[test]
fn a_word_that_is_written_to_a_file_is_for_its_owner_only_and_nowhere_else() {
    use std::os::unix::fs::MetadataExt as _;
    let files = Files::new();
    let a = files.core("a", &[]);
    let (secret, new) = (files.path("secret"), |name: &str| files.path(name));
    let online = ["invite", "--for", "1h", "--out"];
    let offline = ["invite", "--secret", &secret, "--for", "1h", "--out"];
    let written = [
        (
            "online",
            a.admin(&[&online[..], &[&*new("online")]].concat()),
        ),
        (
            "offline",
            run(&[&offline[..], &[&*new("offline")]].concat()),
        ),
        (
            "json",
            a.admin(&[&online[..], &[&*new("json"), "--json"]].concat()),
        ),
        (
            "both",
            run(&[&offline[..], &[&*new("both"), "--json"]].concat()),
        ),
    ];
    for (name, output) in &written {
        assert!(output.status.success(), "{name}: {}", stderr(output));
        let mode = std::fs::metadata(new(name)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        let word = files.read(name);
        let id = id_of(word.strip_suffix('\n').unwrap());
        let printed = String::from_utf8_lossy(&output.stdout);
        let shown = format!("{printed}{}", stderr(output));
        assert!(shown.contains(&id), "{name}: {shown}");
        assert!(!shown.contains(&word[14..40]), "{name}: {shown}");
        assert_eq!(
            printed.is_empty(),
            !matches!(*name, "json" | "both"),
            "{name}"
        );
    }
    let leaf = Node::start(&["--invite", &new("online"), "--id", "leaf"]);
    wait_for_members(&[&a, &leaf], &["a", "leaf"]);
    // No file is ever overwritten, and no invite is issued without a place for its word.
    let kept = files.read("online");
    let count = || a.log().matches("command=\"invite\"").count();
    wait_for("two lines of the log", || (count() == 2).then_some(()));
    for refused in [
        a.admin(&[&online[..], &[&*new("online")]].concat()),
        run(&[&offline[..], &[&*new("online")]].concat()),
    ] {
        let text = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{text}");
        assert!(text.contains("name another file"), "{text}");
    }
    assert_eq!(files.read("online"), kept);
    assert_eq!(count(), 2);
    for nowhere in [
        a.admin(&[&online[..], &[&*new("none/word")]].concat()),
        run(&[&offline[..], &[&*new("none/word")]].concat()),
    ] {
        let text = stderr(&nowhere);
        assert_eq!(nowhere.status.code(), Some(1), "{text}");
        assert!(
            text.contains("there is no directory ") && text.contains("none/word"),
            "{text}"
        );
    }
    assert_eq!(count(), 2);
}

#[test]
fn an_order_that_no_invite_can_meet_is_refused() {
    let files = Files::new();
    let secret = files.path("secret");
    let old = files.write("old", "gossip-secret-aeaqcaibaeaqcaibaeaqcaibae\n");
    for (args, code, reason) in [
        (&["--for", "31d"][..], 2, "between 1s and 30d"),
        (&["--for", "0s"], 2, "between 1s and 30d"),
        (&["--for", "1h", "--max-keys", "x"], 2, "--max-keys"),
        (&["--for", "1h", "--name", "a\nb"], 2, "--name"),
        (&["--for", "1h", "--holder", "me"], 2, "--holder"),
        (&["--for", "1h", "--cluster", ""], 1, "cluster id"),
        (&[], 2, "--for"),
    ] {
        let refused = run(&[&["invite", "--secret", &secret][..], args].concat());
        let text = stderr(&refused);
        assert_eq!(refused.status.code(), Some(code), "{text}");
        assert!(text.contains(reason) && refused.stdout.is_empty(), "{text}");
    }
    let refused = run(&["invite", "--secret", &old, "--for", "1h"]);
    let text = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(
        text.contains("--make-secret") && text.contains("secret add"),
        "{text}"
    );
    let missing = run(&["invite", "--secret", &files.path("none"), "--for", "1h"]);
    assert_eq!(missing.status.code(), Some(1), "{}", stderr(&missing));
}

#[test]
fn the_commands_of_the_readme_work() {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("### Inviting strangers").unwrap();
    let (_, commands) = section.split_once("```sh\n").unwrap();
    let (commands, _) = commands.split_once("```").unwrap();
    let files = Files::new();
    std::fs::rename(files.path("secret"), files.path("cluster.secret")).unwrap();
    let secret = files.path("cluster.secret");
    let a = Node::start(&["--secret", &secret, "--cluster", "my-cluster", "--id", "a"]);
    let program = Path::new(env!("CARGO_BIN_EXE_gossip-node"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    let shell = |line: &str| {
        let line = line.replace("127.0.0.1:7001", &a.gossip.to_string());
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("exec {line}")])
            .current_dir(files.0.path());
        command
            .env("PATH", &path)
            .env("GOSSIP_NODE_ADMIN", &a.admin);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        command
    };
    let mut guest = None;
    let mut shown = String::new();
    for line in commands.lines() {
        let (line, _) = line.split_once("  #").unwrap_or((line, ""));
        if let Some(node) = line.trim().strip_suffix('&') {
            let listening = format!("{node} --listen 127.0.0.1:0");
            guest = Some(shell(&listening).spawn().unwrap());
            wait_for("the guest", || (a.live_members().len() == 2).then_some(()));
        } else {
            let output = shell(line).output().unwrap();
            assert!(output.status.success(), "{line}");
            shown = String::from_utf8(output.stdout).unwrap();
        }
    }
    let mut guest = guest.unwrap();
    guest.kill().unwrap();
    guest.wait().unwrap();
    let id = id_of(files.read("guest.invite").trim());
    assert!(shown.contains(&id), "{shown}");
}
