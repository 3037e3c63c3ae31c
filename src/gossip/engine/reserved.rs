//! Reserved keys: what members of this crate say about the cluster, as keys that users can neither set nor see.
//!
//! Their names begin with [`PREFIX`]. To members of the published crate they are ordinary keys, and they are stored
//! and passed on as such here, too, so that versions stay consistent. This file decides which of them are believed:
//!
//! | the owner | this member has cluster secrets | it has none: a leaf, or a cluster without a secret |
//! |---|---|---|
//! | any, with a MAC | [`Proof::Core`] if the MAC is right | as without a MAC, which cannot be checked |
//! | at a key address: a leaf | [`Proof::Own`] | [`Proof::Own`] |
//! | at another address | not believed, and counted | [`Proof::Core`]: only core members are believed to report its state |
//!
//! A MAC covers the id of the owner, the key, the payload and the version, so that it is worth nothing for another one.
//! A value with a MAC is the payload, `;mac=` and base32. Who may change the state of a member is decided elsewhere:
//! besides core members, only the member itself, so that what a leaf says here is about itself only. Invariant: no key
//! that is not believed is returned.

use super::entries::Entry;
use super::node_state::NodeState;
use super::order::Members;
use super::presence::Departures;
use crate::credential::{ReservedKeys, is_key_address};
use crate::message::{ChitchatId, DeletionStatus, Version};

/// With what the names of reserved keys begin.
pub(super) const PREFIX: &str = "gossip-transport/";
/// The name of the reserved key that proves that its owner knows the cluster secret: it is a core member.
pub(super) const CORE: &str = "core";
/// What separates the payload of a value from its MAC.
const SEPARATOR: &str = ";mac=";
/// The size of all own reserved keys and values together that is allowed beside those of the user, in bytes: a
/// thousand short ones.
pub(super) const OWN_ROOM: usize = 256 << 10;
/// Versions that are not those of a key any more are removed once they may be as many as the others, and this many.
const SPARE: usize = 16;

/// Returns true if only this crate may set `key`.
pub(super) fn is_reserved(key: &str) -> bool {
    name_of(key).is_some()
}

/// Returns the name of a reserved key, which follows [`PREFIX`].
pub(super) fn name_of(key: &str) -> Option<&str> {
    key.strip_prefix(PREFIX)
}

/// A reserved key that a core member has set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReservedKey<'a> {
    pub(crate) owner: &'a ChitchatId,
    /// The key without [`PREFIX`].
    pub(crate) name: &'a str,
    pub(crate) payload: &'a str,
}

/// Evidence for which member set a reserved key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    /// The owner of the state, which may be a leaf.
    Own,
    /// A core member.
    Core,
}

/// The reserved keys of all members that core members have set.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    keys: Option<ReservedKeys>,
    /// The versions of these keys. A key that has changed since has another version, and its former one is that of
    /// no key any more.
    members: Members<Known>,
    /// Rises with each change of a reserved key.
    pub(super) changes: u64,
    /// Counts keys that are not believed.
    pub(super) refused: u64,
}

#[derive(Debug, Default)]
struct Known {
    /// Ascending.
    versions: Vec<Version>,
    compact_at: usize,
}

impl Reserved {
    /// Replaces the keys that make and check MACs. Returns false if they are the same. Otherwise the states of all
    /// members must be noted again.
    pub(super) fn set_keys(&mut self, keys: Option<ReservedKeys>) -> bool {
        if self.keys == keys {
            return false;
        }
        self.keys = keys;
        self.members = Members::new();
        self.changes += 1;
        true
    }

