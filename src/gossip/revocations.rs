//! Revoked invites, as reserved keys: what one core member revokes, all others revoke as well.
//!
//! Every core member republishes what it knows until the invites have expired, so that a revocation outlives the
//! member that has made it. What it has from another member it republishes within a minute: if all did that at once,
//! the messages of a large cluster would delay the revocation itself. The ids are spread over [`BUCKETS`] keys, `revoked/0` and so on, whose payloads are the
//! sorted ids one after the other: a change rewrites one short key, and the most that can be revoked takes a few of
//! a hundred kilobytes. This file decides nothing about invites; `Trust` does. Invariant: only keys that core
//! members have set are read, and a member that knows no secret sets none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::engine::{Engine, ReservedKey};
use crate::credential::{InviteId, RevokeError, Trust};

/// The number of keys. A key has some 64 ids when as many are revoked as can be.
const BUCKETS: u8 = 64;
/// With what the names of the keys begin.
const NAME: &str = "revoked/";

/// Returns the payloads of all keys that are not empty.
fn payloads(ids: &[InviteId]) -> BTreeMap<u8, String> {
    let mut payloads: BTreeMap<u8, String> = BTreeMap::new();
    for id in ids {
        let bucket = id.random_byte() % BUCKETS;
        let payload = payloads.entry(bucket).or_default();
        payload.push_str(&id.to_string());
    }
    payloads
}

/// Returns the ids in a payload. What is no id is left out: it is of a later version.
fn ids(payload: &str) -> impl Iterator<Item = InviteId> {
    let ids = payload.as_bytes().chunks(InviteId::TEXT_LEN);
    ids.filter_map(|id| std::str::from_utf8(id).ok()?.parse().ok())
}

/// Makes the keys of this member say what `trust` revokes. Returns whether one has changed.
pub(super) fn publish(engine: &mut Engine, trust: &Trust, now: Duration) -> bool {
    if trust.keyring().is_none() {
        return false;
    }
    let payloads = payloads(&trust.revoked());
    let mut has_changed = false;
    for bucket in 0..BUCKETS {
        let name = format!("{NAME}{bucket}");
        has_changed |= match payloads.get(&bucket) {
            Some(payload) => match engine.set_reserved(&name, payload, now) {
                Ok(changed) => changed,
                Err(error) => {
                    tracing::warn!(%error, "revocations cannot be passed on");
                    false
                }
            },
            None => engine.delete_reserved(&name, now),
        };
    }
    has_changed
}

/// Returns whether `trust` revokes what neither this member says nor `heard`, which is what others say.
pub(super) fn is_news(engine: &Engine, trust: &Trust, heard: &BTreeSet<InviteId>) -> bool {
    let revoked = trust.revoked();
    let mut new = revoked.iter().filter(|id| !heard.contains(id)).peekable();
    if new.peek().is_none() {
        return false;
    }
    let own = engine.reserved().filter(|key| key.owner == engine.id());
    let own = own.filter(|key| key.name.starts_with(NAME));
    let said: BTreeSet<_> = own.flat_map(|key| ids(key.payload)).collect();
    new.any(|id| !said.contains(id))
}

