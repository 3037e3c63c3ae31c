//! Arguments of nodes that are real processes: what is refused, and what takes effect.
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

use support::process::{Node, run, stderr, wait_for};

#[test]
fn without_an_option_for_trust_the_node_does_not_start_and_lists_the_options() {
    let output = run(&["--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    for option in ["--secret", "--trust", "--trust-anyone", "--make-secret"] {
        assert!(stderr(&output).contains(option), "{}", stderr(&output));
    }
}

#[test]
fn contradictory_and_malformed_arguments_exit_with_code_2() {
    for args in [
        &["--trust-anyone", "--secret", "file"][..],
        &["--trust-anyone", "--listen", "nonsense"],
        &["--trust-anyone", "--seed", "foo"],
        &["--trust-anyone", "--set", "novalue"],
        &["--trust-anyone", "--gossip-interval", "soon"],
        &["--trust-anyone", "--http-write"],
        &["--trust-anyone", "--http-host", "example.com"],
        &["--trust-anyone", "--admin-loopback"],
        &["--trust", "not-a-key"],
        &["--no-such-option"],
        &["set", "", "value"],
    ] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_value_that_the_library_refuses_is_an_invalid_argument_and_named() {
    let long = format!("{}=v", "k".repeat(70_000));
    for (args, expected) in [
        (["--id", ""], "--id is empty"),
        (["--cluster", ""], "--cluster is empty"),
        (
            ["--id", "a\nINFO b"],
            "--id is \"a\\nINFO b\", but must be without",
        ),
        (["--set", "\u{e4}=1"], "--set is refused: key"),
        (["--set", &long], "--set is refused: key and value take"),
        (
            ["--max-peers", "10"],
            "--max-peers is 10, but must be at least 1025",
        ),
        (
            ["--dead-node-grace-period", "1s"],
            "--dead-node-grace-period is 1s",
        ),
        (
            ["--backoff-max", "1ms"],
            "--backoff-max is 1ms, but must be at least 200ms",
        ),
        (
            ["--silence-timeout", "25s"],
            "--silence-timeout is 25s, but must be more than --keepalive-interval, which is 25s",
        ),
        (
            ["--keepalive-interval", "2m"],
            "--keepalive-interval is 2m, but must be less than --silence-timeout, which is 90s",
        ),
        (
            ["--max-members", "ten"],
            "invalid value 'ten' for '--max-members <COUNT>': must be a whole number",
        ),
        (
            ["--max-members", "-1"],
            "invalid value '-1' for '--max-members <COUNT>': must be a whole number",
        ),
        (
            ["--rekey-after-records", "99999999999999999999999"],
            "for '--rekey-after-records <COUNT>': is too large",
        ),
        (
            ["--phi-threshold", "x"],
            "invalid value 'x' for '--phi-threshold <NUMBER>': must be a number",
        ),
        (
            ["--dial-timeout", "-1"],
            "invalid value '-1' for '--dial-timeout <TIME>': must be a time",
        ),
        (
            ["--max-http-connections", "0"],
            "--max-http-connections is 0",
        ),
    ] {
        let listen = ["--trust-anyone", "--listen", "127.0.0.1:0"];
        let http = ["--http", "127.0.0.1:0"];
        let output = run(&[&listen[..], &http, &args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn a_directory_that_cannot_be_read_is_reported_with_its_option_and_exit_code_1() {
    let output = run(&[
        "--trust-anyone",
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--web-root",
        "/nope",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nope (--web-root)"));
}

#[test]
fn limits_and_times_of_the_command_line_take_effect() {
    let a = Node::start(&[
        "--trust-anyone",
        "--id",
        "a",
        "--max-bytes-per-member",
        "1KiB",
        "--idle-timeout",
        "300ms",
        "--max-members",
        "1",
    ]);
    let refused = a.admin(&["set", "key", &"v".repeat(2000)]);
    assert!(
        stderr(&refused).contains("the limit is 1024"),
        "{}",
        stderr(&refused)
    );
    let b = Node::start(&[
        "--trust-anyone",
        "--id",
        "b",
        "--seed",
        &a.gossip.to_string(),
    ]);
    wait_for("b to know a", || {
        (b.live_members() == ["a", "b"]).then_some(())
    });
    // It has no room for b.
    assert_eq!(a.live_members(), ["a"]);
}

#[test]
fn help_exits_0_and_explains_trust_times_and_exit_codes() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for topic in [
        "Trusted peers",
        "Examples",
        "--gossip-interval",
        "Exit codes",
    ] {
        assert!(text.contains(topic), "{topic}");
    }
}
