//! An engine that receives false messages: whatever a peer puts into a valid message, the engine
//! keeps working, keeps its own keys, and stays within its bounds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::gossip::{Engine, Event, GossipConfig, Liveness, Output};
use gossip_transport::message::{
    ChitchatId, ChitchatMessage, DeletionStatus, Delta, Digest, KeyValueMutation, Message,
    NodeDelta, NodeDigest, ProtocolVersion, Version,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::received;
use crate::support::messages::{Scale, any_message, any_version};

const CLUSTER: &str = "cluster";
const MAX_MEMBERS: usize = 12;
const MAX_BYTES: usize = 3_000;
const MAX_BYTES_OF_ALL: usize = 20_000;
const MAX_MESSAGE_LEN: usize = 8_000;
const SENDER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);
const KEPT: (&str, &str) = ("kept", "whatever they say");

/// Returns the id of member `n`; the engine itself is member 0. There are so few ids that several
/// messages are about the same member. Some have names so long that few of them fit a message.
fn id(n: u16) -> ChitchatId {
    let long = match n % 20 {
        18 => 1_000,
        19 => 7_000,
        _ => 0,
    };
    ChitchatId::new(
        format!("node-{n}{}", "-".repeat(long)),
        u64::from(n % 3),
        ([127, 0, 0, 1], n).into(),
    )
}

fn some_id() -> impl Strategy<Value = ChitchatId> {
    (0..20_u16).prop_map(id)
}

/// Generates numbers at which rules change: small ones, the largest ones, and those around the
/// largest that an engine believes about itself.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0..12_u64,
        1 => Just(u64::MAX / 2 - 1),
        1 => Just(u64::MAX / 2),
        1 => Just(u64::MAX / 2 + 1),
        1 => Just(u64::MAX - 1),
        1 => Just(u64::MAX),
    ]
}

fn digest() -> impl Strategy<Value = Digest> {
    let node = (number(), number(), number());
    let node = node.prop_map(|(heartbeat, last_gc_version, max_version)| NodeDigest {
        heartbeat,
        last_gc_version,
        max_version,
    });
    btree_map(some_id(), node, 0..20).prop_map(|entries| Digest {
        node_digests: entries.into_iter().collect(),
    })
}

fn mutation() -> impl Strategy<Value = KeyValueMutation> {
    let status = prop_oneof![
        Just(DeletionStatus::Set),
        Just(DeletionStatus::Deleted),
        Just(DeletionStatus::DeleteAfterTtl),
    ];
    let key = prop_oneof![Just("kept"), Just(""), Just("ä"), Just("k"), Just("l")];
    (key, 0..1_500_usize, number(), status).prop_map(|(key, len, version, status)| {
        KeyValueMutation {
            key: key.to_owned(),
            value: "x".repeat(len),
            version,
            status,
        }
    })
}

fn delta() -> impl Strategy<Value = Delta> {
    let node = (
        some_id(),
        number(),
        number(),
        vec(mutation(), 0..5),
        number(),
    );
    let node = node.prop_map(|(chitchat_id, gc, from, mut key_values, max)| {
        // A decoder refuses changes that are not sorted.
        key_values.sort_by_key(|mutation| mutation.version);
        let last = key_values.last().map_or(0, |mutation| mutation.version);
        NodeDelta {
            chitchat_id,
            last_gc_version: gc,
            from_version_excluded: from,
            key_values,
            max_version: max.max(last),
        }
    });
    vec(node, 0..6).prop_map(|node_deltas| Delta { node_deltas })
}

