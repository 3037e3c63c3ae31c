//! What a digest lists: a summary of each member, as one sorted vector.
//!
//! Most digests are read or built in the order of the ids, walked once and dropped. A vector takes one
//! allocation for that, where a B-tree takes one for every few members, each of them too large for the
//! fast path of common allocators. Invariant: the entries are in the order of their ids, and each id has one.

use std::collections::BTreeMap;
use std::iter::Map;
use std::slice;

use super::id::ChitchatId;

/// A version of a node's state. It rises by one with every change; zero means that there is no
/// state yet.
pub type Version = u64;

/// A summary of what a member knows about one member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeDigest {
    /// The highest known heartbeat.
    pub heartbeat: u64,
    /// The version up to which tombstones have been garbage-collected.
    pub last_gc_version: Version,
    /// The highest known version.
    pub max_version: Version,
}

/// A map from members to [`NodeDigest`]s, in the order of the members' ids.
///
/// To collect entries takes time in proportion to their number if they are in that order, as in messages. To
/// insert one before others moves those, so that it takes time in proportion to their number.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NodeDigests(Vec<Entry>);

/// The iterator over all entries of [`NodeDigests`] in the order of the ids.
type Iter<'a> = Map<slice::Iter<'a, Entry>, fn(&Entry) -> (&ChitchatId, &NodeDigest)>;

/// A member with what is known of it.
type Entry = (ChitchatId, NodeDigest);

impl NodeDigests {
    /// Returns the number of members.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the entry of `id`, if there is one.
    pub fn get(&self, id: &ChitchatId) -> Option<&NodeDigest> {
        let (_, node_digest) = self.0.get(self.place(id).ok()?)?;
        Some(node_digest)
    }

    /// Returns true if there is an entry of `id`.
    pub fn contains_key(&self, id: &ChitchatId) -> bool {
        self.place(id).is_ok()
    }

    /// Adds an entry, or replaces the one of the same id, which it returns.
    pub fn insert(&mut self, id: ChitchatId, node_digest: NodeDigest) -> Option<NodeDigest> {
        // Most callers insert in the order of the ids.
        if self.0.last().is_none_or(|(last, _)| *last < id) {
            self.0.push((id, node_digest));
            return None;
        }
        match self.place(&id) {
            Ok(place) => {
                let (_, known) = self.0.get_mut(place)?;
                Some(std::mem::replace(known, node_digest))
            }
            Err(place) => {
                self.0.insert(place, (id, node_digest));
                None
            }
        }
    }

    /// Removes the entry of `id`, and returns it if there was one.
    pub fn remove(&mut self, id: &ChitchatId) -> Option<NodeDigest> {
        let place = self.place(id).ok()?;
        Some(self.0.remove(place).1)
    }

    /// Returns all entries in the order of the ids.
    pub fn iter(&self) -> Iter<'_> {
        self.0.iter().map(|(id, node_digest)| (id, node_digest))
    }

    /// Returns all ids in their order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &ChitchatId> {
        self.0.iter().map(|(id, _)| id)
    }

    /// Returns all ids in their order, without their entries.
    pub fn into_keys(self) -> impl ExactSizeIterator<Item = ChitchatId> {
        self.0.into_iter().map(|(id, _)| id)
    }

    /// Returns the entries without their ids, in the order of these.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &NodeDigest> {
        self.0.iter().map(|(_, node_digest)| node_digest)
    }

    /// Returns the entries without their ids, to be changed.
    pub fn values_mut(&mut self) -> impl ExactSizeIterator<Item = &mut NodeDigest> {
        self.0.iter_mut().map(|(_, node_digest)| node_digest)
    }

    fn place(&self, id: &ChitchatId) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(id))
    }
}

impl From<Vec<(ChitchatId, NodeDigest)>> for NodeDigests {
    /// Returns the entries in the order of their ids. Of several with the same id, the last one counts.
    fn from(entries: Vec<(ChitchatId, NodeDigest)>) -> Self {
        if entries.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Self(entries);
        }
        // A peer may send many in any order, so they are not inserted one by one. Sorting a vector would add
        // several kilobytes of wasm, while the engine has such a map already.
        let mut sorted = BTreeMap::new();
        sorted.extend(entries);
        Self(sorted.into_iter().collect())
    }
}

