//! The subcommand `gossip-node revoke`.
//!
//! Invariant: what no invite of the cluster can be is refused here, and no error contains the word of an invite.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gossip_transport::credential::{Invite, InviteId};
use gossip_transport::rt;

use super::error::Stop;
use super::input;
use super::items::{KeptWhere, Revoked};
use super::output::printable;
use super::protocol::{Command, Revoke};
use super::target::Target;
use crate::shown::brief;
use crate::{rfc3339, trust_files};

/// The beginning of the word of an invite.
const WORD: &str = "gossip-invite-";
/// What a link to a page has before the word.
const IN_LINK: &str = "#invite=";
/// The time after its end for which nodes remember an invite that was revoked, since a clock may be ahead.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// What the argument can be.
const EXPECTED: &str = "give its whole id (26 characters of base32: a-z, 2-7), which gossip-node invite has printed to \
    stderr and gossip-node connections lists while it is used, or a file with its word, or - and its word on stdin";

/// What `gossip-node revoke` is given.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeCommand {
    /// The invite: its whole id, a file with its word, or its word; - reads the id or the word from stdin, which other
    /// users cannot see
    ///
    /// gossip-node invite prints the id to stderr, and gossip-node connections lists the ids of invites that are used.
    /// A node does not know which ids were issued: it cannot tell an id with a typing error from another one, revokes
    /// it, and the invite that was meant stays valid. So compare the id that is printed. The id of an
    /// invite that expired more than a day ago, or that would expire in more than 30 days, is refused.
    #[arg(value_name = "INVITE")]
    invite: Option<OsString>,

    /// List the invites that are revoked and have not expired
    #[arg(long, conflicts_with = "invite")]
    pub(super) list: bool,

    #[command(flatten)]
    target: Target,
}

/// The place of the invite that is to be revoked.
#[derive(Debug, PartialEq, Eq)]
enum Given {
    Id(InviteId),
    File(PathBuf),
    Stdin,
}

impl RevokeCommand {
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Returns the request.
    ///
    /// # Errors
    ///
    /// Fails if no invite is given, or one that cannot be revoked, with a text that says what to do.
    pub(super) fn request(&self) -> Result<Command, Stop> {
        if self.list {
            return Ok(Command::RevokeList);
        }
        let invite = self.invite.as_deref().ok_or_else(|| {
            Stop::Usage(format!(
                "say which invite: {EXPECTED}; --list lists those that are revoked"
            ))
        })?;
        let now = rt::unix_time();
        let id = match given(invite).map_err(Stop::Usage)? {
            Given::Id(id) => check(id, now).map_err(Stop::Usage)?,
            Given::File(path) => {
                let shown = path.display();
                let text = std::fs::File::open(&path).and_then(input::read);
                let text = text.map_err(|error| {
                    format!("cannot read the invite from the file {shown}: {error}")
                });
                let id = text.and_then(|text| only_invite(&shown.to_string(), &text, now));
                id.map_err(Stop::Input)?
            }
            Given::Stdin => {
                let text = input::read(io::stdin());
                let text =
                    text.map_err(|error| format!("cannot read the invite from stdin: {error}"));
                let id = text.and_then(|text| only_invite("stdin", &text, now));
                id.map_err(Stop::Input)?
            }
        };
        Ok(Command::Revoke(Revoke { id }))
    }

    /// Returns a line that says what was done, and a note on what is missing. `now` is the time since 1970-01-01 UTC.
    pub(super) fn done(revoked: &Revoked, now: Duration) -> (String, Option<&'static str>) {
        let (id, expires) = (printable(&revoked.id), printable(&revoked.expires));
        let parsed: Result<InviteId, _> = revoked.id.parse();
        let has_expired = parsed.is_ok_and(|id| id.is_expired(now));
        let until = if has_expired {
            format!(
                "it expired at {expires}, and is remembered for a day, in case the clock is ahead"
            )
        } else {
            format!("all nodes refuse it until it expires at {expires}")
        };
        let note = "note: this node has no --state-dir, and forgets this when it restarts";
        match revoked.kept {
            KeptWhere::Disk => (format!("revoked {id}: {until}; kept on disk"), None),
            KeptWhere::Memory => (
                format!("revoked {id}: {until}; kept until this node ends"),
                Some(note),
            ),
            KeptWhere::Nowhere => (
                format!("not revoked, since {id} expired at {expires}, and no node accepts it"),
                None,
            ),
        }
    }
}

