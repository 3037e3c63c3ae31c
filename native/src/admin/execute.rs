//! What the commands of the admin port do to the node.
//!
//! Invariant: a command that fails has changed nothing.

use gossip_transport::gossip::{DeleteError, Liveness, Member, SetError};
use gossip_transport::message::ChitchatId;

use super::items::{Deleted, Entry, Subject};
use super::protocol::{Code, Delete, Failure, Get, Set};
use crate::any_network::AnyParticipant;
use crate::node::Node;

/// Calls `f` with the participant.
///
/// # Errors
///
/// Fails if the node is leaving.
pub(super) fn with<R>(node: &Node, f: impl FnOnce(&AnyParticipant) -> R) -> Result<R, Failure> {
    node.with(f).ok_or_else(leaving)
}

/// Returns the value of a key.
pub(super) fn get(node: &Node, get: &Get) -> Result<Entry, Failure> {
    let Get { key, node: name } = get;
    let Some(name) = name else {
        let (id, value) = with(node, |node| (node.id(), node.get(key)))?;
        return match value {
            Some(value) => Ok(entry(&id, true, key, value)),
            None => Err(no_such_key(&id, key)),
        };
    };
    let members = with(node, AnyParticipant::members)?;
    let Some(member) = named(members, name) else {
        let message = format!("this node knows no member {name:?}");
        return Err(Failure::new(Code::NoSuchMember, message));
    };
    let is_live = member.liveness != Liveness::Dead;
    match member.key_values.get(key) {
        Some(value) => Ok(entry(&member.id, is_live, key, value.value.clone())),
        None => Err(no_such_key(&member.id, key)),
    }
}

/// Returns the member with the name `name` that takes precedence.
fn named(members: Vec<Member>, name: &str) -> Option<Member> {
    let members = members.into_iter();
    let mut named: Vec<_> = members
        .filter(|member| &*member.id.node_id == name)
        .collect();
    // Upstream nodes may give the same name to several.
    named.sort_by_key(|member| {
        let is_dead = member.liveness == Liveness::Dead;
        (!member.superseded, !is_dead, member.id.generation_id)
    });
    named.pop()
}

/// Sets a key of the node.
pub(super) fn set(node: &Node, set: &Set) -> Result<Entry, Failure> {
    let Set { key, value, expire } = set;
    let (id, set) = with(node, |node| {
        let set = if *expire {
            node.set_with_ttl(key, value)
        } else {
            node.set(key, value)
        };
        (node.id(), set)
    })?;
    match set {
        Ok(()) => {
            tracing::info!(?key, expire, "set by an admin command");
            Ok(entry(&id, true, key, value.clone()))
        }
        Err(SetError::Left) => Err(leaving()),
        Err(error) => Err(Failure::new(Code::Refused, error.to_string())),
    }
}

/// Deletes a key of the node.
pub(super) fn delete(node: &Node, delete: &Delete) -> Result<Deleted, Failure> {
    let key = &delete.key;
    let (id, deleted) = with(node, |node| (node.id(), node.delete(key)))?;
    match deleted {
        Ok(()) => {
            tracing::info!(?key, "deleted by an admin command");
            Ok(Deleted {
                member: Subject::from(&id),
                key: key.clone(),
            })
        }
        Err(DeleteError::NoSuchKey { .. }) => Err(no_such_key(&id, key)),
        Err(_) => Err(leaving()),
    }
}

fn entry(id: &ChitchatId, live: bool, key: &str, value: String) -> Entry {
    Entry {
        member: Subject::from(id),
        live,
        key: key.to_owned(),
        value,
    }
}

fn no_such_key(id: &ChitchatId, key: &str) -> Failure {
    let message = format!("{:?} has no key {key:?}", &*id.node_id);
    Failure::new(Code::NoSuchKey, message)
}

pub(super) fn leaving() -> Failure {
    Failure::new(Code::Leaving, "the node is leaving the cluster")
}
