//! Reserved keys, which this crate sets and users do not.

use std::time::Duration;

use super::Engine;
use crate::credential::{Keyring, ReservedKeys, is_key_address};
use crate::gossip::engine::own_keys;
use crate::gossip::engine::reserved::{CORE, ReservedKey};
use crate::gossip::error::SetError;

impl Engine {
    /// Replaces the cluster secrets, with which core members authenticate the reserved keys that they set: keys whose
    /// names begin with `gossip-transport/`, which users can neither set nor see. The first secret makes such proofs,
    /// all of them are accepted. None in a cluster without secrets, and for the holder of an invite: then nothing is
    /// proved, and what peers may change decides what is believed.
    ///
    /// Returns false if the secrets are those that the engine has already. It has none at first.
    pub fn set_secrets(&mut self, secrets: Option<&Keyring>, now: Duration) -> bool {
        let before = self.cluster.own().max_version;
        let keys = secrets.map(ReservedKeys::of);
        let Some(departures) = self.cluster.set_reserved_keys(keys) else {
            return false;
        };
        self.note_departures(&departures, now);
        let limits = self.own_limits();
        // Nobody over UDP may speak of a member at a key address in any case.
        if secrets.is_some() && !is_key_address(self.id().addr()) {
            let set = own_keys::set_reserved(&mut self.cluster, (CORE, ""), limits, now);
            if let Err(error) = set {
                tracing::debug!(%error, "cannot prove to be a core member");
            }
        } else {
            own_keys::delete_reserved(&mut self.cluster, CORE, now);
        }
        if self.cluster.own().max_version != before {
            self.note_change(before, now);
        }
        true
    }

    /// Sets the reserved key `name` of this member, which is the key without its prefix. Returns false if it has that
    /// payload already.
    ///
    /// # Errors
    ///
    /// Fails if the key or the payload breaks a limit.
    pub(crate) fn set_reserved(
        &mut self,
        name: &str,
        payload: &str,
        now: Duration,
    ) -> Result<bool, SetError> {
        let limits = self.own_limits();
        let above = own_keys::set_reserved(&mut self.cluster, (name, payload), limits, now)?;
        if let Some(above) = above {
            self.note_change(above, now);
        }
        Ok(above.is_some())
    }

    /// Deletes the reserved key `name` of this member. Returns false if there is none.
    pub(crate) fn delete_reserved(&mut self, name: &str, now: Duration) -> bool {
        let above = own_keys::delete_reserved(&mut self.cluster, name, now);
        if let Some(above) = above {
            self.note_change(above, now);
        }
        above.is_some()
    }

