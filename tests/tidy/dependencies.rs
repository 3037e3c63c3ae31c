//! The browser's download has no crates that only a native program needs.

use crate::assert_none;
use crate::source::root;

#[test]
fn a_library_for_the_browser_pulls_in_no_tokio() {
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .args([
            "--target",
            "wasm32-unknown-unknown",
            "--package",
            "gossip-transport",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "cargo tree failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        tree.contains("wasm-bindgen"),
        "not the browser's tree:\n{tree}"
    );
    let breaches: Vec<_> = tree
        .lines()
        .filter(|line| {
            ["tokio", "mio ", "socket2 ", "ring ", "zstd"]
                .iter()
                .any(|c| line.starts_with(c))
        })
        .map(str::to_owned)
        .collect();
    assert_none("a crate that a browser has no use for", &breaches);
}

#[test]
fn no_dependency_is_pinned_to_one_version() {
    // Another library may pin another version, and the two could not be used together.
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("wasm-bindgen = \""), "not the manifest");
    let pins: Vec<_> = manifest
        .lines()
        .filter(|line| line.contains("\"="))
        .map(str::to_owned)
        .collect();
    assert_none("a requirement of exactly one version", &pins);
}