fn false_message() -> impl Strategy<Value = ChitchatMessage> {
    prop_oneof![
        (any_version(), digest()).prop_map(|(version, digest)| ChitchatMessage::Syn {
            version,
            cluster_id: CLUSTER.to_owned(),
            digest,
        }),
        (any_version(), digest(), delta()).prop_map(|(version, digest, delta)| {
            ChitchatMessage::SynAck {
                version,
                digest,
                delta,
            }
        }),
        (any_version(), delta())
            .prop_map(|(version, delta)| ChitchatMessage::Ack { version, delta }),
        any_message(Scale::Small),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Receive(Box<ChitchatMessage>),
    /// A round, this many milliseconds later.
    Round(u64),
    SetOwn(u8),
    DeleteOwn(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => false_message().prop_map(|message| Step::Receive(Box::new(message))),
        3 => prop_oneof![Just(0), 900..1_100_u64, Just(60_000)].prop_map(Step::Round),
        1 => (0..4_u8).prop_map(Step::SetOwn),
        1 => (0..4_u8).prop_map(Step::DeleteOwn),
    ]
}

/// An engine, and the properties that must hold at every moment.
struct Watched {
    engine: Engine,
    now: Duration,
    own_keys: BTreeMap<String, String>,
    heartbeat: u64,
    /// The versions that the engine last claimed to know, by member.
    claims: BTreeMap<ChitchatId, (Version, Version)>,
}

impl Watched {
    fn new(version: ProtocolVersion) -> Self {
        let mut config = GossipConfig::new(CLUSTER, "node-0");
        config.protocol_version = version;
        config.max_members = MAX_MEMBERS;
        config.max_bytes_per_member = MAX_BYTES;
        config.max_bytes = MAX_BYTES_OF_ALL;
        config.max_message_len = MAX_MESSAGE_LEN;
        config.marked_for_deletion_grace_period = Duration::from_secs(3);
        config.rng_seed = Some(1);
        config.initial_key_values = vec![(KEPT.0.to_owned(), KEPT.1.to_owned())];
        Self {
            engine: Engine::new(config, id(0), Duration::ZERO).unwrap(),
            now: Duration::ZERO,
            own_keys: BTreeMap::from([(KEPT.0.to_owned(), KEPT.1.to_owned())]),
            heartbeat: 0,
            claims: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Receive(message) => self.receive(*message),
            Step::Round(millis) => {
                self.now += Duration::from_millis(millis);
                self.handle(Event::Round);
            }
            Step::SetOwn(n) => {
                let (key, value) = (format!("own-{n}"), format!("{:?}", self.now));
                self.engine.set(&key, &value, self.now).unwrap();
                self.own_keys.insert(key, value);
            }
            Step::DeleteOwn(n) => {
                let key = format!("own-{n}");
                let deleted = self.engine.delete(&key, self.now).is_ok();
                assert_eq!(deleted, self.own_keys.remove(&key).is_some());
            }
        }
        self.check_members();
    }

    /// Passes `message` through the codec to the engine, unless the decoder refuses it.
    fn receive(&mut self, message: ChitchatMessage) {
        let Ok(bytes) = message.into_bytes() else {
            return;
        };
        if let Ok(message) = ChitchatMessage::decode(bytes) {
            self.handle(received(SENDER, message));
        }
    }

    /// Lets `peer` open exchanges until it has our keys. Twenty must be enough, whatever else it is
    /// sent.
    fn teach(&mut self, peer: &mut Engine) {
        for _ in 0..20 {
            peer.handle(Event::Seeds(vec![SENDER]), self.now);
            for syn in sent(peer.handle(Event::Round, self.now)) {
                for syn_ack in self.handle(received(SENDER, syn)) {
                    let from = self.engine.id().gossip_advertise_addr;
                    for ack in sent(peer.handle(received(from, syn_ack), self.now)) {
                        self.handle(received(SENDER, ack));
                    }
                }
            }
            if self.keys_at(peer) == self.own_keys {
                return;
            }
        }
        panic!("{:?} instead of {:?}", self.keys_at(peer), self.own_keys);
    }

    fn keys_at(&self, peer: &Engine) -> BTreeMap<String, String> {
        let members = peer.members().into_iter();
        members
            .filter(|member| member.id == *self.engine.id())
            .flat_map(|member| member.key_values)
            .map(|(key, value)| (key, value.value))
            .collect()
    }

    /// Passes `event` to the engine, checks the messages that it sends, and returns them.
    fn handle(&mut self, event: Event) -> Vec<ChitchatMessage> {
        let messages: Vec<_> = sent(self.engine.handle(event, self.now)).collect();
        for message in &messages {
            if let ChitchatMessage::Syn { digest, .. } | ChitchatMessage::SynAck { digest, .. } =
                message
            {
                self.check_claims(digest);
            }
            if let ChitchatMessage::SynAck { delta, .. } | ChitchatMessage::Ack { delta, .. } =
                message
            {
                assert_is_harmless(delta);
            }
            let bytes = message.clone().into_bytes().unwrap();
            assert!(bytes.len() <= MAX_MESSAGE_LEN, "{} bytes", bytes.len());
            assert_eq!(ChitchatMessage::decode(bytes).unwrap(), *message);
        }
        messages
    }

    fn check_claims(&mut self, digest: &Digest) {
        for (id, node) in &digest.node_digests {
            let claim = (node.last_gc_version, node.max_version);
            let before = self.claims.insert(id.clone(), claim);
            assert!(before <= Some(claim), "{id:?}: {claim:?} after {before:?}");
        }
    }

    fn check_members(&mut self) {
        let members = self.engine.members();
        assert!(members.len() <= MAX_MEMBERS);
        // What was known of a member that is forgotten is not claimed any more.
        self.claims
            .retain(|id, _| members.iter().any(|member| member.id == *id));
        let mut bytes_of_all = 0;
        for member in members {
            let keys = member.key_values.into_iter();
            let keys: BTreeMap<_, _> = keys.map(|(key, value)| (key, value.value)).collect();
            let bytes: usize = keys.iter().map(|(k, v)| k.len() + v.len()).sum();
            assert!(bytes <= 2 * MAX_BYTES, "{bytes} bytes of {:?}", member.id);
            if member.liveness == Liveness::Myself {
                assert_eq!(keys, self.own_keys);
                assert!(member.heartbeat >= self.heartbeat);
                self.heartbeat = member.heartbeat;
            } else {
                // It would crash a member of the published crate to which we pass it on.
                assert!(!keys.contains_key("ä"));
                bytes_of_all += bytes;
            }
        }
        assert!(bytes_of_all <= MAX_BYTES_OF_ALL, "{bytes_of_all} bytes");
    }
}

fn newcomer() -> Engine {
    let id = id(999);
    let config = GossipConfig::new(CLUSTER, &*id.node_id);
    Engine::new(config, id, Duration::ZERO).unwrap()
}

/// Asserts the properties that the published crate requires of a decoded delta. It panics on other
/// deltas, or drops the state that it has.
fn assert_is_harmless(delta: &Delta) {
    for node in &delta.node_deltas {
        let mut last = node.from_version_excluded;
        for change in &node.key_values {
            assert!(change.version > last, "{} after {last}", change.version);
            last = change.version;
            assert!(change.key.bytes().next().is_none_or(|b| b.is_ascii()));
        }
        assert!(node.max_version >= last && node.max_version > node.from_version_excluded);
    }
}

/// Returns the messages among `outputs`.
fn sent(outputs: Vec<Output>) -> impl Iterator<Item = ChitchatMessage> {
    super::sends(outputs)
        .into_iter()
        .map(|(_, message)| message)
}

proptest! {
    #![proptest_config(ProptestConfig {
        // A failure prints its input, so a file beside the tests is not needed.
        failure_persistence: None,
        ..ProptestConfig::with_cases(200)
    })]

    #[test]
    fn no_false_message_stops_an_engine_or_changes_its_own_keys(
        version in any_version(),
        steps in vec(step(), 1..40),
    ) {
        let mut watched = Watched::new(version);
        for step in steps {
            watched.take(step);
        }
        // Its heartbeat still rises, and a new member still learns its keys, including later changes.
        let before = watched.heartbeat;
        watched.take(Step::Round(1000));
        prop_assert!(watched.heartbeat > before);
        let mut newcomer = newcomer();
        watched.teach(&mut newcomer);
        watched.take(Step::Round(1000));
        watched.take(Step::SetOwn(0));
        watched.teach(&mut newcomer);
    }
}

