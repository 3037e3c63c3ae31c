//! The project's rules about where things may stand, as a test.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// A source file: its path from the root, with slashes, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Lines of code with their numbers: without comments and without what follows `//`.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(i, line)| (i + 1, line.split("//").next().unwrap_or("")))
            .filter(|(_, line)| !line.trim().is_empty())
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    fn is_unit_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_str().unwrap();
                let path = path.replace('\\', "/");
                found.push(Source { path, text });
            }
        }
    }
    assert!(!found.is_empty(), "{folders:?} hold no sources");
    found
}

/// From here to the end of its file there are unit tests.
fn starts_tests(line: &str) -> bool {
    line.contains("#[cfg(test)]")
}

fn assert_none(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}\n  {}", breaches.join("\n  "));
}

/// No line of code outside `homes` has one of `words`.
fn only_at_home(rule: &str, words: &[&str], homes: &[&str]) {
    let mut breaches = Vec::new();
    for source in sources(&["src"]) {
        if source.is_in(homes) || source.is_unit_test() {
            continue;
        }
        let mut in_tests = false;
        for (number, line) in source.code() {
            in_tests |= starts_tests(line);
            if !in_tests && words.iter().any(|word| line.contains(word)) {
                breaches.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(rule, &breaches);
}

#[test]
fn the_target_is_asked_for_in_its_rooms_only() {
    only_at_home(
        "conditional compilation by target belongs to src/rt and to the mod lines of src/lib.rs",
        &["target_family", "target_arch", "target_os"],
        &["src/rt/", "src/lib.rs"],
    );
}

#[test]
fn in_lib_rs_the_target_chooses_modules_and_nothing_else() {
    let lib = sources(&["src"])
        .into_iter()
        .find(|source| source.path == "src/lib.rs")
        .unwrap();
    let code: Vec<_> = lib.code().map(|(_, line)| line).collect();
    for pair in code.windows(2) {
        if pair[0].contains("target_family") {
            assert!(pair[1].starts_with("pub mod "), "{} {}", pair[0], pair[1]);
        }
    }
}

#[test]
fn the_browser_is_known_in_its_rooms_only() {
    only_at_home(
        "web_sys and wasm_bindgen belong to src/websocket and src/rt/web.rs",
        &[
            "web_sys",
            "wasm_bindgen",
            "js_sys",
            "gloo_timers",
            "web_time",
        ],
        &["src/websocket/", "src/rt/web.rs"],
    );
}

#[test]
fn tokio_is_known_in_its_rooms_only() {
    only_at_home(
        "tokio belongs to src/tcp, src/udp, src/chitchat and src/rt/native.rs",
        &["tokio"],
        &["src/tcp/", "src/udp/", "src/chitchat/", "src/rt/native.rs"],
    );
}

#[test]
fn the_published_chitchat_crate_is_known_in_its_room_only() {
    only_at_home(
        "chitchat_013 belongs to src/chitchat, which nothing else uses",
        &["chitchat_013", "crate::chitchat"],
        &["src/chitchat/"],
    );
}

/// Modules, and those that they may not use.
const DIRECTIONS: &[(&str, &[&str])] = &[
    (
        "src/net.rs",
        &[
            "gossip",
            "memory",
            "message",
            "tcp",
            "transport_layer",
            "websocket",
        ],
    ),
    (
        "src/credential",
        &[
            "gossip",
            "memory",
            "message",
            "net",
            "secure",
            "tcp",
            "transport_layer",
            "websocket",
        ],
    ),
    (
        "src/rt/",
        &[
            "credential",
            "gossip",
            "memory",
            "message",
            "net",
            "secure",
            "tcp",
            "transport_layer",
            "websocket",
        ],
    ),
    (
        "src/message/",
        &[
            "credential",
            "gossip",
            "memory",
            "secure",
            "tcp",
            "transport_layer",
            "websocket",
        ],
    ),
    (
        "src/secure/",
        &[
            "gossip",
            "memory",
            "message",
            "tcp",
            "transport_layer",
            "websocket",
        ],
    ),
    (
        "src/tcp/",
        &[
            "gossip",
            "memory",
            "message",
            "transport_layer",
            "websocket",
        ],
    ),
    (
        "src/udp/",
        &["gossip", "memory", "tcp", "transport_layer", "websocket"],
    ),
    (
        "src/websocket/",
        &["gossip", "memory", "message", "tcp", "transport_layer"],
    ),
    (
        "src/memory/",
        &["gossip", "message", "tcp", "transport_layer", "websocket"],
    ),
    (
        "src/either/",
        &[
            "gossip",
            "memory",
            "message",
            "secure",
            "tcp",
            "transport_layer",
            "websocket",
        ],
    ),
    (
        "src/transport_layer/",
        &["gossip", "memory", "tcp", "websocket"],
    ),
    ("src/gossip/", &["memory", "secure", "tcp", "websocket"]),
    (
        "src/chitchat/",
        &["gossip", "memory", "secure", "tcp", "websocket"],
    ),
];

/// The engine's files, and what a pure state machine does not know.
const PURE: &[&str] = &["src/gossip/engine/"];

#[test]
fn nothing_points_back() {
    let mut breaches = Vec::new();
    for source in sources(&["src"]) {
        if source.is_unit_test() {
            continue;
        }
        for (module, forbidden) in DIRECTIONS {
            if !source.path.starts_with(module) {
                continue;
            }
            let mut in_tests = false;
            for (number, line) in source.code() {
                in_tests |= starts_tests(line);
                for other in *forbidden {
                    if !in_tests && line.contains(&format!("crate::{other}::")) {
                        breaches.push(format!("{}:{number} uses {other}", source.path));
                    }
                }
            }
        }
    }
    assert_none(
        "each module uses those below it only (see ARCHITECTURE.md)",
        &breaches,
    );
}

#[test]
fn the_engine_knows_no_clock_no_runtime_and_no_socket() {
    let mut breaches = Vec::new();
    for source in sources(&["src/gossip"]) {
        if !source.is_in(PURE) {
            continue;
        }
        for (number, line) in source.code() {
            for word in [
                "crate::rt",
                "crate::net",
                "transport_layer",
                "Instant",
                "async ",
                "await",
            ] {
                if line.contains(word) {
                    breaches.push(format!("{}:{number} has {word:?}", source.path));
                }
            }
        }
    }
    assert_none(
        "time is an argument of the engine, and sending is an output",
        &breaches,
    );
}

#[test]
fn every_file_says_what_it_is() {
    let breaches: Vec<_> = sources(&[
        "src",
        "native/src",
        "web/src",
        "web/transport/src",
        "web/values/src",
        "xtask/src",
        "aead/src",
        "benches",
    ])
    .into_iter()
    .filter(|source| !source.is_unit_test() && !source.text.starts_with("//! "))
    .map(|source| source.path)
    .collect();
    assert_none("a file opens with what it is, after `//! `", &breaches);
}

#[test]
fn no_room_is_too_large_to_walk() {
    const MOST: usize = 600;
    let breaches: Vec<_> = sources(&[
        "src",
        "native",
        "web/src",
        "web/transport",
        "web/values",
        "xtask/src",
        "tests",
        "benches",
    ])
    .into_iter()
    .filter(|source| source.text.lines().count() > MOST)
    .map(|source| format!("{}: {} lines", source.path, source.text.lines().count()))
    .collect();
    assert_none(
        "a file of more than 600 lines has a second job: split it",
        &breaches,
    );
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not break its own rule.
    let words = [
        "TO\u{44}O",
        "FIX\u{4d}E",
        "tod\u{6f}!(",
        "unimplemente\u{64}!(",
    ];
    let mut breaches = Vec::new();
    for source in sources(&[
        "src",
        "native",
        "web/src",
        "web/transport",
        "web/values",
        "xtask/src",
        "tests",
        "examples",
        "benches",
    ]) {
        for (i, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                breaches.push(format!("{}:{}: {}", source.path, i + 1, line.trim()));
            }
        }
    }
    assert_none(
        "what is not done is an issue, not a mark in the code",
        &breaches,
    );
}

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
        .current_dir(env!("CARGO_MANIFEST_DIR"))
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