/// Returns where the invite is.
fn given(argument: &OsStr) -> Result<Given, String> {
    if argument == "-" {
        return Ok(Given::Stdin);
    }
    let text = argument.to_string_lossy();
    let error = match invite_id(&text) {
        Ok(id) => return Ok(Given::Id(id)),
        Err(error) => error,
    };
    let path = Path::new(argument);
    if path.exists() {
        return Ok(Given::File(path.to_path_buf()));
    }
    Err(match error {
        NotInvite::Word(reason) => reason,
        NotInvite::Other if text.is_empty() => format!("the invite to revoke is empty: {EXPECTED}"),
        NotInvite::Other => format!(
            "{:?} is neither the id nor the word of an invite, nor the name of a file: {EXPECTED}",
            brief(&text)
        ),
    })
}

/// Returns the only invite in the text of a file or of stdin, which may have comments as the file of `--invite`.
fn only_invite(name: &str, text: &str, now: Duration) -> Result<InviteId, String> {
    let mut entries = trust_files::entries(text);
    let lacks = trust_files::lacks(text);
    let (line, entry) = entries
        .next()
        .ok_or_else(|| format!("{name} {lacks} the id or the word of an invite"))?;
    if let Some((second, _)) = entries.next() {
        return Err(format!(
            "{name}, line {second}: a second invite beside that on line {line}: revoke one at a time"
        ));
    }
    let id = invite_id(entry).map_err(|error| {
        let reason = match error {
            NotInvite::Word(reason) => reason,
            NotInvite::Other => format!(
                "this is neither the id of an invite, which is 26 characters of base32 (a-z, 2-7), nor its word, which \
                 begins with {WORD}"
            ),
        };
        format!("{name}, line {line}: {reason}")
    })?;
    check(id, now).map_err(|reason| format!("{name}, line {line}: {reason}"))
}

/// The reason for which a text is not an invite.
#[derive(Debug, PartialEq, Eq)]
enum NotInvite {
    /// It begins as a word, and is damaged. The text says how, and does not contain it.
    Word(String),
    Other,
}

/// Parses an id, or takes that of a word or of a link with a word.
fn invite_id(text: &str) -> Result<InviteId, NotInvite> {
    let text = text.trim();
    let word = text.split_once(IN_LINK).map_or(text, |(_, word)| word);
    if word.starts_with(WORD) {
        let invite: Result<Invite, _> = word.parse();
        return invite
            .map(|invite| invite.claims().id())
            .map_err(|error| NotInvite::Word(error.to_string()));
    }
    text.parse().map_err(|_| NotInvite::Other)
}

