mod attacks;
mod bridge;
mod holders;
mod lies;
mod limits;
mod newborn;
mod quota_attacks;
mod quotas;
mod room;
mod spread;
mod unmet;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::rules::{self, END_OF_VERSIONS, MayLearn, Speaker, Subject};
use super::{Denial, Owner};
use crate::credential::{Claims, Identity, InviteId, Keyring, NamePrefix, Quotas, Refusal, Role};
use crate::gossip::engine::{Connection, Engine, Event, GossipConfig, Member, Output};
use crate::message::{
    ChitchatId, ChitchatMessage, DeletionStatus, Delta, Digest, KeyValueMutation, NodeDelta,
    NodeDigest, ProtocolVersion, Version,
};

const SECOND: Duration = Duration::from_secs(1);
/// The time of a test that needs only one.
const NOW: Duration = SECOND;
/// A time at which a member has been running for long.
const LATE: Duration = Duration::from_secs(100);
/// The time since 1970 at which the engines start, in microseconds.
const START: u64 = 1_800_000_000_000_000;

fn addr(n: u16) -> SocketAddr {
    ([127, 0, 0, 1], n).into()
}

fn identity(n: u8) -> Identity {
    Identity::from_bytes([n; 32])
}

/// Returns the id of core member `n`.
fn core(n: u16) -> ChitchatId {
    ChitchatId::new(format!("core-{n}"), START, addr(n))
}

/// Returns the receivers of an output and what they are sent, if it sends something.
fn sending(output: Output) -> Option<(Vec<SocketAddr>, ChitchatMessage)> {
    match output {
        Output::Send { to, message } => Some((vec![to], message)),
        Output::SendToAll { to, message } => Some((to, message)),
        Output::Refuse { .. } | Output::MembershipChanged => None,
    }
}

/// Returns the id of a member that is reached over UDP.
fn over_udp(n: u16) -> ChitchatId {
    ChitchatId::new(format!("udp-{n}"), 1, addr(n))
}

/// Returns the id of the leaf with identity `n`.
fn leaf(n: u8) -> ChitchatId {
    ChitchatId::new(format!("tab-{n}"), START, identity(n).address())
}

fn secret() -> Keyring {
    crate::ClusterSecret::from_bytes(&[7; 32]).unwrap().into()
}

fn claims(quotas: Quotas) -> Arc<Claims> {
    let id = InviteId::generate(SECOND, SECOND).unwrap();
    let prefix: NamePrefix = "tab-".parse().unwrap();
    Arc::new(Claims::new(id).with_name_prefix(prefix).with_quotas(quotas))
}

fn config(n: u16) -> GossipConfig {
    GossipConfig {
        rng_seed: Some(n.into()),
        ..GossipConfig::new("cluster", "unused")
    }
}

/// Returns core member `n`, which knows the time.
fn engine_with(n: u16, config: GossipConfig) -> Engine {
    let mut engine = Engine::new(config, core(n), Duration::ZERO).unwrap();
    engine.handle(
        Event::UnixTime(Duration::from_micros(START)),
        Duration::ZERO,
    );
    engine
}

/// Returns core member `n`, which knows the secret.
fn member(n: u16) -> Engine {
    member_with(n, config(n))
}

fn member_with(n: u16, config: GossipConfig) -> Engine {
    let mut us = engine_with(n, config);
    us.set_secrets(Some(&secret()), Duration::ZERO);
    us
}

/// Returns core member 1, with a connection to leaf 1 that has `quotas`.
fn beside_leaf(quotas: Quotas) -> Engine {
    let mut us = engine_with(1, config(1));
    connect(&mut us, &[(1, claims(quotas))], Duration::ZERO);
    us
}

fn connect(us: &mut Engine, leaves: &[(u8, Arc<Claims>)], now: Duration) {
    let connections = leaves.iter().map(|(n, claims)| Connection {
        addr: identity(*n).address(),
        reads_v1: true,
        invite: Some(Arc::clone(claims)),
    });
    us.handle(Event::Connections(connections.collect()), now);
}

