//! Files of options (`--config`) and `--check-config`, with real processes.
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
use std::process::{Output, Stdio};

use tempfile::TempDir;

use support::cluster::make_secret;
use support::process::{Node, command, run, stderr, wait_for};

/// A directory with a secret and a file of options.
struct Files {
    dir: TempDir,
    config: PathBuf,
}

impl Files {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        make_secret(&dir.path().join("cluster.secret"));
        let path = dir.path().join("node.toml");
        std::fs::write(&path, config).unwrap();
        Self { dir, config: path }
    }

    fn config(&self) -> &str {
        self.config.to_str().unwrap()
    }

    fn secret(&self) -> String {
        let text = std::fs::read_to_string(self.dir.path().join("cluster.secret"));
        text.unwrap().trim().to_owned()
    }

    /// Runs the program with the file and more arguments, to its end.
    fn run(&self, args: &[&str]) -> Output {
        run(&[&["--config", self.config()], args].concat())
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_node_takes_options_of_every_form_from_its_file_and_the_command_line_takes_precedence() {
    let files = Files::new(
        r#"
# Relative to this file.
secret = "cluster.secret"
key = "node.key"
id = "of-the-file"
cluster = "of-the-file"
set = ["color=red", "shape=round"]
max-bytes-per-member = "1KiB"
max-members = 7
phi-threshold = 9.5
udp = false
"#,
    );
    let node = Node::start(&[
        "--config",
        files.config(),
        "--id",
        "a",
        "--set",
        "color=blue",
    ]);
    let status = node.json("/status");
    assert_eq!(
        (&status["id"], &status["cluster"]),
        (&"a".into(), &"of-the-file".into())
    );
    assert_eq!(node.key_of("a", "color").as_deref(), Some("blue"));
    assert_eq!(
        node.key_of("a", "shape"),
        None,
        "the list of the file is replaced"
    );
    let refused = node.admin(&["set", "key", &"v".repeat(2000)]);
    assert!(
        stderr(&refused).contains("the limit is 1024"),
        "{}",
        stderr(&refused)
    );
    assert!(files.dir.path().join("node.key").exists());
    let secret = files.dir.path().join("cluster.secret");
    let other = Node::start(&[
        "--secret",
        secret.to_str().unwrap(),
        "--cluster",
        "of-the-file",
        "--id",
        "b",
        "--seed",
        &node.gossip.to_string(),
    ]);
    wait_for("both to be live", || {
        (other.live_members() == ["a", "b"]).then_some(())
    });
}

#[test]
fn what_one_option_needs_may_be_in_the_file_and_another_one_on_the_command_line() {
    let files = Files::new("http = \"127.0.0.1:0\"\ntrust-anyone = true\n");
    let checked = files.run(&["--http-host", "example.com", "--check-config"]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    let contradicts = files.run(&["--secret", "file"]);
    assert_eq!(contradicts.status.code(), Some(2));
    let text = stderr(&contradicts);
    let place = format!("--trust-anyone is given in {}:2", files.config());
    assert!(text.contains(&place), "{text}");
}

#[test]
fn an_error_of_a_file_names_the_file_the_line_and_the_option() {
    let long_list = format!("seed = [\n{}]", "\"a:1\",\n".repeat(200_000));
    for (config, line, expected) in [
        (
            "cluster = \"c\"\nno-such = 1",
            2,
            "there is no option no-such; gossip-node --help lists",
        ),
        ("max_members = 7", 1, "did you mean max-members?"),
        ("seeds = []", 1, "did you mean seed?"),
        ("max-membrs = 7", 1, "did you mean max-members?"),
        ("Silence_Timeout = 7", 1, "did you mean silence-timeout?"),
        ("keepalive = 7", 1, "did you mean keepalive-interval?"),
        // The most similar one cannot be in a file.
        ("configs = 7", 1, "there is no option configs; gossip-node"),
        (
            "max-keys = \"ten\"",
            1,
            "max-keys is an option of gossip-node invite",
        ),
        (
            &format!("{} = 1", "a".repeat(1_000_000)),
            1,
            "no option aaa",
        ),
        ("[gossip]\nid = \"a\"", 1, "without [gossip] above"),
        (
            "id = 7",
            1,
            "the value 7 of id is an integer, but must be a string",
        ),
        (
            "id = true",
            1,
            "the value true of id is a boolean, but must be a string",
        ),
        (
            "udp = \"yes\"",
            1,
            "the value \"yes\" of udp is a string, but must be true or false, without quotes",
        ),
        (
            "seed = \"a:1\"",
            1,
            "the value \"a:1\" of seed is a string, but must be a list in brackets, each a string",
        ),
        (
            "seed = [7]",
            1,
            "the value 7 of seed is an integer, but must be a list in brackets, each a string",
        ),
        (
            "id = [\"a\"]",
            1,
            "the value [\"a\"] of id is a list, but must be a string",
        ),
        ("id = { a = 1 }", 1, "id is a table, but must be a string"),
        ("set.color = 1", 1, "set is a table, but must be a list"),
        (
            "dial-timeout = 5",
            1,
            "the value 5 of dial-timeout is an integer, but must be a string in quotes with a unit, such as \"1.5s\"",
        ),
        (
            "max-members = \"many\"",
            1,
            "the value \"many\" of max-members is a string, but must be an integer, without quotes",
        ),
        (
            "max-members = 1.5",
            1,
            "the value 1.5 of max-members is a float, but must be an integer",
        ),
        (
            "max-members = -1",
            1,
            "the value -1 of max-members is not valid: must be a whole number",
        ),
        (
            "max-members = 99999999999999999999999999999999999999999",
            1,
            "of max-members is not valid: is too large",
        ),
        (
            "phi-threshold = \"x\"",
            1,
            "must be a number, without quotes",
        ),
        (
            "\n\nlisten = \"nonsense\"",
            3,
            "the value \"nonsense\" of listen is not valid: must be IP:PORT",
        ),
        (
            "seed = [\"a:1\", \"b\"]",
            1,
            "the value \"b\" of seed is not valid",
        ),
        ("dial-timeout = \"soon\"", 1, "must be a time such as"),
        ("protocol-version = \"v7\"", 1, "must be one of v0, v1"),
        ("max-bytes = \"4MB\"", 1, "must be a number of bytes"),
        (
            "seed = [\n\"a:1\",\n\"b\",\n\"c\"]",
            3,
            "the value \"b\" of seed is not valid: \"b\" must be",
        ),
        (
            "seed = [\n\"a:1\",\n7]",
            3,
            "the value 7 of seed is an integer",
        ),
        (
            "config = \"other.toml\"",
            1,
            "config is an option of the command line only",
        ),
        (
            "make-secret = \"a\"",
            1,
            "make-secret is an option of the command line only",
        ),
        (
            "check-config = true",
            1,
            "check-config is an option of the command line only",
        ),
        (
            "help = true",
            1,
            "help is an option of the command line only",
        ),
        ("id = \"a\"\nid = \"b\"", 2, "is not TOML: duplicate key"),
        ("id = \"a", 1, "is not TOML"),
        ("id = ", 1, "is not TOML"),
        (
            "trust-anyone = true\nmax-peers = 10",
            2,
            "--max-peers is 10, but must be at least 1025",
        ),
        ("trust-anyone = true\nid = \"\"", 2, "--id is empty"),
        (
            "trust-anyone = true\nsilence-timeout = \"30s\"\nkeepalive-interval = \"1m\"",
            2,
            "--silence-timeout is 30s, but must be more than --keepalive-interval, which is 1m",
        ),
        (
            "trust-anyone = true\nkeepalive-interval = \"90s\"",
            2,
            "--keepalive-interval is 90s, but must be less than --silence-timeout, which is 90s",
        ),
        (&long_list, 0, "is longer than 1048576 bytes"),
        (&format!("id = {}", "[".repeat(100_000)), 1, "is not TOML"),
    ] {
        let files = Files::new(config);
        for more in [&["--check-config"][..], &["--listen", "127.0.0.1:0"]] {
            if config.contains("listen") && more[0] == "--listen" {
                continue;
            }
            let output = files.run(more);
            let text = stderr(&output);
            let shown: String = config.chars().take(80).collect();
            assert_eq!(output.status.code(), Some(2), "{shown}: {text}");
            let place = match line {
                0 => files.config().to_owned(),
                line => format!("{}:{line}: ", files.config()),
            };
            assert!(text.contains(&place), "{shown}: {text}");
            assert!(text.contains(expected), "{shown}: {text}");
            assert!(text.len() < 500, "{shown}: {text}");
        }
    }
    let missing = run(&["--config", "/nope.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("/nope.toml: cannot be read (--config)"));
    let files = Files::new("");
    std::fs::write(&files.config, b"id = \"a\"\ncluster = \"\xff\"").unwrap();
    let text = stderr(&files.run(&[]));
    assert!(text.contains("node.toml:2: is not UTF-8"), "{text}");
}

#[test]
fn a_secret_in_the_file_is_never_printed() {
    let files = Files::new("");
    let secret = files.secret();
    for config in [
        format!("secret = \"{secret}\""),
        format!("{secret} = 1"),
        format!("\"{secret}\" = 1"),
        format!("id = {secret}"),
        format!("id = \"{secret}"),
        secret.clone(),
        format!("id = \"a\" {secret}"),
        format!("trust = [\"{secret}\"]"),
        format!("seed = [\"{secret}\"]"),
        format!("listen = \"{secret}\""),
        format!("listen = \"{secret}:1\""),
        format!("set = [\"secret={secret}\"]"),
        format!("key = \"dir/{secret}\""),
        format!("web-root = \"{secret}\"\nhttp = \"127.0.0.1:0\""),
        format!("protocol-version = \"{secret}\""),
        format!("max-members = \"{secret}\""),
        format!("dial-timeout = \"{secret}\""),
        format!("http-host = [\"{secret}\"]\nhttp = \"127.0.0.1:0\""),
        format!("proxy-protocol-from = [\"{secret}\"]"),
        format!("[[{secret}]]"),
    ] {
        std::fs::write(&files.config, &config).unwrap();
        for more in [&["--check-config"][..], &["--cluster", "c"]] {
            let output = files.run(more);
            let text = stderr(&output) + &stdout(&output);
            let config = config.replace(&secret, "SECRET");
            assert_eq!(output.status.code(), Some(2), "{config}: {text}");
            assert!(!text.contains(&secret[20..]), "{config}");
        }
    }
    // What is printed of a valid file.
    let config = "secret = \"cluster.secret\"\nkey = \"node.key\"\n";
    std::fs::write(&files.config, config).unwrap();
    drop(Node::start(&["--config", files.config()]));
    let key = std::fs::read_to_string(files.dir.path().join("node.key")).unwrap();
    let checked = files.run(&["--check-config"]);
    let text = stderr(&checked) + &stdout(&checked);
    assert!(
        !text.contains(&secret[20..]) && !text.contains(&key[20..40]),
        "{text}"
    );
    assert!(
        text.contains("# cluster secrets: ") && text.contains("# identity: "),
        "{text}"
    );
}

#[test]
fn what_check_config_prints_is_a_file_of_options_with_the_same_meaning_and_nothing_is_started() {
    let config = "secret = \"cluster.secret\"\nseed = [\"a:1\", \"b:2\"]\nid = \"a \\\"b\\\"\"\n\
        max-bytes = 70000\nkey = \"node.key\"\nudp = true\n";
    let files = Files::new(config);
    let checked = files.run(&["--check-config", "--cluster", "of-the-line"]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    let text = stdout(&checked);
    for row in [
        "id = \"a \\\"b\\\"\" # ",
        "cluster = \"of-the-line\" # command line",
        "seed = [\"a:1\", \"b:2\"] # ",
        "silence-timeout = \"90s\" # default",
        "udp = true # ",
        "max-bytes = \"70000\" # ",
        "# advertise is not given",
    ] {
        assert!(text.contains(row), "{row}: {text}");
    }
    let place = format!("# {}:3\n", files.config());
    assert!(text.contains(&place), "{text}");
    assert!(
        !files.dir.path().join("node.key").exists(),
        "it creates nothing"
    );
    // It can be used as it is, from any directory.
    let printed = files.dir.path().join("printed.toml");
    std::fs::write(&printed, &text).unwrap();
    let again = run(&["--config", printed.to_str().unwrap(), "--check-config"]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    let values = |text: &str| {
        let rows = text
            .lines()
            .map(|row| row.split(" # ").next().unwrap().to_owned());
        rows.collect::<Vec<_>>()
    };
    assert_eq!(values(&stdout(&again)), values(&text));
}

#[test]
fn check_config_reports_everything_that_is_wrong_with_the_files() {
    let files = Files::new(
        "secret = \"none.secret\"\nhttp = \"127.0.0.1:0\"\nweb-root = \"none\"\n\
         ready-file = \"none/ready\"\n",
    );
    let checked = files.run(&["--check-config"]);
    assert_eq!(checked.status.code(), Some(2));
    let text = stderr(&checked);
    for expected in ["none.secret", "(--web-root)", "(--ready-file)"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!(stdout(&checked), "");
    // A file is in the way of the admin port.
    for config in [
        "trust-anyone = true\nadmin = \"cluster.secret\"",
        "trust-anyone = true\nadmin = \"cluster.secret\"\nadmin-loopback = true",
        "trust-anyone = true\nadmin = \".\"",
    ] {
        std::fs::write(&files.config, config).unwrap();
        let checked = files.run(&["--check-config"]);
        let text = stderr(&checked);
        assert_eq!(checked.status.code(), Some(2), "{config}: {text}");
        assert!(
            text.contains("choose another path with --admin"),
            "{config}: {text}"
        );
        assert!(!text.contains(&files.secret()[20..40]), "{config}");
    }
    std::fs::write(files.dir.path().join("none.secret"), "no secret").unwrap();
    std::fs::write(files.dir.path().join("node.key"), "no key").unwrap();
    std::fs::write(&files.config, "secret = \"none.secret\"").unwrap();
    let text = stderr(&files.run(&["--check-config"]));
    assert!(text.contains("none.secret"), "{text}");
    std::fs::write(
        &files.config,
        "secret = \"cluster.secret\"\nkey = \"node.key\"",
    )
    .unwrap();
    let text = stderr(&files.run(&["--check-config"]));
    assert!(text.contains("node.key does not contain a key"), "{text}");
}

#[test]
fn a_wrong_value_at_the_end_of_a_long_list_is_found_soon() {
    let seeds: String = (0..10_000).map(|n| format!("\"host-{n}:1\",\n")).collect();
    let files = Files::new(&format!("trust-anyone = true\nseed = [\n{seeds}]\n"));
    let mut check = command();
    check.args(["--config", files.config(), "--check-config"]);
    // It prints more than a pipe takes.
    let checked = check.stdout(Stdio::null()).output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    let wrong = seeds.replace("host-9999:1", "host-9999");
    std::fs::write(&files.config, format!("seed = [\n{wrong}]\n")).unwrap();
    let text = stderr(&files.run(&["--check-config"]));
    assert!(
        text.contains("node.toml:10001: the value \"host-9999\" of seed is not valid"),
        "{text}"
    );
}

#[test]
fn the_example_of_the_readme_is_valid() {
    let readme = include_str!("../../README.md");
    let (_, example) = readme.split_once("```toml\n# node.toml").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let files = Files::new(&format!("#{example}"));
    let checked = files.run(&["--check-config"]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    assert!(stdout(&checked).contains("silence-timeout = \"2m\" # "));
}
