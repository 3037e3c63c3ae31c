//! `--public-url`, with real processes: what pages and the holders of invites are told, and which URLs are refused.

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

use gossip_transport::credential::Invite;
use support::admin::objects;
use support::invites::{Files, wait_for_members, word_of};
use support::process::{Node, run, stderr, wait_for};

/// Returns the seeds that a node names to pages.
fn seeds(node: &Node) -> Vec<String> {
    let config = node.json("/config.json");
    let seeds = config["seeds"].as_array().unwrap();
    let seeds = seeds.iter().map(|seed| seed.as_str().unwrap().to_owned());
    seeds.collect()
}

fn wait_for_seeds(node: &Node, expected: &[&str]) {
    wait_for("the seeds for pages", || {
        (seeds(node) == expected).then_some(())
    });
}

#[test]
fn pages_are_told_the_urls_of_all_live_nodes_and_a_node_with_one_names_no_inner_address() {
    let files = Files::new();
    let a = files.core("a", &["--public-url", "WSS://a.example/gossip"]);
    assert_eq!(seeds(&a), ["wss://a.example/gossip"]);
    assert!(!a.log().contains("cannot open this URL"), "{}", a.log());
    let seed = a.gossip.to_string();
    let b = files.core(
        "b",
        &["--seed", &seed, "--public-url", "ws://b.example:7946"],
    );
    b.wait_for_log("cannot open this URL");
    let c = files.core("c", &["--seed", &seed]);
    wait_for_members(&[&a, &b, &c], &["a", "b", "c"]);
    wait_for_seeds(&a, &["wss://a.example/gossip", "ws://b.example:7946/"]);
    wait_for_seeds(&b, &["ws://b.example:7946/", "wss://a.example/gossip"]);
    let addrs = [&c, &a, &b].map(|node| node.gossip.to_string());
    wait_for("all that the third node knows", || {
        let mut seeds = seeds(&c);
        seeds[1..].sort();
        let mut expected = addrs.to_vec();
        let urls = ["ws://b.example:7946/", "wss://a.example/gossip"];
        expected.extend(urls.map(str::to_owned));
        expected[1..].sort();
        (seeds == expected).then_some(())
    });
    // Keys of the users do not show it, and cannot change it.
    assert_eq!(c.key_of("a", "gossip-transport/url"), None);
    let refused = a.admin(&["set", "gossip-transport/url", "wss://evil/"]);
    assert!(stderr(&refused).contains("reserved"), "{refused:?}");
    b.signal("TERM");
    assert_eq!(b.ended().0, Some(0));
    wait_for_seeds(&a, &["wss://a.example/gossip"]);
}

#[test]
fn an_invite_names_the_url_for_tabs_and_the_address_for_nodes() {
    let files = Files::new();
    let a = files.core("a", &["--public-url", "wss://a.example/gossip"]);
    let addr = a.gossip.to_string();
    let word = word_of(&a, &["--for", "1h"]);
    let invite: Invite = word.parse().unwrap();
    assert_eq!(invite.seeds(), ["wss://a.example/gossip", &*addr]);
    // A node joins through the address, and says that the URL is not for it.
    let leaf = files.leaf("leaf", &word, &[]);
    leaf.wait_for_log("the invite also names seeds for browser tabs");
    wait_for_members(&[&a, &leaf], &["a", "leaf"]);
    // Seeds that are given replace both.
    let given = a.run(&["invite", "--for", "1h", "--seed", "b.example:1", "--json"]);
    assert_eq!(
        objects(&given)[0]["seeds"],
        serde_json::json!(["b.example:1"])
    );
    let issued = a.admin(&["invite", "--for", "1h"]);
    assert!(!stderr(&issued).contains("lead nowhere"), "{issued:?}");
    let b = files.core("b", &["--public-url", "ws://localhost:7946"]);
    let issued = b.admin(&["invite", "--for", "1h"]);
    assert!(stderr(&issued).contains("lead nowhere"), "{issued:?}");
}

#[test]
fn urls_that_tabs_cannot_open_are_refused_with_the_reason() {
    let long = format!("wss://a.example/{}", "p".repeat(241));
    let secret = Files::new().read("secret");
    let with_secret = format!("wss://a.example/?{}", secret.trim());
    for (url, reason) in [
        ("a.example", "must begin with wss:// or ws://"),
        ("https://a.example/", "must begin with wss:// or ws://"),
        ("wss:///gossip", "has no host"),
        (
            "wss://user:word@a.example/",
            "must not contain a user or password",
        ),
        ("wss://a.example/#x", "must not contain a fragment"),
        ("wss://a.example:0/", "from 1 to 65535"),
        ("wss://0.0.0.0/", "is not an address that others can dial"),
        ("wss://a b/", "must be a name in ASCII letters"),
        ("wss://a.example/\u{fc}", "write it as %XX"),
        (&*long, "has 257 bytes, but must have at most 256"),
        (&with_secret, "contains a secret"),
    ] {
        let output = run(&["--trust-anyone", "--public-url", url]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{url}: {text}");
        assert!(text.contains("--public-url <URL>"), "{url}: {text}");
        assert!(text.contains(reason), "{url}: {text}");
        assert!(!text.contains(secret.trim()), "{text}");
    }
    let twice = ["--public-url", "wss://a/", "--public-url", "wss://b/"];
    let leaf = ["--public-url", "wss://a/", "--invite", "file"];
    for (args, reason) in [(twice, "multiple times"), (leaf, "cannot be used with")] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(reason), "{output:?}");
    }
}

#[test]
fn check_config_shows_the_url_of_a_file_of_options_and_what_pages_over_https_cannot_open() {
    let files = Files::new();
    for (url, is_noted) in [
        ("wss://a.example/gossip?to=1", false),
        ("ws://127.0.0.1:7946/", false),
        ("ws://10.0.0.1:7946/", true),
    ] {
        let text = format!("trust-anyone = true\npublic-url = \"{url}\"\n");
        let config = files.write("node.toml", &text);
        let checked = run(&["--config", &config, "--check-config"]);
        assert_eq!(checked.status.code(), Some(0), "{checked:?}");
        let shown = String::from_utf8(checked.stdout).unwrap();
        let row = format!("public-url = \"{url}\" # ");
        assert!(shown.contains(&row), "{shown}");
        assert_eq!(shown.contains("cannot open this URL"), is_noted, "{shown}");
    }
    let config = files.write(
        "node.toml",
        "trust-anyone = true\npublic-url = \"a.example\"\n",
    );
    let refused = run(&["--config", &config, "--check-config"]);
    assert_eq!(refused.status.code(), Some(2));
    let text = stderr(&refused);
    assert!(text.contains("node.toml:2: "), "{text}");
    assert!(text.contains("must begin with wss:// or ws://"), "{text}");
}