fn from_leaf(n: u8, message: ChitchatMessage) -> Event {
    from_page(n, Role::Leaf, message)
}

/// Returns the event of a message from the holder of identity `n` in this role, at its key address.
fn from_page(n: u8, role: Role, message: ChitchatMessage) -> Event {
    Event::Message {
        from: identity(n).address(),
        identity: identity(n),
        role,
        message,
    }
}

/// Passes in a digest of leaf 1 that lists `id` only. Returns true if it is known then.
fn listing(us: &mut Engine, id: &ChitchatId, digest: NodeDigest, now: Duration) -> bool {
    us.handle(from_leaf(1, syn(&[(id.clone(), digest)])), now);
    find(us, id).is_some()
}

/// Returns the event of a message from core member `n`.
fn from_core(n: u16, message: ChitchatMessage) -> Event {
    Event::Message {
        from: addr(n),
        identity: Identity::from_bytes([100 + n as u8; 32]),
        role: Role::Core,
        message,
    }
}

fn from_udp(n: u16, message: ChitchatMessage) -> Event {
    Event::Message {
        from: addr(n),
        identity: Identity::UNPROVED,
        role: Role::Unauthenticated,
        message,
    }
}

fn listed(heartbeat: u64) -> NodeDigest {
    NodeDigest {
        heartbeat,
        ..NodeDigest::default()
    }
}

/// Returns what a digest lists of `id`.
fn list(id: &ChitchatId, heartbeat: u64, max_version: Version) -> (ChitchatId, NodeDigest) {
    let listed = NodeDigest {
        max_version,
        ..listed(heartbeat)
    };
    (id.clone(), listed)
}

fn syn(of: &[(ChitchatId, NodeDigest)]) -> ChitchatMessage {
    ChitchatMessage::Syn {
        version: ProtocolVersion::V1,
        cluster_id: "cluster".to_owned(),
        digest: Digest::from(of.to_vec()),
    }
}

fn set(key: &str, value: &str, version: Version) -> KeyValueMutation {
    KeyValueMutation {
        key: key.to_owned(),
        value: value.to_owned(),
        version,
        status: DeletionStatus::Set,
    }
}

fn node_delta(id: &ChitchatId, from: Version, changes: Vec<KeyValueMutation>) -> NodeDelta {
    NodeDelta {
        chitchat_id: id.clone(),
        last_gc_version: 0,
        from_version_excluded: from,
        max_version: changes.last().map_or(from, |change| change.version),
        key_values: changes,
    }
}

fn ack(node_deltas: Vec<NodeDelta>) -> ChitchatMessage {
    ChitchatMessage::Ack {
        version: ProtocolVersion::V1,
        delta: Delta { node_deltas },
    }
}

fn find(us: &Engine, id: &ChitchatId) -> Option<Member> {
    us.members().into_iter().find(|member| member.id == *id)
}

/// Returns the names of the keys of `id`.
fn keys(us: &Engine, id: &ChitchatId) -> Vec<String> {
    let keys = find(us, id).map(|member| member.key_values);
    keys.into_iter().flatten().map(|(key, _)| key).collect()
}

fn denied(us: &Engine, denial: Denial) -> u64 {
    us.counts().denied.count(denial)
}

