//! Secrets in texts that are printed, such as an argument in the wrong place.
//!
//! Invariant: what [`hide`] returns contains no cluster secret, key or invite in its printed form.

use std::borrow::Cow;

/// The beginnings of what is secret in its printed form. Base32 follows.
const PREFIXES: [&str; 3] = ["gossip-secret-", "gossip-key-", "gossip-invite-"];
/// The fewest characters of base32 that are taken for part of a secret. The shortest secret has 26. Names of files
/// have fewer.
const MIN_LEN: usize = 16;
/// What is printed instead.
const HIDDEN: &str = "(a secret)";

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
}
