//! Generated lies of leaves and of peers over UDP, which change no core member.

use std::collections::VecDeque;

use super::*;
use crate::gossip::Liveness;

/// The number of things that are said about members: a million in a release build, which takes seconds.
const LIES: usize = if cfg!(debug_assertions) {
    20_000
} else {
    1_000_000
};
/// The number of core members at first.
const CORES: u16 = 3;
/// The core member that joins later, of which lies are told before.
const LATE: u16 = CORES + 1;
/// The leaf that tells the truth.
const HONEST: u8 = 3;

/// Core members that gossip with each other, an honest leaf, and liars.
struct World {
    cores: Vec<Engine>,
    rng: fastrand::Rng,
    now: Duration,
    lies: usize,
    beats: u64,
    /// The members that core member 1 knew lately.
    known: Vec<ChitchatId>,
}

/// All of a core member or the honest leaf that must stay the same.
#[derive(Debug, PartialEq)]
struct Sight {
    member: Member,
    last_gc_version: Version,
}

/// Returns core member `n`, which has keys of its own and seeds.
fn core_member(n: u16, max_members: usize, now: Duration) -> Engine {
    let config = GossipConfig {
        max_members,
        ..config(n)
    };
    let mut engine = Engine::new(config, core(n), now).unwrap();
    let unix = Duration::from_micros(START) + now;
    engine.handle(Event::UnixTime(unix), now);
    engine.set_secrets(Some(&secret()), now);
    engine.set("a", &format!("of {n}"), now).unwrap();
    engine.set("gone", "", now).unwrap();
    engine.delete("gone", now).unwrap();
    engine.handle(Event::Seeds((1..=CORES).map(addr).collect()), now);
    engine
}

impl World {
    fn new(seed: u64, max_members: usize) -> Self {
        let claims = claims(
            Quotas::default()
                .with_max_keys(8)
                .with_max_bytes(600)
                .with_max_changes_per_second(3),
        );
        let cores = (1..=CORES).map(|n| {
            let mut engine = core_member(n, max_members, Duration::ZERO);
            let leaves = [1, 2, HONEST].map(|n| (identity(n).address(), true));
            let others = (1..=CORES).filter(|other| *other != n);
            let peers = others.map(|n| (addr(n), false)).chain(leaves);
            let connections = peers.map(|(addr, is_leaf)| Connection {
                addr,
                reads_v1: true,
                invite: is_leaf.then(|| Arc::clone(&claims)),
            });
            engine.handle(Event::Connections(connections.collect()), Duration::ZERO);
            engine
        });
        let mut world = Self {
            cores: cores.collect(),
            rng: fastrand::Rng::with_seed(seed),
            now: Duration::ZERO,
            lies: 0,
            beats: 1,
            known: Vec::new(),
        };
        // The liars are heard after the minute in which members over UDP may tell of an earlier life.
        (0..70).for_each(|_| world.second());
        world
    }

    /// Lets a second pass, in which core members and the honest leaf exchange what they know.
    fn second(&mut self) {
        self.now += SECOND;
        self.beats += 1;
        let honest = (leaf(HONEST), listed(self.beats));
        let mut queue = VecDeque::new();
        for n in 0..self.cores.len() {
            let change = ack(vec![node_delta(
                &leaf(HONEST),
                0,
                vec![set("k", "true", 1)],
            )]);
            let events = [
                from_leaf(HONEST, syn(std::slice::from_ref(&honest))),
                from_leaf(HONEST, change),
                Event::Round,
                Event::Rumours,
            ];
            for event in events {
                let outputs = self.cores[n].handle(event, self.now);
                queue.extend(outputs.into_iter().map(|output| (n, output)));
            }
        }
        while let Some((from, output)) = queue.pop_front() {
            let Some((receivers, message)) = sending(output) else {
                continue;
            };
            for to in receivers {
                let Some(to) = self.cores.iter().position(|e| e.id().addr() == to) else {
                    continue;
                };
                let event = from_core(from as u16 + 1, message.clone());
                let outputs = self.cores[to].handle(event, self.now);
                queue.extend(outputs.into_iter().map(|output| (to, output)));
            }
        }
    }

