//! What the commands about cluster secrets do.
//!
//! Changing the file and the node is in [`crate::trust_files`]. Invariant: a reply contains ids, and no secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use gossip_transport::credential::{Grounds, Keyring, SecretId};

use super::execute::with;
use super::items::{Secret, SecretState};
use super::protocol::{Code, Failure};
use crate::any_network::AnyParticipant;
use crate::node::Node;
use crate::trust_files::{Change, ChangeError, TrustFiles};

/// Returns the secrets of the node, the one for dialling first, and then those that are not accepted any more and on
/// which connections still rest.
///
/// # Errors
///
/// Fails if the node was started without a secret, or is leaving.
pub(super) fn list(node: &Node, files: &TrustFiles) -> Result<Vec<Secret>, Failure> {
    let keyring = keyring(files)?;
    let mut connections = connections(node)?;
    let mut listed = Vec::new();
    for secret in keyring.secrets() {
        let connections = connections.remove(&secret.id()).unwrap_or_default();
        listed.push(item(secret.id(), &keyring, connections));
    }
    let removed = connections.into_iter();
    listed.extend(removed.map(|(id, count)| item(id, &keyring, count)));
    Ok(listed)
}

/// Changes the secrets, and returns the one that the change is about.
///
/// # Errors
///
/// Fails if the change is not possible, or if the node is leaving.
pub(super) async fn change(
    node: &Node,
    files: &TrustFiles,
    change: Change,
) -> Result<Secret, Failure> {
    // A node that is leaving does not change its files any more.
    with(node, |_| ())?;
    let id = files.change(change).await;
    let id = id.map_err(|error| failure(&error))?;
    let keyring = keyring(files)?;
    let connections = connections(node)?.remove(&id).unwrap_or_default();
    Ok(item(id, &keyring, connections))
}

/// The open connections that rest on a secret.
#[derive(Debug, Clone, Copy, Default)]
struct Resting {
    /// Number of connections that were made with it.
    members: u64,
    /// Number of connections of peers with invites that were issued with it.
    leaves: u64,
}

/// Returns the number of open connections that rest on each secret.
fn connections(node: &Node) -> Result<BTreeMap<SecretId, Resting>, Failure> {
    let stats = with(node, AnyParticipant::stats)?;
    let mut counts: BTreeMap<_, Resting> = BTreeMap::new();
    for connection in stats.connections {
        match connection.grounds {
            Grounds::Secret(id) => counts.entry(id).or_default().members += 1,
            Grounds::Invite { secret, .. } => counts.entry(secret).or_default().leaves += 1,
            _ => {}
        }
    }
    Ok(counts)
}

fn keyring(files: &TrustFiles) -> Result<Arc<Keyring>, Failure> {
    let keyring = files.trust().keyring();
    keyring.ok_or_else(|| failure(&ChangeError::NoFile))
}

fn item(id: SecretId, keyring: &Keyring, connections: Resting) -> Secret {
    let state = if id == keyring.first().id() {
        SecretState::Dials
    } else if keyring.get(id).is_some() {
        SecretState::Accepted
    } else {
        SecretState::Removed
    };
    Secret {
        secret: id.to_string(),
        state,
        connections: connections.members,
        leaves: connections.leaves,
    }
}

fn failure(error: &ChangeError) -> Failure {
    let code = match error {
        ChangeError::NoFile => Code::NoSecretFile,
        ChangeError::Exists(_) => Code::SecretExists,
        ChangeError::TooMany(_) => Code::TooManySecrets,
        ChangeError::Unknown { .. } => Code::NoSuchSecret,
        ChangeError::Ambiguous(_) => Code::AmbiguousSecret,
        ChangeError::Last(_) => Code::LastSecret,
        ChangeError::InUse(_) => Code::SecretInUse,
        ChangeError::InvalidFile(_) => Code::InvalidFile,
        ChangeError::NotWritable(..) => Code::NotWritable,
        ChangeError::Busy(_) => Code::Busy,
        ChangeError::Unfinished(_) => Code::Unfinished,
    };
    Failure::new(code, error.to_string())
}