    /// Returns the reserved keys of all members, this one included, that core members have set.
    pub(crate) fn reserved(&self) -> impl Iterator<Item = ReservedKey<'_>> {
        self.cluster.reserved()
    }

    /// Returns a number that rises with each change of what [`reserved`](Self::reserved) returns, and now and then
    /// without one.
    pub(crate) fn reserved_changes(&self) -> u64 {
        self.cluster.reserved_changes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClusterSecret;
    use crate::credential::Identity;
    use crate::gossip::engine::config::GossipConfig;
    use crate::gossip::engine::event::Event;
    use crate::gossip::engine::protocol::tests::{SECOND, addr, engine, id, received, syn};
    use crate::gossip::error::DeleteError;
    use crate::message::{
        ChitchatId, ChitchatMessage, Digest, NodeDelta, NodeDigest, ProtocolVersion, Version,
    };

    fn keyring(secrets: &[u8]) -> Keyring {
        let secrets = secrets.iter();
        let secrets = secrets.map(|n| ClusterSecret::from_bytes(&[*n; 32]).unwrap());
        Keyring::new(secrets).unwrap()
    }

    /// Returns a member that knows `secrets`.
    fn core(n: u16, secrets: &[u8]) -> Engine {
        let mut engine = engine(n);
        engine.set_secrets(Some(&keyring(secrets)), SECOND);
        engine
    }

    fn listed(of: &Engine) -> Digest {
        let own = of.cluster.own_ref().unwrap();
        Digest {
            node_digests: [(of.id().clone(), own.digest())].into(),
        }
    }

    /// Passes the whole state of `from` to `to`.
    fn teach(to: &mut Engine, from: &Engine) {
        let hello = syn("cluster", ProtocolVersion::V1, listed(from));
        to.handle(received(from.id().addr(), hello), SECOND);
        let version = ProtocolVersion::V1;
        let delta = from.cluster.own_delta(60_000);
        pass(to, from.id(), ChitchatMessage::Ack { version, delta });
    }

    fn pass(to: &mut Engine, from: &ChitchatId, message: ChitchatMessage) {
        to.handle(received(from.addr(), message), SECOND);
    }

    fn payloads(of: &Engine) -> Vec<(u16, String, String)> {
        let keys = of.reserved();
        let keys = keys.map(|key| {
            let port = key.owner.addr().port();
            (port, key.name.to_owned(), key.payload.to_owned())
        });
        keys.collect()
    }

    fn expected(of: u16, payload: &str) -> Vec<(u16, String, String)> {
        vec![(of, "url".to_owned(), payload.to_owned())]
    }

    #[test]
    fn users_can_neither_set_nor_delete_nor_see_reserved_keys() {
        let mut us = core(1, &[7]);
        us.set_reserved("url", "wss://a", SECOND).unwrap();
        let key = "gossip-transport/url";
        for set in [Engine::set, Engine::set_with_ttl] {
            let refused = set(&mut us, key, "v", SECOND);
            assert!(matches!(refused, Err(SetError::Reserved { .. })));
        }
        let refused = us.delete(key, SECOND);
        assert!(matches!(refused, Err(DeleteError::Reserved { .. })));
        let mut peer = core(2, &[7]);
        teach(&mut peer, &us);
        for engine in [&us, &peer] {
            assert_eq!(payloads(engine), expected(1, "wss://a"));
            let members = engine.members();
            assert!(members.iter().all(|member| member.key_values.is_empty()));
            assert_eq!(engine.member_value(&id(1), key), None);
        }
        assert_eq!(us.get(key), None);
        assert!(us.set("gossip-transport", "v", SECOND).unwrap());
        let mut config = us.config.clone();
        config.initial_key_values = vec![(key.to_owned(), "v".to_owned())];
        let refused = Engine::new(config, id(1), SECOND);
        assert!(matches!(refused, Err(SetError::Reserved { .. })));
    }

    #[test]
    fn the_same_payload_changes_nothing_and_a_deleted_key_is_gone_everywhere() {
        let (mut us, mut peer) = (core(1, &[7]), core(2, &[7]));
        assert!(us.set_reserved("url", "a", SECOND).unwrap());
        let (version, changes) = (us.members()[0].max_version, us.reserved_changes());
        assert!(!us.set_reserved("url", "a", SECOND).unwrap());
        assert_eq!(us.members()[0].max_version, version);
        assert_eq!(us.reserved_changes(), changes);
        assert!(us.set_reserved("url", "b", SECOND).unwrap());
        teach(&mut peer, &us);
        assert_eq!(payloads(&peer), expected(1, "b"));
        let changes = [us.reserved_changes(), peer.reserved_changes()];
        assert!(us.delete_reserved("url", SECOND));
        assert!(!us.delete_reserved("url", SECOND));
        teach(&mut peer, &us);
        assert_eq!((payloads(&us), payloads(&peer)), (vec![], vec![]));
        assert!(us.reserved_changes() > changes[0] && peer.reserved_changes() > changes[1]);
    }

    #[test]
    fn a_key_without_a_right_mac_is_passed_on_and_counted_and_means_nothing() {
        let mut stranger = core(3, &[8]);
        stranger.set_reserved("url", "a", SECOND).unwrap();
        stranger.set("k", "v", SECOND).unwrap();
        let mut us = core(1, &[7]);
        teach(&mut us, &stranger);
        assert_eq!(payloads(&us), []);
        assert_eq!(us.counts().refused_reserved_keys, 1);
        let state = |engine: &Engine| {
            let state = engine.cluster.get(&id(3)).unwrap();
            let key = state.get("gossip-transport/url").map(str::to_owned);
            (state.max_version, key)
        };
        assert_eq!(state(&us), state(&stranger));
        assert_eq!(us.member_value(&id(3), "k"), Some("v"));
    }

    #[test]
    fn a_key_that_is_repeated_elsewhere_or_again_means_nothing() {
        let mut author = core(3, &[7]);
        author.set_reserved("url", "a", SECOND).unwrap();
        let said = author.cluster.own_delta(60_000);
        type Alter = fn(&mut NodeDelta);
        let cases: [(&str, Alter); 4] = [
            ("of another member", |delta| delta.chitchat_id = id(4)),
            ("of its next generation", |delta| {
                delta.chitchat_id.generation_id += 1;
            }),
            ("under another name", |delta| {
                let key = delta
                    .key_values
                    .iter_mut()
                    .find(|k| k.key.ends_with("/url"));
                key.unwrap().key = "gossip-transport/other".to_owned();
            }),
            ("at a later version", |delta| {
                for change in &mut delta.key_values {
                    change.version += 10;
                }
                delta.max_version += 10;
            }),
        ];
        for (what, alter) in cases {
            let mut us = core(1, &[7]);
            let mut delta = said.clone();
            alter(&mut delta.node_deltas[0]);
            let of = delta.node_deltas[0].chitchat_id.clone();
            let node = NodeDigest {
                heartbeat: 1,
                last_gc_version: 0,
                max_version: delta.node_deltas[0].max_version,
            };
            let node_digests = [(of.clone(), node)].into();
            let hello = syn("cluster", ProtocolVersion::V1, Digest { node_digests });
            pass(&mut us, &of, hello);
            let version = ProtocolVersion::V1;
            pass(&mut us, &of, ChitchatMessage::Ack { version, delta });
            assert!(us.cluster.get(&of).unwrap().max_version > 0, "{what}");
            assert_eq!(payloads(&us), [], "{what}");
            assert!(us.counts().refused_reserved_keys > 0, "{what}");
        }
        // Again, after it was replaced and after it was deleted.
        let mut us = core(1, &[7]);
        teach(&mut us, &author);
        assert_eq!(payloads(&us), expected(3, "a"));
        let version = ProtocolVersion::V1;
        let again = || ChitchatMessage::Ack {
            version,
            delta: said.clone(),
        };
        author.set_reserved("url", "b", SECOND).unwrap();
        teach(&mut us, &author);
        pass(&mut us, author.id(), again());
        assert_eq!(payloads(&us), expected(3, "b"));
        author.delete_reserved("url", SECOND);
        teach(&mut us, &author);
        pass(&mut us, author.id(), again());
        assert_eq!(payloads(&us), []);
    }

    /// Makes the member start afresh, because a peer knows later versions of it.
    fn restart_above(us: &mut Engine, version: Version) {
        let node = NodeDigest {
            heartbeat: 1,
            last_gc_version: 0,
            max_version: version,
        };
        let digest = Digest {
            node_digests: [(us.id().clone(), node)].into(),
        };
        let message = syn("cluster", ProtocolVersion::V1, digest);
        us.handle(received(addr(9), message), SECOND);
    }

    #[test]
    fn the_mac_is_made_again_when_the_versions_move_or_the_secrets_change() {
        let mut us = core(1, &[7]);
        us.set("k", "v", SECOND).unwrap();
        us.set_reserved("url", "a", SECOND).unwrap();
        restart_above(&mut us, 100);
        assert!(us.members()[0].max_version > 100);
        let mut peer = core(2, &[7]);
        teach(&mut peer, &us);
        assert_eq!(payloads(&peer), expected(1, "a"));
        // The next secret: both are accepted, and then the new one is used.
        for (ours, theirs) in [(&[7, 8][..], &[7, 8][..]), (&[8, 7], &[8]), (&[8], &[8])] {
            us.set_secrets(Some(&keyring(ours)), SECOND);
            peer.set_secrets(Some(&keyring(theirs)), SECOND);
            teach(&mut peer, &us);
            assert_eq!(payloads(&peer), expected(1, "a"), "{ours:?}");
        }
        assert!(!us.set_secrets(Some(&keyring(&[8])), SECOND));
        assert_eq!(payloads(&us), expected(1, "a"));
    }

    #[test]
    fn a_change_of_the_secrets_is_pushed_and_judges_what_is_known() {
        let (mut us, mut peer) = (core(1, &[7]), core(2, &[8]));
        us.set_reserved("url", "a", SECOND).unwrap();
        teach(&mut peer, &us);
        assert_eq!(payloads(&peer), []);
        peer.set_secrets(Some(&keyring(&[8, 7])), SECOND);
        assert_eq!(payloads(&peer), expected(1, "a"));
        peer.set_secrets(Some(&keyring(&[8])), SECOND);
        assert_eq!(payloads(&peer), []);
        us.handle(Event::Rumours, SECOND * 60);
        let mut idle = engine(1);
        assert_eq!(idle.next_rumours(), None);
        idle.set_secrets(None, SECOND);
        assert_eq!(idle.next_rumours(), None, "it has no reserved key");
        us.set_secrets(Some(&keyring(&[8])), SECOND * 60);
        assert!(us.next_rumours().is_some());
    }

    #[test]
    fn a_member_proves_that_it_is_core_as_long_as_it_has_secrets() {
        let proved = |engine: &Engine| engine.cluster.has_proved(&id(1));
        let (mut us, mut peer, mut other) = (core(1, &[7]), core(2, &[7]), core(3, &[8]));
        for engine in [&mut peer, &mut other] {
            teach(engine, &us);
        }
        assert!(proved(&us) && proved(&peer) && !proved(&other));
        let mut without = engine(4);
        teach(&mut without, &us);
        assert!(!proved(&without), "it cannot check the proof");
        // Whoever learns of the secret later believes it then.
        other.set_secrets(Some(&keyring(&[8, 7])), SECOND);
        assert!(proved(&other));
        us.set_secrets(None, SECOND);
        teach(&mut peer, &us);
        assert!(!proved(&us) && !proved(&peer));
        // A tab needs no proof: nobody over UDP may speak of it.
        let tab = ChitchatId::new("tab", 1, Identity::from_bytes([1; 32]).address());
        let mut tab = Engine::new(us.config.clone(), tab, SECOND).unwrap();
        tab.set_secrets(Some(&keyring(&[7])), SECOND);
        assert_eq!(tab.cluster.own_ref().unwrap().max_version, 0);
    }

    #[test]
    fn a_later_generation_has_macs_of_its_own() {
        let mut us = core(1, &[7]);
        us.set_reserved("url", "a", SECOND).unwrap();
        us.cluster.begin_generation(9);
        let mut peer = core(2, &[7]);
        teach(&mut peer, &us);
        assert_eq!(payloads(&peer), expected(1, "a"));
        assert_eq!(peer.reserved().next().unwrap().owner.generation_id, 9);
    }

    #[test]
    fn reserved_keys_have_room_beside_those_of_the_user_and_take_none_from_them() {
        let config = GossipConfig {
            max_bytes_per_member: 300,
            ..engine(1).config
        };
        let mut us = Engine::new(config, id(1), SECOND).unwrap();
        let value = "v".repeat(100);
        us.set("a", &value, SECOND).unwrap();
        us.set_reserved("url", &value, SECOND).unwrap();
        assert!(us.set("b", "v".repeat(70).as_str(), SECOND).unwrap());
        let refused = us.set("b", "v".repeat(71).as_str(), SECOND);
        assert!(matches!(
            refused,
            Err(SetError::StateTooLarge { len: 301, .. })
        ));
        let payload = "v".repeat(60_000);
        let set = |us: &mut Engine, n| us.set_reserved(&format!("k{n}"), &payload, SECOND);
        for n in 0..4 {
            set(&mut us, n).unwrap();
        }
        assert!(matches!(
            set(&mut us, 4),
            Err(SetError::StateTooLarge { .. })
        ));
    }
}
