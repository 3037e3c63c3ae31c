//! What the commands of the admin port do to the node.
//!
//! Invariant: a command that fails has changed nothing.

use gossip_transport::credential::is_key_address;
use gossip_transport::gossip::{DeleteError, Member, SetError};
use gossip_transport::message::ChitchatId;

use super::items::{Deleted, Entry, Subject};
use super::protocol::{Code, Delete, Failure, Get, Set};
use crate::any_network::AnyParticipant;
use crate::node::Node;
use crate::shown::brief;

/// The bytes of keys and values that are taken from the node at a time, unless one member has more.
const PAGE_LEN: usize = 256 << 10;

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
    let Some(named) = named(node, name, key)? else {
        let message = format!(
            "this node knows no member {:?}; gossip-node members lists those that it knows",
            brief(name)
        );
        return Err(Failure::new(Code::NoSuchMember, message));
    };
    match named.value {
        Some(value) => Ok(entry(&named.id, named.is_live, key, value)),
        None => Err(no_such_key(&named.id, key)),
    }
}

/// A member with the name that was asked for.
struct Named {
    id: ChitchatId,
    is_live: bool,
    is_superseded: bool,
    /// The value of the key that was asked for.
    value: Option<String>,
}

impl Named {
    /// Returns the order of members with the same name, which upstream nodes may give to several.
    ///
    /// A holder of an invite may have taken the name of a node that came later. It is at a key address, and is not
    /// read in place of the node, not even of one that is dead.
    fn precedence(&self) -> impl Ord + use<> {
        let is_dialable = !is_key_address(self.id.addr());
        (
            !self.is_superseded,
            is_dialable,
            self.is_live,
            self.id.generation_id,
        )
    }
}

/// Returns the member with the name `name` that takes precedence, with the value of `key`.
fn named(node: &Node, name: &str, key: &str) -> Result<Option<Named>, Failure> {
    let mut named = Vec::new();
    let mut pages = Pages::new(node);
    loop {
        let members = pages.next()?;
        if members.is_empty() {
            named.sort_by_key(Named::precedence);
            return Ok(named.pop());
        }
        let members = members.into_iter();
        let members = members.filter(|member| &*member.id.node_id == name);
        named.extend(members.map(|mut member| Named {
            is_live: member.liveness.is_live(),
            is_superseded: member.superseded,
            value: member.key_values.remove(key).map(|value| value.value),
            id: member.id,
        }));
    }
}

/// All members, a few at a time: a copy of all would take as much memory as the node itself.
pub(super) struct Pages<'a> {
    node: &'a Node,
    after: Option<ChitchatId>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(node: &'a Node) -> Self {
        Self { node, after: None }
    }

    /// Returns the next members in the order of their ids, and none at the end.
    ///
    /// # Errors
    ///
    /// Fails if the node is leaving.
    pub(super) fn next(&mut self) -> Result<Vec<Member>, Failure> {
        let after = self.after.as_ref();
        let members = with(self.node, |node| node.members_after(after, PAGE_LEN))?;
        if let Some(last) = members.last() {
            self.after = Some(last.id.clone());
        }
        Ok(members)
    }
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
        Ok(()) => Ok(entry(&id, true, key, value.clone())),
        Err(SetError::Left) => Err(leaving()),
        Err(error) => Err(Failure::new(Code::Refused, error.to_string())),
    }
}

/// Deletes a key of the node.
pub(super) fn delete(node: &Node, delete: &Delete) -> Result<Deleted, Failure> {
    let key = &delete.key;
    let (id, deleted) = with(node, |node| (node.id(), node.delete(key)))?;
    match deleted {
        Ok(()) => Ok(Deleted {
            member: Subject::from(&id),
            key: key.clone(),
        }),
        Err(DeleteError::NoSuchKey { .. }) => Err(no_such_key(&id, key)),
        Err(DeleteError::Left) => Err(leaving()),
        Err(error) => Err(Failure::new(Code::Refused, error.to_string())),
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
    let message = format!(
        "{:?} has no key {:?}; gossip-node members --keys lists the keys",
        &*id.node_id,
        brief(key)
    );
    Failure::new(Code::NoSuchKey, message)
}

pub(super) fn leaving() -> Failure {
    Failure::new(Code::Leaving, "the node is leaving the cluster")
}
