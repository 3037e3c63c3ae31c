//! The subcommands of `gossip-node secret`.
//!
//! A new secret is read from a file or from stdin, since other users can read a command line. It goes to the node over
//! the admin port only.

use std::io;
use std::path::{Path, PathBuf};

use gossip_transport::credential::ClusterSecret;

use super::error::Stop;
use super::input::read;
use super::items::Secret;
use super::output;
use super::protocol::{Command, SecretAdd, SecretNamed};
use super::target::Target;
use crate::shown::has_secret;
use crate::trust_files;

/// A subcommand of `secret`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SecretCommand {
    /// List the ids of the secrets, which one is for dialling, and how many open connections rest on each
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Accept another secret as well, and add it to the node's file
    Add {
        /// A file with the new secret [default: stdin]
        file: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
    /// Dial with this secret, and move it to the top of the node's file
    Use {
        /// The id of the secret, or its first characters
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Do not accept this secret any more, and remove it from the node's file
    Remove {
        /// The id of the secret, or its first characters
        id: String,
        #[command(flatten)]
        target: Target,
    },
}

impl SecretCommand {
    pub(super) fn target(&self) -> &Target {
        match self {
            Self::List { target }
            | Self::Add { target, .. }
            | Self::Use { target, .. }
            | Self::Remove { target, .. } => target,
        }
    }

    /// Returns the request.
    ///
    /// # Errors
    ///
    /// Fails if the new secret cannot be read, or if a secret is given in place of its id, with a text that says what
    /// to do.
    pub(super) fn request(&self) -> Result<Command, Stop> {
        Ok(match self {
            Self::List { .. } => Command::SecretList,
            Self::Add { file, .. } => Command::SecretAdd(SecretAdd {
                secret: new_secret(file.as_deref()).map_err(Stop::Input)?,
            }),
            Self::Use { id, .. } => Command::SecretUse(named(id)?),
            Self::Remove { id, .. } => Command::SecretRemove(named(id)?),
        })
    }

    /// Returns a line about the secret that was changed.
    pub(super) fn done(&self, secret: &Secret) -> String {
        let id = output::printable(&secret.secret);
        match self {
            Self::List { .. } | Self::Add { .. } => format!("added {id}"),
            Self::Use { .. } => format!("using {id}"),
            Self::Remove { .. } => match secret.connections.saturating_add(secret.leaves) {
                0 => format!("removed {id}"),
                count => format!(
                    "removed {id}, which {count} open connections use: they end within two seconds"
                ),
            },
        }
    }
}

fn named(id: &str) -> Result<SecretNamed, Stop> {
    if has_secret(id) {
        return Err(Stop::Usage(
            "this is a secret, which other users can read on a command line, and not its id: gossip-node secret list \
             lists the ids"
                .to_owned(),
        ));
    }
    Ok(SecretNamed { id: id.to_owned() })
}

fn new_secret(file: Option<&Path>) -> Result<ClusterSecret, String> {
    let (name, text) = match file {
        Some(path) if path != Path::new("-") => {
            let text = std::fs::File::open(path).and_then(read);
            let shown = path.to_string_lossy();
            if text.is_err() && shown.parse::<ClusterSecret>().is_ok() {
                return Err(
                    "a secret on the command line can be read by other users, and is in the history of \
                     the shell: make another one with gossip-node --make-secret FILE, and name that file"
                        .to_owned(),
                );
            }
            let text = text.map_err(|error| format!("cannot read the secret {shown}: {error}"))?;
            (shown.into_owned(), text)
        }
        _ => {
            let text = read(io::stdin());
            let text =
                text.map_err(|error| format!("cannot read the secret from stdin: {error}"))?;
            ("stdin".to_owned(), text)
        }
    };
    trust_files::only_secret(&name, &text)
}

#[cfg(test)]
mod tests {
    use super::super::items::SecretState;
    use super::*;

    #[test]
    fn a_removal_says_whether_connections_end() {
        let remove = SecretCommand::Remove {
            id: "57".to_owned(),
            target: Target {
                admin: None,
                json: false,
            },
        };
        let removed = |connections| {
            remove.done(&Secret {
                secret: "57iue7ms".to_owned(),
                state: SecretState::Removed,
                connections,
                leaves: connections,
            })
        };
        assert_eq!(removed(0), "removed 57iue7ms");
        assert!(removed(2).contains("which 4 open connections use"));
    }
}