    /// Returns true if there are keys that make and check MACs.
    pub(super) fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Notes the changes of a member above version `above`, which is 0 if its state was replaced, and what the
    /// reserved keys among them that are believed say about departures.
    pub(super) fn note(
        &mut self,
        id: &ChitchatId,
        state: &NodeState,
        above: Version,
        departures: &mut Departures,
    ) {
        if above == 0 {
            self.members.remove(id);
        }
        for entry in state.stale_entries(above) {
            let Some(name) = name_of(entry.key) else {
                continue;
            };
            // Each core member has this one, and few members ever ask for the proof.
            if name == CORE {
                continue;
            }
            if entry.status != DeletionStatus::Set {
                self.changes += 1;
                continue;
            }
            let Some(proof) = self.proof(id, entry) else {
                self.changes += 1;
                self.refused += 1;
                continue;
            };
            // What a leaf says about itself is not returned, and so changes nothing that is.
            self.changes += u64::from(proof == Proof::Core);
            let (payload, _) = split(entry.value);
            departures.note_left(id, name, payload);
            if proof == Proof::Core {
                let known = self.members.entry(id.clone());
                known.or_default().add(entry.version, state);
                departures.note_departed(name, payload);
            }
        }
    }

    /// Forgets members, which must be sorted by id.
    pub(super) fn forget(&mut self, ids: &[ChitchatId]) {
        let before = self.members.len();
        self.members.retain(|id, _| ids.binary_search(id).is_err());
        self.changes += u64::from(self.members.len() != before);
    }

    /// Returns the members that have reserved keys, each with the versions of these.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&ChitchatId, &[Version])> {
        let members = self.members.iter();
        members.map(|(id, known)| (id, known.versions.as_slice()))
    }

    /// Returns true if the state of `id` proves with a MAC that it is a core member.
    pub(super) fn proves_core(&self, id: &ChitchatId, state: &NodeState) -> bool {
        let key = state.entry(&format!("{PREFIX}{CORE}"));
        let key = key.filter(|entry| entry.status == DeletionStatus::Set);
        self.has_keys() && key.is_some_and(|entry| self.proof(id, entry) == Some(Proof::Core))
    }

    /// Returns the value of an own key at `version`.
    pub(super) fn value(
        &self,
        owner: &ChitchatId,
        key: &str,
        payload: &str,
        version: Version,
    ) -> String {
        match &self.keys {
            Some(keys) => {
                let mac = keys.sign(&authenticated(owner, key, payload, version));
                format!("{payload}{SEPARATOR}{mac}")
            }
            None => payload.to_owned(),
        }
    }

    fn proof(&self, owner: &ChitchatId, entry: Entry<'_>) -> Option<Proof> {
        let is_leaf = is_key_address(owner.addr());
        let (payload, mac) = split(entry.value);
        let is_core = match &self.keys {
            Some(keys) => mac.is_some_and(|mac| {
                let message = authenticated(owner, entry.key, payload, entry.version);
                keys.verify(&message, mac)
            }),
            None => !is_leaf,
        };
        match (is_core, is_leaf) {
            (true, _) => Some(Proof::Core),
            (false, true) => Some(Proof::Own),
            (false, false) => None,
        }
    }
}

impl Known {
    fn add(&mut self, version: Version, state: &NodeState) {
        if self.versions.len() >= self.compact_at {
            let is_used = |version: &Version| state.at_version(*version).is_some();
            self.versions.retain(is_used);
            self.compact_at = self.versions.len() * 2 + SPARE;
        }
        self.versions.push(version);
    }
}

/// Returns the key that `owner` has set at `version`, if it is a reserved one.
pub(super) fn key_at<'a>(
    owner: &'a ChitchatId,
    state: &'a NodeState,
    version: Version,
) -> Option<ReservedKey<'a>> {
    let entry = state.at_version(version)?;
    Some(ReservedKey {
        owner,
        name: name_of(entry.key)?,
        payload: split(entry.value).0,
    })
}

/// Divides a value into its payload and its MAC, if it has one.
pub(super) fn split(value: &str) -> (&str, Option<&str>) {
    match value.rsplit_once(SEPARATOR) {
        Some((payload, mac)) if mac.len() == ReservedKeys::TEXT_LEN => (payload, Some(mac)),
        _ => (value, None),
    }
}

