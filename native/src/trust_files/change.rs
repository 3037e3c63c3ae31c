//! A change of the secrets, as a command asks for it.

use gossip_transport::credential::ClusterSecret;

/// A change of the secrets.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Accepts another secret.
    Add(ClusterSecret),
    /// Dials with the secret whose id begins with this text.
    Use(String),
    /// Does not accept the secret any more whose id begins with this text.
    Remove(String),
}

impl Change {
    /// Returns what was done, for the log.
    pub(super) fn past(&self) -> &'static str {
        match self {
            Self::Add(_) => "added",
            Self::Use(_) => "used for dialling",
            Self::Remove(_) => "removed",
        }
    }
}
