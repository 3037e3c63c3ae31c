//! The log of what is done over the admin port, and by whom.
//!
//! Invariant: each command that can change something is one line at the level `info`, whether it was carried out or
//! not, and one that only reads is a line at the level `debug`. No line contains a value, a secret or the word of an
//! invite.

use super::port::Peer;
use super::protocol::{Command, Failure};
use crate::shown::brief;

/// What a command does, for the log.
struct Action {
    name: &'static str,
    /// The key, or the id of the secret or invite, that it is about.
    about: Option<String>,
    effect: Effect,
}

/// Whether a command can change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Changes,
}

impl Action {
    fn of(command: &Command) -> Self {
        use Effect::{Changes, Reads};
        let (name, about, effect) = match command {
            Command::Ping => ("ping", None, Reads),
            Command::Get(get) => ("get", Some(get.key.clone()), Reads),
            Command::Set(set) => ("set", Some(set.key.clone()), Changes),
            Command::Delete(delete) => ("delete", Some(delete.key.clone()), Changes),
            Command::Members => ("members", None, Reads),
            Command::Watch => ("watch", None, Reads),
            Command::Connections => ("connections", None, Reads),
            Command::SecretList => ("secret-list", None, Reads),
            Command::SecretAdd(add) => ("secret-add", Some(add.secret.id().to_string()), Changes),
            Command::SecretUse(named) => ("secret-use", Some(named.id.clone()), Changes),
            Command::SecretRemove(named) => ("secret-remove", Some(named.id.clone()), Changes),
            // Nothing has changed, but somebody can join who could not before. The id comes later.
            Command::Invite(_) => ("invite", None, Changes),
            Command::Revoke(revoke) => ("revoke", Some(revoke.id.to_string()), Changes),
            Command::RevokeList => ("revoke-list", None, Reads),
        };
        Self {
            name,
            about: about.map(|about| brief(&about)),
            effect,
        }
    }
}

/// A command that is being carried out. Dropping it before it has ended is logged as well.
pub(super) struct Entry {
    action: Action,
    peer: Peer,
    outcome: Option<String>,
}

impl Entry {
    /// Begins the entry of a command that `peer` has sent.
    pub(super) fn begin(command: &Command, peer: Peer) -> Self {
        Self {
            action: Action::of(command),
            peer,
            outcome: None,
        }
    }

    /// Adds what the command is about, for one that makes that itself.
    pub(super) fn about(&mut self, about: &str) {
        self.action.about = Some(brief(about));
    }

    /// Logs how the command has ended.
    pub(super) fn end(mut self, outcome: &Result<(), Failure>) {
        self.outcome = Some(match outcome {
            Ok(()) => "done".to_owned(),
            Err(failure) => failure.code.clone(),
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Action {
            name,
            about,
            effect,
        } = &self.action;
        let by = self.peer.to_string();
        // For example because the client has not waited for the reply.
        let outcome = self.outcome.as_deref().unwrap_or("disconnected");
        match effect {
            Effect::Changes => tracing::info!(by, command = name, about, outcome, "admin command"),
            Effect::Reads => tracing::debug!(by, command = name, about, outcome, "admin command"),
        }
    }
}

#[cfg(test)]
mod tests {
    use gossip_transport::ClusterSecret;

    use super::super::protocol::{SecretAdd, Set};
    use super::*;

    #[test]
    fn an_entry_names_the_key_and_the_id_of_a_secret_and_no_value() {
        let set = Action::of(&Command::Set(Set {
            key: "k".repeat(60_000),
            value: "value".to_owned(),
            expire: false,
        }));
        let about = set.about.unwrap();
        assert!(about.starts_with("kkk") && about.len() < 120, "{about}");
        assert_eq!(set.effect, Effect::Changes);
        let secret = ClusterSecret::generate();
        let add = Action::of(&Command::SecretAdd(SecretAdd {
            secret: secret.clone(),
        }));
        assert_eq!(add.about, Some(secret.id().to_string()));
    }
}