/// Returns the bytes that a MAC covers: each text after its length, all numbers big-endian.
fn authenticated(owner: &ChitchatId, key: &str, payload: &str, version: Version) -> Vec<u8> {
    let addr = owner.gossip_advertise_addr;
    let mut bytes = Vec::with_capacity(64 + owner.node_id.len() + key.len() + payload.len());
    put(&mut bytes, owner.node_id.as_bytes());
    bytes.extend(owner.generation_id.to_be_bytes());
    match addr.ip() {
        std::net::IpAddr::V4(ip) => put(&mut bytes, &ip.octets()),
        std::net::IpAddr::V6(ip) => put(&mut bytes, &ip.octets()),
    }
    bytes.extend(addr.port().to_be_bytes());
    put(&mut bytes, key.as_bytes());
    put(&mut bytes, payload.as_bytes());
    bytes.extend(version.to_be_bytes());
    bytes
}

fn put(bytes: &mut Vec<u8>, text: &[u8]) {
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    bytes.extend(len.to_be_bytes());
    bytes.extend(text);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ClusterSecret;
    use crate::credential::{Identity, Keyring};

    const KEY: &str = "gossip-transport/left";

    fn keys(secrets: &[u8]) -> ReservedKeys {
        let secrets = secrets.iter();
        let secrets = secrets.map(|n| ClusterSecret::from_bytes(&[*n; 32]).unwrap());
        ReservedKeys::of(&Keyring::new(secrets).unwrap())
    }

    fn reserved(secrets: &[u8]) -> Reserved {
        let mut reserved = Reserved::default();
        reserved.set_keys((!secrets.is_empty()).then(|| keys(secrets)));
        reserved
    }

    fn node() -> ChitchatId {
        ChitchatId::new("node", 5, ([10, 0, 0, 1], 7946).into())
    }

    fn leaf() -> ChitchatId {
        ChitchatId::new("leaf", 5, Identity::from_bytes([1; 32]).address())
    }

    fn set(state: &mut NodeState, key: &str, value: &str) {
        state.set(key, value, DeletionStatus::Set, Duration::ZERO);
    }

    /// Returns what is believed of `value`, set by `owner` as the third change: that it has left with a heartbeat.
    fn heard(by: &mut Reserved, owner: &ChitchatId, value: &str) -> Vec<(u64, Proof)> {
        let mut state = NodeState::default();
        for (key, value) in [("a", ""), ("b", ""), (KEY, value)] {
            set(&mut state, key, value);
        }
        let mut departures = Departures::default();
        by.note(owner, &state, 0, &mut departures);
        let is_core = by.versions().any(|(id, _)| id == owner);
        let proof = if is_core { Proof::Core } else { Proof::Own };
        let left = departures.left.into_iter();
        left.map(|(id, heartbeat)| {
            assert_eq!(id, *owner);
            (heartbeat, proof)
        })
        .collect()
    }

    #[test]
    fn a_mac_covers_the_bytes_that_python_computes() {
        // text = lambda text: struct.pack(">I", len(text)) + text
        // message = text(b"node") + struct.pack(">Q", 5) + text(bytes([10, 0, 0, 1])) + struct.pack(">H", 7946)
        //     + text(b"gossip-transport/left") + text(b"12") + struct.pack(">Q", 3)
        // The key and the MAC are computed as those of credential/reserved.rs, from bytes(32 * [7]).
        let value = reserved(&[7]).value(&node(), KEY, "12", 3);
        assert_eq!(value, "12;mac=l3gr222w75cyeecomreulxemsm");
    }

    #[test]
    fn a_core_member_is_believed_with_a_mac_of_any_secret_and_not_without() {
        let value = reserved(&[7]).value(&node(), KEY, "12", 3);
        for secrets in [&[7][..], &[8, 7]] {
            let mut us = reserved(secrets);
            let expected = [(12, Proof::Core)];
            assert_eq!(heard(&mut us, &node(), &value), expected);
            assert_eq!((us.refused, us.versions().count()), (0, 1));
        }
        for (secrets, value) in [(&[8][..], value.as_str()), (&[7], "12"), (&[7], "")] {
            let mut us = reserved(secrets);
            assert_eq!(heard(&mut us, &node(), value), [], "{value}");
            assert_eq!((us.refused, us.versions().count()), (1, 0));
        }
    }

    #[test]
    fn a_mac_is_worth_nothing_for_another_owner_key_payload_or_version() {
        let others = [
            ChitchatId::new("nodf", 5, node().gossip_advertise_addr),
            ChitchatId::new("node", 6, node().gossip_advertise_addr),
            ChitchatId::new("node", 5, ([10, 0, 0, 2], 7946).into()),
            ChitchatId::new("node", 5, ([10, 0, 0, 1], 7947).into()),
        ];
        let by = reserved(&[7]);
        let forged = others.map(|owner| by.value(&owner, KEY, "12", 3));
        let more = [
            by.value(&node(), "gossip-transport/lefu", "12", 3),
            by.value(&node(), KEY, "12", 4),
            by.value(&node(), KEY, "12", 3).replace("12;", "13;"),
        ];
        for value in forged.iter().chain(&more) {
            assert_eq!(heard(&mut reserved(&[7]), &node(), value), [], "{value}");
        }
    }

    #[test]
    fn a_leaf_is_believed_about_itself_and_is_no_core_member() {
        let mut us = reserved(&[7]);
        let own = [(12, Proof::Own)];
        assert_eq!(heard(&mut us, &leaf(), "12"), own);
        let forged = reserved(&[8]).value(&leaf(), KEY, "12", 3);
        assert_eq!(heard(&mut us, &leaf(), &forged), own);
        assert_eq!((us.refused, us.versions().count()), (0, 0));
        let value = us.value(&leaf(), KEY, "12", 3);
        let core = [(12, Proof::Core)];
        assert_eq!(heard(&mut us, &leaf(), &value), core);
    }

    #[test]
    fn without_secrets_a_member_at_an_address_of_its_own_is_believed() {
        let mut us = reserved(&[]);
        let value = reserved(&[7]).value(&node(), KEY, "12", 3);
        for value in [value.as_str(), "12"] {
            let core = [(12, Proof::Core)];
            assert_eq!(heard(&mut us, &node(), value), core);
            let own = [(12, Proof::Own)];
            assert_eq!(heard(&mut us, &leaf(), value), own);
        }
        assert_eq!(us.value(&node(), KEY, "12", 3), "12");
    }

    #[test]
    fn what_was_believed_before_a_state_was_replaced_says_nothing_about_the_new_one() {
        let mut us = reserved(&[7]);
        let value = us.value(&node(), KEY, "12", 3);
        assert_eq!(heard(&mut us, &node(), &value).len(), 1);
        // Another value at the same version.
        assert_eq!(heard(&mut us, &node(), "13"), []);
        assert_eq!(us.versions().count(), 0);
    }

    #[test]
    fn keys_that_change_again_and_again_leave_no_versions_behind() {
        let mut us = reserved(&[7]);
        let (id, mut state) = (node(), NodeState::default());
        for n in 0..10_000_u64 {
            let key = format!("{PREFIX}{}", n % 10);
            let value = us.value(&id, &key, &n.to_string(), n + 1);
            set(&mut state, &key, &value);
            us.note(&id, &state, n, &mut Departures::default());
        }
        let (_, versions) = us.versions().next().unwrap();
        assert!(versions.len() <= 2 * 10 + SPARE, "{}", versions.len());
        let keys = versions.iter().filter_map(|v| key_at(&id, &state, *v));
        let payloads: Vec<_> = keys.map(|key| key.payload).collect();
        let expected: Vec<_> = (9_990..10_000).map(|n| n.to_string()).collect();
        assert_eq!(payloads, expected);
        let before = us.changes;
        us.forget(&[id]);
        assert_eq!((us.versions().count(), us.changes), (0, before + 1));
    }
}