    /// Notes the members to lie about. Leaves have few, so they come first.
    fn look_around(&mut self) {
        let known = self.cores[0]
            .liveness_of_members()
            .into_iter()
            .map(|(id, _)| id);
        let (leaves, others): (Vec<_>, Vec<_>) =
            known.partition(|id| crate::credential::is_key_address(id.addr()));
        self.known = leaves.into_iter().chain(others).take(8).collect();
    }

    /// Returns what each core member knows of all core members and the honest leaf, heartbeats aside.
    fn sights(&self) -> Vec<Vec<Sight>> {
        let ids = self.cores.iter().map(|engine| engine.id().clone());
        let watched: Vec<_> = ids.chain([leaf(HONEST)]).collect();
        let of_engine = |engine: &Engine| {
            let members = engine.members().into_iter();
            let members = members.filter(|member| watched.contains(&member.id));
            let sights = members.map(|mut member| {
                let state = engine.state_of(&member.id).unwrap();
                let true_heartbeat = match self.cores.iter().find(|e| *e.id() == member.id) {
                    Some(owner) => find(owner, &member.id).unwrap().heartbeat,
                    None => self.beats,
                };
                assert!(member.heartbeat <= true_heartbeat, "{member:?}");
                member.heartbeat = 0;
                Sight {
                    last_gc_version: state.last_gc_version,
                    member,
                }
            });
            sights.collect()
        };
        self.cores.iter().map(of_engine).collect()
    }

    fn number(&mut self) -> u64 {
        let around = [
            0,
            1,
            2,
            3,
            self.beats + 5,
            1_000,
            END_OF_VERSIONS - 1,
            END_OF_VERSIONS,
            u64::MAX / 2,
            u64::MAX / 2 + 1,
            u64::MAX - 1,
            u64::MAX,
        ];
        let near = self.rng.choice(around).unwrap_or_default();
        near.saturating_add(self.rng.u64(..3))
    }

    /// Returns the id of a member that exists, or differs from one that does.
    fn id(&mut self) -> ChitchatId {
        let watched = self.rng.u16(1..=LATE);
        let name = match self.rng.u8(..6) {
            0..=2 => core(watched).node_id,
            3 => leaf(self.rng.u8(1..=HONEST)).node_id,
            4 => "udp-9".into(),
            _ => format!("tab-new-{}", self.rng.u8(..50)).into(),
        };
        let at = match self.rng.u8(..6) {
            0..=2 => addr(watched),
            3 | 4 => identity(self.rng.u8(1..=HONEST + 1)).address(),
            _ => addr(self.rng.u16(600..650)),
        };
        let generation = match self.rng.u8(..4) {
            0 | 1 => START,
            2 if crate::credential::is_key_address(at) => START + self.now.as_micros() as u64,
            2 => START + self.rng.u64(..4),
            _ => self.number(),
        };
        match self.rng.u8(..5) {
            0 => core(watched),
            1 => leaf(self.rng.u8(1..=HONEST)),
            2 | 3 => self
                .rng
                .choice(&self.known)
                .cloned()
                .unwrap_or_else(|| core(1)),
            _ => ChitchatId::new(name, generation, at),
        }
    }

    fn digest(&mut self) -> Digest {
        let entries = (0..8).map(|_| {
            let lie = NodeDigest {
                heartbeat: self.number(),
                last_gc_version: self.number(),
                max_version: self.number(),
            };
            (self.id(), lie)
        });
        let digest = Digest::from(entries.collect::<Vec<_>>());
        self.lies += digest.node_digests.len();
        digest
    }