#[test]
fn the_rules_match_the_documented_table() {
    use Owner::{Core, Leaf, Unproved};
    let prefix: NamePrefix = "tab-".parse().unwrap();
    let (own, latest) = (identity(1).address(), START);
    let leaf_with = |prefix| Speaker::Leaf {
        own,
        prefix,
        latest,
    };
    let a_leaf = leaf_with(Some(&prefix));
    let udp = |past| Speaker::Unauthenticated { past };
    let udp_now = udp(MayLearn::No);
    let unknown = |owner, is_taken| Subject::Unknown { owner, is_taken };
    let future = ChitchatId {
        generation_id: START + 1,
        ..leaf(1)
    };
    let other_name = ChitchatId::new("core-1", START, own);
    let name_of_len = |len: usize| {
        let digits = len - "tab-".len();
        ChitchatId::new(format!("tab-{:0>digits$}", 1), START, own)
    };
    // The speaker, the member, what it is, and why nothing may be said.
    let table = [
        (a_leaf, leaf(1), Subject::Known(Leaf), None),
        (a_leaf, leaf(1), unknown(Leaf, false), None),
        (
            a_leaf,
            leaf(2),
            Subject::Known(Leaf),
            Some(Denial::Heartbeat),
        ),
        (
            a_leaf,
            leaf(2),
            unknown(Leaf, false),
            Some(Denial::NewMember),
        ),
        (
            a_leaf,
            core(2),
            Subject::Known(Core),
            Some(Denial::Heartbeat),
        ),
        (
            a_leaf,
            core(2),
            Subject::Known(Unproved),
            Some(Denial::Heartbeat),
        ),
        (
            a_leaf,
            core(2),
            unknown(Core, false),
            Some(Denial::NewMember),
        ),
        (a_leaf, core(1), Subject::Receiver, Some(Denial::Receiver)),
        (
            a_leaf,
            future,
            unknown(Leaf, false),
            Some(Denial::Generation),
        ),
        (a_leaf, other_name, unknown(Leaf, false), Some(Denial::Name)),
        (a_leaf, name_of_len(256), unknown(Leaf, false), None),
        (
            a_leaf,
            name_of_len(257),
            unknown(Leaf, false),
            Some(Denial::Name),
        ),
        (
            leaf_with(None),
            leaf(1),
            Subject::Known(Leaf),
            Some(Denial::Claims),
        ),
        (udp_now, core(2), Subject::Known(Unproved), None),
        (udp_now, core(2), unknown(Unproved, false), None),
        (
            udp_now,
            core(2),
            unknown(Unproved, true),
            Some(Denial::Name),
        ),
        (
            udp_now,
            core(2),
            Subject::Known(Core),
            Some(Denial::Heartbeat),
        ),
        (
            udp_now,
            core(2),
            unknown(Core, false),
            Some(Denial::NewMember),
        ),
        (
            udp_now,
            leaf(1),
            Subject::Known(Leaf),
            Some(Denial::Heartbeat),
        ),
        (
            udp_now,
            leaf(1),
            unknown(Leaf, false),
            Some(Denial::NewMember),
        ),
        (udp_now, core(1), Subject::Receiver, Some(Denial::Receiver)),
        (udp(MayLearn::Yes), core(1), Subject::Receiver, None),
        (
            udp(MayLearn::Yes),
            core(2),
            Subject::Known(Core),
            Some(Denial::Heartbeat),
        ),
    ];
    for (speaker, id, subject, expected) in table {
        let denial = rules::denial(speaker, &id, subject);
        assert_eq!(denial, expected, "{speaker:?} {id:?} {subject:?}");
    }
}

#[test]
fn versions_are_credible_below_the_end_in_each_place() {
    for (version, expected) in [(END_OF_VERSIONS - 1, true), (END_OF_VERSIONS, false)] {
        let digests = [
            listed(version),
            NodeDigest {
                max_version: version,
                ..NodeDigest::default()
            },
            NodeDigest {
                last_gc_version: version,
                ..NodeDigest::default()
            },
        ];
        for digest in &digests {
            assert_eq!(rules::is_credible(digest), expected, "{digest:?}");
        }
        let none = node_delta(&leaf(1), 0, Vec::new());
        let deltas = [
            node_delta(&leaf(1), version, Vec::new()),
            NodeDelta {
                last_gc_version: version,
                ..none.clone()
            },
            NodeDelta {
                from_version_excluded: version,
                ..none.clone()
            },
            NodeDelta {
                max_version: version,
                ..none.clone()
            },
            NodeDelta {
                key_values: vec![set("k", "v", version)],
                ..none
            },
        ];
        for delta in &deltas {
            assert_eq!(rules::are_credible(delta), expected, "{delta:?}");
        }
    }
}
