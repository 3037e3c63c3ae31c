//! What is printed and logged of texts that others have written.
//!
//! Invariant: no cluster secret, key or invite in its printed form is in what [`hide`] and [`brief`] return, and what
//! [`brief`] returns is short and on one line.

use std::borrow::Cow;

/// The beginnings of what is secret in its printed form. Base32 follows.
const PREFIXES: [&str; 3] = ["gossip-secret-", "gossip-key-", "gossip-invite-"];
/// The fewest characters of base32 that are taken for part of a secret. The shortest secret has 26. Names of files
/// have fewer.
const MIN_LEN: usize = 16;
/// What is printed instead.
const HIDDEN: &str = "(a secret)";

/// The most characters that [`brief`] returns of a text.
const MAX_CHARS: usize = 80;

/// Returns the beginning of `text` on one line, without secrets, and its length if that is not all of it.
pub(crate) fn brief(text: &str) -> String {
    // Hiding looks at all of its text.
    let end = text.char_indices().nth(MAX_CHARS * 2).map(|(at, _)| at);
    let begins = hide(text.get(..end.unwrap_or(text.len())).unwrap_or_default());
    let mut chars = begins.chars();
    let mut shown = String::new();
    for c in chars.by_ref().take(MAX_CHARS) {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    if chars.next().is_some() {
        shown.push_str(&format!("... ({} bytes)", text.len()));
    }
    shown
}

/// Returns whether `text` contains a secret.
pub(crate) fn has_secret(text: &str) -> bool {
    matches!(hide(text), Cow::Owned(_))
}

/// Returns `text` with `(a secret)` in the place of each secret.
pub(crate) fn hide(text: &str) -> Cow<'_, str> {
    let Some((start, end)) = first_secret(text) else {
        return Cow::Borrowed(text);
    };
    let (before, after) = (text.get(..start), text.get(end..));
    let mut shown = before.unwrap_or_default().to_owned();
    shown.push_str(HIDDEN);
    shown.push_str(&hide(after.unwrap_or_default()));
    Cow::Owned(shown)
}

/// Returns the place of the first secret in `text`.
fn first_secret(text: &str) -> Option<(usize, usize)> {
    let lower = text.to_ascii_lowercase();
    let found = PREFIXES.iter().flat_map(|prefix| {
        let places = lower.match_indices(prefix);
        places.map(|(start, prefix)| (start, start.saturating_add(prefix.len())))
    });
    let secrets = found.filter_map(|(start, base32)| {
        let rest = lower.get(base32..).unwrap_or_default();
        let len = rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        (len >= MIN_LEN).then_some((start, base32.saturating_add(len)))
    });
    secrets.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_are_and_names_of_files_are_not() {
        let secret = format!("gossip-secret-{}", "a2".repeat(26));
        let key = format!("gossip-key-{}", "b3".repeat(26));
        for text in [
            secret.clone(),
            secret.to_uppercase(),
            format!("dir/{secret}"),
            format!("--{secret}=1 {key}"),
            secret[..40].to_owned(),
        ] {
            let shown = hide(&text);
            assert!(has_secret(&text), "{text}");
            assert!(shown.contains(HIDDEN), "{shown}");
            assert!(!shown.to_lowercase().contains("a2a2a2"), "{shown}");
            assert!(!shown.contains("b3b3b3"), "{shown}");
        }
        assert_eq!(hide(&format!("a {key}, b")), "a (a secret), b");
        for text in ["/etc/gossip-secret-files/a", "gossip-secret-", "\u{e4}", ""] {
            assert!(!has_secret(text), "{text}");
            assert_eq!(hide(text), text);
        }
    }

    #[test]
    fn a_long_text_or_one_of_several_lines_is_a_short_line() {
        assert_eq!(brief("color"), "color");
        assert_eq!(brief("a\nb\u{1b}"), "a\\nb\\u{1b}");
        let long = "\u{e4}".repeat(60_000);
        let shown = brief(&long);
        assert!(shown.ends_with("... (120000 bytes)"), "{shown}");
        assert!(shown.chars().count() < 100, "{shown}");
        // A secret at the end of what is shown.
        let secret = format!("{}gossip-secret-{}", "x".repeat(60), "a2".repeat(26));
        assert!(!brief(&secret).contains("a2a2"), "{}", brief(&secret));
    }
}