    fn delta(&mut self) -> Delta {
        let mut delta = Delta::default();
        for _ in 0..6 {
            let chitchat_id = self.id();
            // A message does not name the same member twice.
            if delta
                .node_deltas
                .iter()
                .any(|node| node.chitchat_id == chitchat_id)
            {
                continue;
            }
            let (from, gc) = (self.rng.choice([0, 0, 1, 2, 3]), self.rng.choice([0, 0, 4]));
            let last_gc_version = match self.rng.bool() {
                true => gc.unwrap_or_default(),
                false => self.number(),
            };
            let mut version = from.unwrap_or_default();
            let keys = [
                "a",
                "gone",
                "k",
                "gossip-transport/core",
                "gossip-transport/left",
                "new",
            ];
            let is_long = self.rng.u8(..8) == 0;
            let many = self.rng.usize(..if is_long { 90 } else { 4 });
            let changes = (0..many).map(|n| {
                version = match self.rng.u8(..80) {
                    0 => version.max(self.number()),
                    _ => version.saturating_add(1),
                };
                let mut key = self.rng.choice(keys).unwrap_or_default().to_owned();
                if n > 4 {
                    key += &n.to_string();
                }
                let statuses = [
                    DeletionStatus::Set,
                    DeletionStatus::Deleted,
                    DeletionStatus::DeleteAfterTtl,
                ];
                KeyValueMutation {
                    key,
                    value: "lie".repeat(self.rng.usize(..9)),
                    version,
                    status: self.rng.choice(statuses).unwrap_or(DeletionStatus::Set),
                }
            });
            let key_values: Vec<_> = changes.collect();
            let is_honest = self.rng.u8(..8) > 0;
            let reached = key_values.last().map_or(0, |change| change.version);
            delta.node_deltas.push(NodeDelta {
                chitchat_id,
                last_gc_version,
                from_version_excluded: from.unwrap_or_default(),
                key_values,
                max_version: match is_honest {
                    true => reached,
                    false => reached.max(self.number()),
                },
            });
        }
        self.lies += delta.node_deltas.len();
        delta
    }

    /// Tells one of the core members lies.
    fn lie(&mut self) {
        let version = self.rng.choice([ProtocolVersion::V0, ProtocolVersion::V1]);
        let version = version.unwrap_or_default();
        let message = match self.rng.u8(..10) {
            0..=2 => ChitchatMessage::Syn {
                version,
                cluster_id: "cluster".to_owned(),
                digest: self.digest(),
            },
            3..=5 => ChitchatMessage::SynAck {
                version,
                digest: self.digest(),
                delta: self.delta(),
            },
            6..=8 => ChitchatMessage::Ack {
                version,
                delta: self.delta(),
            },
            _ => ChitchatMessage::BadCluster { version },
        };
        let event = match self.rng.bool() {
            true => from_leaf(self.rng.u8(1..HONEST), message),
            // Some of them send from the address of a core member, or list themselves.
            false => from_udp(
                self.rng.choice([1, 2, LATE, 600, 601, 602]).unwrap_or(600),
                message,
            ),
        };
        let to = self.rng.usize(..self.cores.len());
        let outputs = self.cores[to].handle(event, self.now);
        for output in outputs {
            // Answers have to be valid whatever the members are.
            if let Output::Send { message, .. } = output {
                assert!(
                    message.version() == version || matches!(message, ChitchatMessage::Syn { .. })
                );
            }
        }
    }
}

/// Lets the liars lie for a second, as fast as the limits of an engine allow.
fn second_of_lies(world: &mut World) {
    world.look_around();
    for _ in 0..100 {
        world.lie();
        world.now += Duration::from_millis(10);
    }
    world.second();
}

/// Lets the liars tell `lies` lies, which do not change what the core members know.
fn unchanged(world: &mut World, lies: usize) {
    let before = world.sights();
    for sights in &before {
        assert_eq!(sights.len(), world.cores.len() + 1);
        let lives = |sight: &Sight| sight.member.liveness != Liveness::Dead;
        assert!(sights.iter().all(lives), "{sights:?}");
    }
    while world.lies < lies {
        second_of_lies(world);
        assert_eq!(world.sights(), before, "after {} lies", world.lies);
    }
}

