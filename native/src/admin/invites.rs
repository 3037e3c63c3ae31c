//! What the commands about invites do.
//!
//! Invariant: the word of an invite is in the reply of the command that issues it, and nowhere else.

use std::time::Duration;

use gossip_transport::ClusterSecret;
use gossip_transport::credential::{
    Claims, Holder, Invite, InviteId, IssueError, Quotas, RevokeError,
};
use gossip_transport::rt;

use super::execute::with;
use super::items::{ClaimsItem, Issued, KeptWhere, Revoked};
use super::protocol::{Code, Failure, InviteOrder};
use crate::node::Node;
use crate::revocations::{Kept, Revocations, RevokeFailure};
use crate::rfc3339;
use crate::trust_files::ChangeError;

/// Issues an invite with `secret` to the cluster `cluster`.
///
/// # Errors
///
/// Fails with [`Code::Refused`] and a text that says what to change.
pub(super) fn issue(
    secret: &ClusterSecret,
    order: &InviteOrder,
    cluster: &str,
) -> Result<Issued, Failure> {
    let lifetime = Duration::from_secs(order.lifetime_seconds);
    let id = InviteId::generate(rt::unix_time(), lifetime).map_err(|error| refused(&error))?;
    let mut quotas = Quotas::default();
    if let Some(keys) = order.max_keys {
        quotas = quotas.with_max_keys(keys);
    }
    if let Some(bytes) = order.max_bytes {
        quotas = quotas.with_max_bytes(bytes);
    }
    if let Some(changes) = order.max_changes {
        quotas = quotas.with_max_changes_per_second(changes);
    }
    if let Some(connections) = order.max_connections {
        quotas = quotas.with_max_connections(connections);
    }
    let mut claims = Claims::new(id).with_quotas(quotas);
    if let Some(name) = &order.name {
        let prefix = name.parse().map_err(IssueError::Malformed);
        claims = claims.with_name_prefix(prefix.map_err(|error| refused(&error))?);
    }
    if let Some(holder) = order.holder {
        claims = claims.with_holder(Holder::Only(holder));
    }
    let invite = Invite::issue(secret, claims, cluster.to_owned(), order.seeds.clone());
    let invite = invite.map_err(|error| refused(&error))?;
    Ok(Issued {
        id: id.to_string(),
        expires: rfc3339::utc(id.expires_at()),
        word: invite.to_text().to_string(),
        claims: invite.claims().into(),
        cluster: invite.cluster_id().to_owned(),
        seeds: invite.seeds().to_vec(),
    })
}

impl From<&Claims> for ClaimsItem {
    fn from(claims: &Claims) -> Self {
        let quotas = claims.quotas();
        Self {
            name: claims.name_prefix().as_str().to_owned(),
            holder: match claims.holder() {
                Holder::Anyone => None,
                Holder::Only(identity) => Some(identity.to_string()),
            },
            max_keys: quotas.max_keys(),
            max_bytes: quotas.max_bytes(),
            max_changes: quotas.max_changes_per_second(),
            max_connections: quotas.max_connections(),
        }
    }
}

fn refused(error: &IssueError) -> Failure {
    let message = match error {
        IssueError::SecretNotGenerated { id } => format!(
            "the secret {id} was not made by gossip-node --make-secret of this version, and holders of an invite \
             could guess it: make a new one, and replace it on all nodes (gossip-node secret add, use, remove)"
        ),
        error => error.to_string(),
    };
    Failure::new(Code::Refused, message)
}

/// Issues an invite with the secret for dialling. Its only seeds are the node's public URL, if it has one, for tabs, and
/// its address for nodes, unless others are named.
///
/// # Errors
///
/// Fails if the node has no secret, if the order cannot be met, or if the node is leaving.
pub(super) fn issue_by(node: &Node, mut order: InviteOrder) -> Result<Issued, Failure> {
    let (own, urls) = with(node, |participant| {
        (participant.id(), participant.public_urls())
    })?;
    if order.seeds.is_empty() {
        let of_node = urls.into_iter().find(|(id, _)| *id == own);
        order.seeds.extend(of_node.map(|(_, url)| url.to_string()));
        order.seeds.push(own.addr().to_string());
    }
    let keyring = node.trust.keyring().ok_or_else(no_secret)?;
    issue(keyring.first(), &order, &node.cluster)
}

/// Revokes an invite.
///
/// # Errors
///
/// Fails if the node has no secret, if too many invites are revoked, or if that cannot be written.
pub(super) async fn revoke(
    node: &Node,
    revocations: &Revocations,
    id: InviteId,
) -> Result<Revoked, Failure> {
    with(node, |_| ())?;
    node.trust.keyring().ok_or_else(no_secret)?;
    let kept = match revocations.revoke(id).await {
        Ok(kept) => kept,
        Err(RevokeFailure::Refused(error @ RevokeError::TooMany { .. })) => {
            let message = format!(
                "{error}, on all nodes: gossip-node --make-secret, and secret add, use and remove"
            );
            return Err(Failure::new(Code::TooManyRevocations, message));
        }
        Err(RevokeFailure::Refused(error)) => {
            return Err(Failure::new(Code::Refused, error.to_string()));
        }
        Err(RevokeFailure::NotWritten(reason)) => {
            let message = format!(
                "the invite is revoked, but only until this node restarts, since the state directory cannot be \
                 written: {reason}; the node tries again every few seconds"
            );
            return Err(Failure::new(Code::Unfinished, message));
        }
    };
    Ok(item(id, kept.into()))
}

/// Returns the invites that are revoked and have not expired.
pub(super) fn revoked(revocations: &Revocations) -> Vec<Revoked> {
    let ids = revocations.ids().into_iter();
    ids.map(|id| item(id, revocations.kept(id).into()))
        .collect()
}

impl From<Kept> for KeptWhere {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::OnDisk => Self::Disk,
            Kept::InMemory => Self::Memory,
            Kept::NotNeeded => Self::Nowhere,
        }
    }
}

fn item(id: InviteId, kept: KeptWhere) -> Revoked {
    Revoked {
        id: id.to_string(),
        expires: rfc3339::utc(id.expires_at()),
        kept,
    }
}

fn no_secret() -> Failure {
    Failure::new(Code::NoSecretFile, ChangeError::NoFile.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> InviteOrder {
        InviteOrder {
            lifetime_seconds: 60,
            name: None,
            holder: None,
            max_keys: None,
            max_bytes: None,
            max_changes: None,
            max_connections: None,
            seeds: Vec::new(),
        }
    }

    #[test]
    fn a_secret_that_was_not_generated_is_refused_with_what_to_do() {
        let secret = ClusterSecret::from_bytes(&[7; 32]).unwrap();
        let error = issue(&secret, &order(), "c").unwrap_err().message;
        let id = secret.id().to_string();
        assert!(
            error.contains(&id) && error.contains("--make-secret"),
            "{error}"
        );
    }

    #[test]
    fn the_debug_form_of_an_issued_invite_has_no_word() {
        let issued = issue(&ClusterSecret::generate(), &order(), "c").unwrap();
        let word: Invite = issued.word.parse().unwrap();
        assert_eq!(word.claims().id().to_string(), issued.id);
        assert!(!format!("{issued:?}").contains("gossip-invite-"));
    }
}
