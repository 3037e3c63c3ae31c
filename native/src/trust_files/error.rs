//! The reasons for which a change of the secrets is not possible.

use std::fmt;
use std::path::PathBuf;

use gossip_transport::credential::{Keyring, SecretId};

use crate::shown::brief;

/// The secrets were not changed. The text says what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChangeError {
    /// The node has no file of secrets.
    NoFile,
    /// The file has this secret already.
    Exists(SecretId),
    /// The file has as many secrets as it may have.
    TooMany(Vec<SecretId>),
    /// No secret has such an id.
    Unknown { given: String, ids: Vec<SecretId> },
    /// Several secrets have such an id.
    Ambiguous(Vec<SecretId>),
    /// The secret to be removed is the last one.
    Last(SecretId),
    /// The secret to be removed is the one for dialling.
    InUse(SecretId),
    /// The file is not valid, for this reason.
    InvalidFile(String),
    /// The file cannot be replaced, for this reason.
    NotWritable(PathBuf, String),
    /// Another change of the file has not ended.
    Busy(PathBuf),
    /// The change has not ended in time, and may be made later.
    Unfinished(PathBuf),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => f.write_str(
                "this node has no secret: it was started without --secret FILE, which is needed for this",
            ),
            Self::Exists(id) => write!(
                f,
                "the secret {id} is in the node's file already: there is nothing to do, unless you have named the \
                 wrong file"
            ),
            Self::TooMany(ids) => write!(
                f,
                "the node has {} secrets, and no more are possible: first remove one that no node uses any \
                 more, with gossip-node secret remove ID; the ids are {}",
                Keyring::MAX_SECRETS,
                list(ids)
            ),
            Self::Unknown { given, ids } => write!(
                f,
                "the node has no secret with the id {:?}, nor one that begins so: name one of {}",
                brief(given),
                list(ids)
            ),
            Self::Ambiguous(ids) => write!(
                f,
                "several secrets have ids that begin so: give more of it; the ids are {}",
                list(ids)
            ),
            Self::Last(id) => write!(
                f,
                "{id} is the only secret, and without one nobody could connect: first add another one with \
                 gossip-node secret add"
            ),
            Self::InUse(id) => write!(
                f,
                "the node dials with the secret {id}: first let it use another one with gossip-node secret \
                 use ID"
            ),
            Self::InvalidFile(reason) => {
                write!(f, "the node still uses its earlier secrets, because {reason}")
            }
            Self::NotWritable(path, reason) => write!(
                f,
                "cannot replace {}: {reason}; let the node's user write to its directory, or change the file \
                 in another way, which the node notices within seconds",
                path.display()
            ),
            Self::Busy(path) => write!(
                f,
                "another change of {} has not ended: try again, and check its file system if that does not \
                 help",
                path.display()
            ),
            Self::Unfinished(path) => write!(
                f,
                "the file system of {} does not answer, so that the change may be made later: see gossip-node \
                 secret list",
                path.display()
            ),
        }
    }
}

/// Returns the ids with commas between them.
pub(super) fn list(ids: &[SecretId]) -> String {
    let ids: Vec<_> = ids.iter().map(SecretId::to_string).collect();
    ids.join(", ")
}