/// Returns the id if an invite can have it that some node may accept.
fn check(id: InviteId, now: Duration) -> Result<InviteId, String> {
    let expires = rfc3339::utc(id.expires_at());
    if id.is_too_far_ahead(now) {
        return Err(format!(
            "{id} is not the id of an invite, since it would expire at {expires}, and no invite is valid for more than \
             30 days: check the id for typing errors, and the clock of this machine"
        ));
    }
    if id.is_expired(now.saturating_sub(REMEMBERED)) {
        return Err(format!(
            "the invite {id} expired at {expires}, and no node accepts it, so there is nothing to revoke; if it should \
             be valid, check the id for typing errors, and the clock of this machine"
        ));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn id_at(time: Duration) -> InviteId {
        InviteId::generate(time, HOUR).unwrap()
    }

    #[test]
    fn a_text_has_one_invite_and_its_errors_name_the_line_and_not_the_word() {
        let id = id_at(NOW);
        let only_invite = |text: &str| only_invite("stdin", text, NOW);
        assert_eq!(only_invite(&format!("# a guest\n{id} # b\n")), Ok(id));
        let word = format!("{WORD}{}", "a2".repeat(40));
        let late = id_at(NOW - 72 * HOUR);
        for (text, reason) in [
            (String::new(), "stdin is empty and does not contain the id"),
            ("# none\n".to_owned(), "stdin does not contain the id"),
            (
                format!("\n{word}"),
                "stdin, line 2: the invite is incomplete",
            ),
            (
                format!("{id}\n{id}\n"),
                "stdin, line 2: a second invite beside that on line 1",
            ),
            (
                "gossip-secret-a2a2".to_owned(),
                "stdin, line 1: this is neither the id",
            ),
            (
                format!("#\n{late}"),
                &format!("stdin, line 2: the invite {late} expired at "),
            ),
        ] {
            let error = only_invite(&text).unwrap_err();
            assert!(
                error.starts_with(reason) && !error.contains("a2a2"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_id_is_given_as_a_whole_and_an_error_does_not_contain_a_word() {
        let id = id_at(NOW);
        assert_eq!(invite_id(&format!(" {id}\n")), Ok(id));
        let begin = &id.to_string()[..10];
        assert_eq!(invite_id(begin), Err(NotInvite::Other));
        let error = given(OsStr::new(begin)).unwrap_err();
        assert!(
            error.contains("its whole id") && error.contains(&format!("{begin:?}")),
            "{error}"
        );
        let secret = format!("gossip-secret-{}", "a2".repeat(26));
        for wrong in [
            format!("{WORD}{}", "a2".repeat(40)),
            format!("http://127.0.0.1/{IN_LINK}{WORD}{}", "a2".repeat(40)),
            format!("dir/{WORD}{}", "a2".repeat(40)),
            secret,
        ] {
            let error = given(OsStr::new(&wrong)).unwrap_err();
            assert!(!error.contains("a2a2"), "{error}");
        }
    }

    #[test]
    fn an_id_that_no_valid_invite_has_is_refused_with_its_time() {
        assert!(check(id_at(NOW), NOW).is_ok());
        // The clock may be ahead, and be set back.
        assert!(check(id_at(NOW - 24 * HOUR), NOW).is_ok());
        let error = check(id_at(NOW - 26 * HOUR), NOW).unwrap_err();
        assert!(error.contains("expired at 2027-01-14T07:00:00Z"), "{error}");
        let early = NOW - InviteId::MAX_LIFETIME;
        assert!(check(id_at(NOW), early + 2 * HOUR).is_ok());
        let error = check(id_at(NOW), early).unwrap_err();
        assert!(
            error.contains("would expire at 2027-01-15T09:00:00Z") && error.contains("30 days"),
            "{error}"
        );
    }

    #[test]
    fn what_was_done_is_said_with_the_id_and_the_time() {
        let done = |id: InviteId, kept| {
            let revoked = Revoked {
                id: id.to_string(),
                expires: rfc3339::utc(id.expires_at()),
                kept,
            };
            RevokeCommand::done(&revoked, NOW)
        };
        let id = id_at(NOW);
        let (line, note) = done(id, KeptWhere::Disk);
        let expected = "all nodes refuse it until it expires at 2027-01-15T09:00:00Z; kept on disk";
        assert_eq!((line, note), (format!("revoked {id}: {expected}"), None));
        let (line, note) = done(id, KeptWhere::Memory);
        assert!(line.ends_with("; kept until this node ends"), "{line}");
        assert!(note.unwrap().contains("--state-dir"));
        let late = id_at(NOW - 3 * HOUR);
        let (line, _) = done(late, KeptWhere::Disk);
        let begins = format!("revoked {late}: it expired at ");
        assert!(
            line.starts_with(&begins) && line.contains("clock is ahead"),
            "{line}"
        );
        let (line, _) = done(late, KeptWhere::Nowhere);
        assert!(
            line.starts_with(&format!("not revoked, since {late} expired")),
            "{line}"
        );
    }
}