/// Revokes what other core members have revoked, and adds what was new to `heard`. `refused` is why one of them could
/// not be revoked the last time, and becomes so for this time: it may be possible later, since the clock of this member
/// may be behind, and others that are revoked expire.
pub(super) fn adopt(
    engine: &Engine,
    trust: &Trust,
    heard: &mut BTreeSet<InviteId>,
    refused: &mut Option<RevokeError>,
) {
    let before = refused.take();
    if trust.keyring().is_none() {
        return;
    }
    let revoked = engine.reserved().filter(|key| key.name.starts_with(NAME));
    let (own, others): (Vec<_>, Vec<_>) = revoked.partition(|key| key.owner == engine.id());
    let own: BTreeMap<_, _> = own.iter().map(|key| (key.name, key.payload)).collect();
    // Most members say the same as this one.
    let is_other = |key: &&ReservedKey<'_>| own.get(key.name) != Some(&key.payload);
    let revoked = others.iter().filter(is_other);
    let mut new = 0_u32;
    for id in revoked.flat_map(|key| ids(key.payload)) {
        match trust.revoke(id) {
            Ok(true) => {
                new += 1;
                heard.insert(id);
            }
            Ok(false) => {}
            Err(error) => *refused = Some(error),
        }
    }
    if new > 0 {
        tracing::info!(new, "invites were revoked by other members");
    }
    if let Some(error) = refused
        && before.as_ref() != Some(error)
    {
        tracing::warn!(%error, "an invite that another member has revoked is not revoked here");
    }
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use super::*;
    use crate::gossip::{GossipConfig, Participant};
    use crate::memory::MemoryNetwork;
    use crate::rt::{self, unix_time};
    use crate::{ClusterSecret, NetCredential, TransportLayerTransport};

    const HOUR: Duration = Duration::from_secs(3600);

    fn id() -> InviteId {
        InviteId::generate(unix_time(), HOUR).unwrap()
    }

    #[test]
    fn ids_are_spread_over_few_keys_and_read_as_they_were_written() {
        let mut all: Vec<_> = (0..4096).map(|_| id()).collect();
        all.sort();
        let payloads = payloads(&all);
        assert!(payloads.len() <= usize::from(BUCKETS));
        let longest = payloads.values().map(String::len).max();
        assert!(longest.unwrap() < 130 * InviteId::TEXT_LEN, "{longest:?}");
        let mut read: Vec<_> = payloads.values().flat_map(|payload| ids(payload)).collect();
        read.sort();
        assert_eq!(read, all);
        // One more changes one key.
        let more = id();
        all.push(more);
        all.sort();
        let changed = self::payloads(&all);
        let same = changed
            .iter()
            .filter(|(n, payload)| payloads.get(n) == Some(payload));
        assert_eq!(same.count(), payloads.len() - 1);
    }

    #[test]
    fn what_is_no_id_is_left_out() {
        let one = id();
        assert!(ids("").next().is_none());
        for text in [
            "short",
            &"?".repeat(26),
            "\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}",
        ] {
            assert!(ids(text).next().is_none(), "{text}");
            assert!(ids(&format!("{one}{text}")).eq([one]), "{text}");
        }
    }

    /// Returns the engine of a member, and what it trusts.
    fn member(n: u16, trust: &Trust) -> Engine {
        let id = crate::message::ChitchatId {
            node_id: format!("m{n}").into(),
            generation_id: 1,
            gossip_advertise_addr: ([127, 0, 0, 1], n).into(),
        };
        let config = crate::gossip::GossipConfig::new("cluster", format!("m{n}"));
        let mut engine = Engine::new(config, id, Duration::ZERO).unwrap();
        engine.set_secrets(trust.keyring().as_deref(), Duration::ZERO);
        engine
    }

    #[test]
    fn a_member_says_what_it_has_revoked_until_that_has_expired() {
        let trust = Trust::secret(ClusterSecret::generate());
        let mut engine = member(1, &trust);
        assert!(!publish(&mut engine, &trust, HOUR));
        let revoked = id();
        trust.revoke(revoked).unwrap();
        assert!(publish(&mut engine, &trust, HOUR));
        assert!(!publish(&mut engine, &trust, HOUR));
        let said = |engine: &Engine| -> Vec<_> {
            let keys: Vec<_> = engine.reserved().collect();
            keys.iter().flat_map(|key| ids(key.payload)).collect()
        };
        assert_eq!(said(&engine), [revoked]);
        // As if the time had come.
        let later = Trust::secrets((*trust.keyring().unwrap()).clone());
        assert!(publish(&mut engine, &later, HOUR));
        assert_eq!(said(&engine), []);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_revoked_yet_is_revoked_once_it_can() {
        let network = MemoryNetwork::new(1);
        let secret = ClusterSecret::generate();
        let mut members = Vec::new();
        for n in [1, 2] {
            let trust = Trust::secret(secret.clone());
            let host = network.host([10, 0, 0, n].into());
            let credential = NetCredential::generate(trust.clone());
            let transport = TransportLayerTransport::new(host, credential);
            let socket = transport.open(([10, 0, 0, n], 7000).into()).await.unwrap();
            let mut config = GossipConfig::new("cluster", format!("m{n}"));
            config.seeds = vec!["10.0.0.1:7000".to_owned()];
            members.push((trust, Participant::join(socket, config).await.unwrap()));
        }
        members[1].1.connected().await.unwrap();
        // As if all clocks but that of the member that has revoked it were behind by a little too much.
        let ahead = unix_time() + InviteId::CLOCK_SKEW + Duration::from_secs(2);
        let early = InviteId::generate(ahead, InviteId::MAX_LIFETIME).unwrap();
        let name = format!("{NAME}{}", early.random_byte() % BUCKETS);
        let other = &members[1].1.shared;
        let now = other.now();
        let set = other
            .engine()
            .set_reserved(&name, &early.to_string(), now)
            .unwrap();
        assert!(set);
        rt::sleep(Duration::from_secs(5)).await;
        assert_eq!(members[0].0.revoked(), []);
        std::thread::sleep(Duration::from_secs(3));
        rt::sleep(Duration::from_secs(5)).await;
        assert_eq!(members[0].0.revoked(), [early]);
    }

    #[test]
    fn a_side_that_knows_no_secret_says_nothing_and_believes_nothing() {
        let trust = Trust::dangerously_anyone();
        trust.revoke(id()).unwrap();
        let mut engine = member(1, &trust);
        assert!(!publish(&mut engine, &trust, HOUR));
        assert_eq!(engine.reserved().count(), 0);
    }
}
