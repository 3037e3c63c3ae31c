//! A node's state directory (`--state-dir`), with real processes.
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

use support::process::{Node, run, stderr};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn the_key_is_kept_in_the_directory_which_only_its_user_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let state = path.to_str().unwrap();
    let first = Node::start(&["--trust-anyone", "--state-dir", state]);
    assert_eq!((mode(&path), mode(&path.join("key"))), (0o700, 0o600));
    let identity = first.identity.clone();
    first.signal("TERM");
    assert_eq!(first.ended().0, Some(0));
    let second = Node::start(&["--trust-anyone", "--state-dir", state]);
    assert_eq!(second.identity, identity);
    // It need not have ended well.
    second.signal("KILL");
    second.ended();
    let third = Node::start(&["--trust-anyone", "--state-dir", state]);
    assert_eq!(third.identity, identity);
    drop(third);
    let key = dir.path().join("other.key");
    let args = [
        "--trust-anyone",
        "--state-dir",
        state,
        "--key",
        key.to_str().unwrap(),
    ];
    assert_ne!(Node::start(&args).identity, identity);
}

#[test]
fn a_second_node_with_the_directory_of_one_that_runs_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let args = ["--trust-anyone", "--state-dir", path.to_str().unwrap()];
    let node = Node::start(&args);
    let draft = path.join("revocations.7-1.tmp");
    std::fs::write(&draft, "of the node that runs").unwrap();
    let second = run(&[&args[..], &["--listen", "127.0.0.1:0"]].concat());
    let text = stderr(&second);
    assert_eq!(second.status.code(), Some(1), "{text}");
    let expected = format!("is used by another node (process {})", node.process.id());
    assert!(text.contains(&expected), "{text}");
    assert!(draft.exists());
    // The options of a node that runs can be checked.
    let checked = run(&[&args[..], &["--check-config"]].concat());
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    let shown = String::from_utf8(checked.stdout).unwrap();
    assert!(
        shown.contains(&format!("# identity: {}", node.identity)),
        "{shown}"
    );
    drop(node);
    drop(Node::start(&args));
    assert!(!draft.exists(), "left by the node that was killed");
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let args = [
        "--trust-anyone",
        "--state-dir",
        dir.path().to_str().unwrap(),
    ];
    for (more, code) in [
        (&["--listen", "127.0.0.1:0"][..], 1),
        (&["--check-config"], 2),
    ] {
        let refused = run(&[&args[..], more].concat());
        let text = stderr(&refused);
        assert_eq!(refused.status.code(), Some(code), "{text}");
        assert!(text.contains("chmod 700"), "{text}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_a_killed_process_has_left_beside_a_key_or_a_secret_is_removed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let drafts = [
        "node.key.7-1.tmp",
        "cluster.secret.7-1.tmp",
        "new.secret.7-1.tmp",
    ];
    for draft in drafts {
        std::fs::write(path(draft), "half").unwrap();
    }
    let (secret, key) = (path("cluster.secret"), path("node.key"));
    assert!(
        run(&["--make-secret", &path("new.secret")])
            .status
            .success()
    );
    std::fs::rename(path("new.secret"), &secret).unwrap();
    drop(Node::start(&["--secret", &secret, "--key", &key]));
    for draft in drafts {
        assert!(!Path::new(&path(draft)).exists(), "{draft}");
    }
}