impl<const N: usize> From<[(ChitchatId, NodeDigest); N]> for NodeDigests {
    fn from(entries: [(ChitchatId, NodeDigest); N]) -> Self {
        Vec::from(entries).into()
    }
}

impl FromIterator<(ChitchatId, NodeDigest)> for NodeDigests {
    fn from_iter<I: IntoIterator<Item = (ChitchatId, NodeDigest)>>(entries: I) -> Self {
        entries.into_iter().collect::<Vec<_>>().into()
    }
}

impl IntoIterator for NodeDigests {
    type Item = (ChitchatId, NodeDigest);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a NodeDigests {
    type Item = (&'a ChitchatId, &'a NodeDigest);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::fmt::Debug for NodeDigests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: u64, heartbeat: u64) -> (ChitchatId, NodeDigest) {
        let id = ChitchatId::new(format!("n{name}"), 1, ([127, 0, 0, 1], 1).into());
        let node_digest = NodeDigest {
            heartbeat,
            ..NodeDigest::default()
        };
        (id, node_digest)
    }

    #[test]
    fn it_is_the_map_of_the_same_entries_in_whatever_order_they_come() {
        let mut rng = fastrand::Rng::with_seed(3);
        for round in 0..200 {
            let len = rng.usize(0..20);
            let entries: Vec<_> = (0..len).map(|n| entry(rng.u64(0..9), n as u64)).collect();
            let expected: BTreeMap<_, _> = entries.iter().cloned().collect();
            let mut inserted = NodeDigests::default();
            let mut model = BTreeMap::new();
            for (id, node_digest) in entries.clone() {
                let before = model.insert(id.clone(), node_digest);
                assert_eq!(inserted.insert(id, node_digest), before, "round {round}");
            }
            let collected = NodeDigests::from(entries);
            assert_eq!(collected, inserted);
            assert!(collected.iter().eq(&expected), "{collected:?}");
            assert!(collected.keys().eq(expected.keys()));
            assert!(collected.values().eq(expected.values()));
            assert_eq!(collected.len(), expected.len());
            assert_eq!(collected.is_empty(), expected.is_empty());
            let (id, _) = entry(rng.u64(0..9), 0);
            assert_eq!(collected.get(&id), expected.get(&id));
            assert_eq!(collected.contains_key(&id), expected.contains_key(&id));
            assert_eq!(inserted.remove(&id), expected.get(&id).copied());
            assert!(!inserted.contains_key(&id));
            assert!(collected.into_iter().eq(expected));
        }
    }

    #[test]
    fn a_digest_that_was_read_is_counted_with_the_room_that_it_has() {
        use crate::message::{ChitchatMessage, Digest, Message as _, ProtocolVersion};
        let addrs = ["127.0.0.1:1", "[2001:db8::1]:1"];
        let lens = [8, 20, 23, 24, 60, 200, 60_000];
        for (len, addr) in lens
            .into_iter()
            .flat_map(|len| addrs.map(|addr| (len, addr)))
        {
            // As many as fit into a stream.
            let count = (4 << 20) / (len + 53) - 1;
            let entries = (0..count).map(|n| {
                // The first one is the shortest.
                let len = if n == 0 { 8 } else { len };
                let name = format!("{n:08}{}", "x".repeat(len - 8));
                let id = ChitchatId::new(name, 1, addr.parse().unwrap());
                (id, NodeDigest::default())
            });
            let syn = ChitchatMessage::Syn {
                version: ProtocolVersion::V1,
                cluster_id: "c".to_owned(),
                digest: Digest {
                    node_digests: entries.collect(),
                },
            };
            let message = ChitchatMessage::decode(syn.into_bytes().unwrap()).unwrap();
            let counted = message.memory();
            let ChitchatMessage::Syn { digest, .. } = message else {
                unreachable!("it was one");
            };
            let room = digest.node_digests.0.capacity() * size_of::<Entry>();
            let names = if len > 23 { count * len } else { 0 };
            let taken = room + names;
            let range = taken / 4 * 3..=taken * 2;
            assert!(
                range.contains(&counted),
                "names of {len}, {addr}: {counted}, {taken}"
            );
        }
    }
}
