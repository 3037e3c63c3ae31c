//! The content of a file of an invite: its word, on a line of its own.
//!
//! Invariant: no error contains a part of the file, which anyone could join with.

use gossip_transport::credential::Invite;

use super::lines::{entries, lacks};

/// Returns the invite in `text`.
///
/// # Errors
///
/// Fails if there is none, if a line is none, or if there are several. The text follows the name of the file.
pub(super) fn parse(text: &str) -> Result<Invite, String> {
    let mut found: Option<(usize, Invite)> = None;
    for (line, entry) in entries(text) {
        let invite: Invite = entry
            .parse()
            .map_err(|error| format!(", line {line}: {error}"))?;
        if let Some((first, _)) = found {
            return Err(format!(
                ", line {line}: a second invite beside that on line {first}: remove one of them"
            ));
        }
        found = Some((line, invite));
    }
    let (_, invite) = found.ok_or_else(|| {
        format!(
            " {} an invite: ask a member of the cluster for one, which gossip-node invite prints",
            lacks(text)
        )
    })?;
    Ok(invite)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gossip_transport::ClusterSecret;
    use gossip_transport::credential::{Claims, InviteId};

    use super::*;

    #[test]
    fn a_word_may_have_comments_and_anything_else_is_reported_without_its_content() {
        let id = InviteId::generate(Duration::from_secs(1_800_000_000), Duration::from_secs(60));
        let claims = Claims::new(id.unwrap());
        let secret = ClusterSecret::generate();
        let invite = Invite::issue(&secret, claims, "c".to_owned(), Vec::new()).unwrap();
        let word = invite.to_text();
        assert_eq!(parse(&format!("# of a\n\n  {} # b\n", *word)), Ok(invite));
        for (text, reason) in [
            (String::new(), " is empty and does not contain an invite"),
            ("# none\n".to_owned(), " does not contain an invite"),
            (
                format!("\n{}", &word[..60]),
                ", line 2: the invite is incomplete",
            ),
            (secret.to_text(), ", line 1: this is not an invite"),
            (
                format!("{0}\n{0}", *word),
                ", line 2: a second invite beside that on line 1",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(reason), "{error}");
            assert!(!error.contains(&word[..30]), "{error}");
            assert!(!error.contains("gossip-secret-"), "{error}");
        }
    }
}