#[test]
fn thousands_of_invented_members_with_keys_take_bounded_memory() {
    let mut watched = Watched::new(ProtocolVersion::V0);
    for batch in 0..100_u16 {
        let invented: Vec<_> = (1..100).map(|n| id(batch * 100 + n)).collect();
        let node = NodeDigest {
            heartbeat: 1,
            last_gc_version: 0,
            max_version: u64::MAX,
        };
        let digest = Digest {
            node_digests: invented.iter().map(|id| (id.clone(), node)).collect(),
        };
        let node_deltas = invented.into_iter().map(|chitchat_id| NodeDelta {
            chitchat_id,
            last_gc_version: 0,
            from_version_excluded: 0,
            key_values: (1..=50)
                .map(|version| KeyValueMutation {
                    key: format!("{batch}-{version}"),
                    value: "x".repeat(100),
                    version: u64::from(batch) * 50 + version,
                    status: DeletionStatus::Set,
                })
                .collect(),
            max_version: u64::from(batch) * 50 + 50,
        });
        watched.take(Step::Receive(Box::new(ChitchatMessage::SynAck {
            version: ProtocolVersion::V1,
            digest,
            delta: Delta {
                node_deltas: node_deltas.collect(),
            },
        })));
        watched.take(Step::Round(1000));
    }
    let members = watched.engine.members();
    assert_eq!(members.len(), MAX_MEMBERS);
    assert!(watched.engine.counts().refused_members > 9_000);
    // The bounds do not keep all keys out.
    let most = members.iter().map(|member| member.key_values.len()).max();
    assert!(most > Some(20), "{most:?}");
}
