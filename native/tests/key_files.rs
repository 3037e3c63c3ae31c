//! Key and secret files whose writing is interrupted: there is a complete file or none.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use support::process::{Node, run, stderr};

/// What happens to a program at the first byte that it writes to a file.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The system kills it, after it has created the file and before anything is in there.
    Killed,
    /// The write fails, as on a full disk.
    Refused,
}

/// Runs the program to its end with a fault, which pipes do not have.
fn run_with(fault: Fault, args: &[&str]) -> Output {
    let limit = match fault {
        Fault::Killed => "ulimit -c 0; ulimit -f 0; exec \"$0\" \"$@\"",
        Fault::Refused => "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\"",
    };
    let mut command = Command::new("sh");
    command.args(["-c", limit, env!("CARGO_BIN_EXE_gossip-node")]);
    command.args(args).env_remove("RUST_LOG").output().unwrap()
}

#[test]
fn a_key_or_secret_whose_writing_is_interrupted_does_not_exist_and_the_next_start_makes_it() {
    use std::os::unix::process::ExitStatusExt as _;
    for fault in [Fault::Killed, Fault::Refused] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (secret, key) = (path("secret"), path("key"));
        let make_secret = ["--make-secret", &secret];
        let node = ["--trust-anyone", "--listen", "127.0.0.1:0", "--key", &key];
        for args in [&make_secret[..], &node] {
            let output = run_with(fault, args);
            let text = stderr(&output);
            match fault {
                Fault::Killed => assert!(output.status.signal().is_some(), "{args:?}: {text}"),
                Fault::Refused => {
                    assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
                    assert!(text.contains("cannot create the"), "{text}");
                    // Nothing is left over, either.
                    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
                }
            }
        }
        assert!(!Path::new(&secret).exists() && !Path::new(&key).exists());

        let made = run(&make_secret);
        assert!(made.status.success(), "{fault:?}: {}", stderr(&made));
        let start = || Node::start(&["--secret", &secret, "--key", &key]);
        let first = start().identity.clone();
        assert_eq!(start().identity, first, "{fault:?}");
    }
}
