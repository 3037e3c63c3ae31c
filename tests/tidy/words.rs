//! Words that have no place in the code or in its documentation.

use crate::assert_none;
use crate::imports::paths;
use crate::layout::EVERYWHERE;
use crate::source::{Source, sources};

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
    for source in sources(EVERYWHERE) {
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
fn no_queue_is_unbounded() {
    let words = ["mpsc::unbounded", "unbounded_channel", "UnboundedSender"];
    assert_none(
        "every queue is bounded, and says what happens when it is full",
        &code_with(&words),
    );
}

#[test]
fn only_rt_sync_decides_what_a_poisoned_lock_means() {
    let mut breaches = Vec::new();
    for source in sources(&["src"]) {
        if source.is_unit_test() || source.is_in(&["src/rt/sync/"]) {
            continue;
        }
        for path in paths(&source.code()) {
            let name = path.segments.join("::");
            let is_lock = ["Mutex", "RwLock", "PoisonError"]
                .iter()
                .any(|n| name.ends_with(n));
            if name.starts_with("std::sync") && is_lock {
                breaches.push(format!("{}:{}: {name}", source.path, path.line));
            }
        }
    }
    assert_none(
        "locks are `rt::sync::Mutex`, which ignores poisoning",
        &breaches,
    );
}

/// Returns the lines of code in `src/` that have one of `words`.
fn code_with(words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        if source.is_unit_test() {
            continue;
        }
        for (number, line) in source.lines() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

/// Beginnings of doc comments that do not say what the item is. "Gives up" is ordinary English.
const RIDDLES: &[&str] = &[
    "See the module",
    "Who ",
    "Whom ",
    "Whose ",
    "Whoever ",
    "Gives ",
    "That of ",
    "Those of ",
    "It is.",
    "The same",
    "When these ",
];

#[test]
fn documentation_begins_with_what_the_item_is() {
    let breaches: Vec<_> = sources(EVERYWHERE).iter().flat_map(riddles).collect();
    assert_none(
        "the first sentence says what the item is, or what it returns or does",
        &breaches,
    );
}

fn riddles(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut was_doc = false;
    for (i, line) in source.text.lines().enumerate() {
        let line = line.trim_start();
        let doc = ["/// ", "//! "]
            .iter()
            .find_map(|mark| line.strip_prefix(mark));
        let is_riddle = |doc: &str| {
            !doc.starts_with("Gives up ") && RIDDLES.iter().any(|riddle| doc.starts_with(riddle))
        };
        if let Some(doc) = doc
            && !was_doc
            && is_riddle(doc)
        {
            found.push(format!("{}:{}: {doc}", source.path, i + 1));
        }
        was_doc = line.starts_with("///") || line.starts_with("//!");
    }
    found
}

#[test]
fn only_the_first_line_of_a_doc_comment_is_checked() {
    let text = "//! Who reads\n//! Gives up.\n/// Returns it.\n/// Who cares.\nfn a();\n    /// Gives it.\nb,\n/// The same in bytes.\n";
    let found = riddles(&Source::new("x.rs", text));
    assert_eq!(
        found,
        [
            "x.rs:1: Who reads",
            "x.rs:6: Gives it.",
            "x.rs:8: The same in bytes."
        ]
    );
}

/// What is logged with `%`, as it is: addresses, numbers and errors, whose texts quote what others have chosen.
const LOGGED_AS_IT_IS: [&str; 12] = [
    "addr",
    "bound",
    "error",
    "from",
    "gossip_advertise_addr",
    "local_addr",
    "newcomer",
    "own",
    "peer",
    "reason",
    "to",
    "why",
];

#[test]
fn a_text_that_may_hold_control_characters_is_quoted_in_the_log() {
    let mut breaches = Vec::new();
    for source in sources(&["src", "native/src", "web"]) {
        for (number, line) in source.lines() {
            // The formatter puts a space after the operator.
            let values = line.split('%').skip(1);
            let values = values.filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
            for value in values {
                let end = value.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
                let path = &value[..end.unwrap_or(value.len())];
                let name = path.rsplit('.').next().unwrap_or_default();
                if !LOGGED_AS_IT_IS.contains(&name) {
                    breaches.push(format!("{}:{number}: %{path}", source.path));
                }
            }
        }
    }
    assert_none(
        "someone else may have chosen this text, and it could begin a line of its own: pass it as it is or with `?`, \
         both of which quote it",
        &breaches,
    );
}