fn lies_change_nothing(lies: usize, max_members: usize) {
    let mut world = World::new(lies as u64, max_members);
    unchanged(&mut world, lies / 2);
    // Lies were told of this one from the first, also from its own address.
    let late = core_member(LATE, max_members, world.now);
    world.cores.push(late);
    (0..20).for_each(|_| second_of_lies(&mut world));
    // It may have had to outlive them. Nothing else is left of them.
    let late = world.cores[usize::from(CORES)].id();
    for engine in &world.cores {
        let value = engine.member_value(late, "a");
        assert_eq!(value, Some("of 4"), "{late:?} {:?}", engine.id());
    }
    unchanged(&mut world, lies);
    for (n, engine) in world.cores.iter_mut().enumerate() {
        let counts = engine.counts();
        // Most were looked at, and each kind was refused.
        assert!(counts.limited * 10 < world.lies as u64, "{counts:?}");
        let often = [
            Denial::Heartbeat,
            Denial::NewMember,
            Denial::Changes,
            Denial::Receiver,
            Denial::Name,
            Denial::Version,
            Denial::ReservedKey,
        ];
        for denial in often {
            assert!(counts.denied.count(denial) > 0, "{n}: none of {denial:?}");
        }
        // Which quota a liar exceeds first is chance, and has tests of its own. No leaf is connected to the last one.
        let seldom = [
            Denial::Generation,
            Denial::Keys,
            Denial::Bytes,
            Denial::Rate,
        ];
        let seldom: u64 = seldom
            .iter()
            .map(|denial| counts.denied.count(*denial))
            .sum();
        let may_be_none = LIES < 1_000_000 || n == usize::from(CORES);
        assert!(seldom > 0 || may_be_none, "{n}: {counts:?}");
        assert!(engine.set("a", "still", world.now).unwrap());
    }
    // Gossip goes on.
    (0..9).for_each(|_| world.second());
    for engine in &world.cores {
        for other in &world.cores {
            assert_eq!(engine.member_value(other.id(), "a"), Some("still"));
        }
    }
}

#[test]
fn a_million_lies_of_leaves_and_of_peers_over_udp_change_no_core_member_and_no_honest_leaf() {
    lies_change_nothing(LIES, 300);
}

#[test]
fn nor_do_they_if_the_table_of_members_is_full() {
    lies_change_nothing(LIES / 2, 24);
}

#[test]
fn nobody_over_udp_changes_a_member_that_only_core_members_have_reported() {
    let mut us = engine_with(1, config(1));
    let known = [(core(2), listed(5)), (core(3), listed(5))];
    us.handle(from_core(2, syn(&known)), SECOND);
    let truth = node_delta(&core(3), 0, vec![set("k", "truth", 1)]);
    us.handle(from_core(2, ack(vec![truth])), SECOND);
    let restarted = ChitchatId::new("core-3", START + 1, addr(3));
    let lies = [(core(3), listed(u64::MAX)), (restarted.clone(), listed(1))];
    let lie = |version| {
        let lie = vec![set("k", "lie", version)];
        ack(vec![node_delta(&core(3), 1, lie)])
    };
    let now = SECOND * 99;
    us.handle(from_udp(66, syn(&lies)), now);
    us.handle(from_udp(66, lie(u64::MAX)), now);
    let of_three = |us: &Engine| {
        let heartbeat = find(us, &core(3)).unwrap().heartbeat;
        let value = us.member_value(&core(3), "k").map(str::to_owned);
        (heartbeat, value.unwrap(), find(us, &restarted).is_some())
    };
    assert_eq!(of_three(&us), (5, "truth".to_owned(), false));
    // It is reached over UDP by another core member, and now by this one.
    us.handle(from_udp(3, syn(&[(core(3), listed(6))])), now);
    us.handle(from_udp(66, syn(&[(core(3), listed(7))])), now);
    us.handle(from_udp(66, lie(2)), now);
    assert_eq!(of_three(&us), (7, "lie".to_owned(), false));
}
