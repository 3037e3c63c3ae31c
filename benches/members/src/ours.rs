//! This crate's engines. Every message between them is encoded and decoded.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use cpu_time::ProcessTime;
use gossip_benches::clusters::Version;
use gossip_transport::gossip::{Engine, Event, GossipConfig, Output};
use gossip_transport::message::{
    ChitchatId, ChitchatMessage, DeletionStatus, Delta, Digest, KeyValueMutation, NodeDelta,
    NodeDigest, ProtocolVersion,
};
use gossip_transport::{Identity, Message as _, Role};

use crate::measurement::{CHANGES, Cost, KEYS, MOST_ROUNDS, Row, addr, key_values, node_id, row};

const MESSAGE_LEN: usize = 1 << 20;

struct World {
    engines: Vec<Engine>,
    round: u32,
    bytes: usize,
    order: Vec<usize>,
    rng: fastrand::Rng,
}

pub(crate) fn measure(
    members: usize,
    version: Version,
    measured: u32,
    fed: bool,
) -> anyhow::Result<Row> {
    let running = if fed { 2 } else { members };
    let mut world = World::new(running, version)?;
    if fed {
        for engine in &mut world.engines {
            feed(engine, running..members);
        }
    }
    let last = format!("service/{}/endpoint", KEYS - 1);
    while !(0..members).all(|n| world.have(n, &last, None)) {
        world.step()?;
    }
    // Runs rounds until all members are found live.
    for _ in 0..3 {
        world.step()?;
    }
    world.bytes = 0;
    let cpu = ProcessTime::now();
    for _ in 0..measured {
        world.step()?;
    }
    let cost = Cost {
        bytes: world.bytes,
        cpu: cpu.elapsed(),
        steps: f64::from(measured) * running as f64,
    };
    let mut rounds = Vec::new();
    for change in 0..if fed { 0 } else { CHANGES } {
        let value = change.to_string();
        let of = world.rng.usize(0..members);
        let now = Duration::from_secs(world.round.into());
        world.engines[of].set("k", &value, now)?;
        let before = world.round;
        while !world.have(of, "k", Some(&value)) && world.round - before < MOST_ROUNDS {
            world.step()?;
        }
        rounds.push(world.round - before);
    }
    Ok(row(members, version, "gossip-transport", &cost, rounds))
}

/// Loads the states of `members` into `engine`, as if it had received them.
fn feed(engine: &mut Engine, members: std::ops::Range<usize>) {
    let version = ProtocolVersion::V0;
    let mut digest = Digest::default();
    let mut delta = Delta::default();
    for n in members {
        let heard = NodeDigest {
            heartbeat: 1,
            ..NodeDigest::default()
        };
        digest.node_digests.insert(id(n), heard);
        let set = key_values(n).into_iter().zip(1..);
        let key_values = set.map(|((key, value), version)| KeyValueMutation {
            key,
            value,
            version,
            status: DeletionStatus::Set,
        });
        delta.node_deltas.push(NodeDelta {
            chitchat_id: id(n),
            last_gc_version: 0,
            from_version_excluded: 0,
            key_values: key_values.collect(),
            max_version: KEYS as u64,
        });
    }
    let cluster_id = "bench".to_owned();
    for message in [
        ChitchatMessage::Syn {
            version,
            cluster_id,
            digest,
        },
        ChitchatMessage::Ack { version, delta },
    ] {
        engine.handle(received(addr(0), message), Duration::ZERO);
    }
}

pub(crate) fn received(from: SocketAddr, message: ChitchatMessage) -> Event {
    Event::Message {
        from,
        identity: Identity::UNPROVED,
        role: Role::Core,
        message,
    }
}

impl World {
    fn new(members: usize, version: Version) -> anyhow::Result<Self> {
        let mut engines = Vec::with_capacity(members);
        for n in 0..members {
            let mut config = GossipConfig::new("bench", "unused");
            config.rng_seed = Some(n as u64);
            config.rumours.fanout = 0;
            // A digest of 5,000 members is longer than a datagram, which is the default limit.
            config.max_message_len = MESSAGE_LEN;
            config.protocol_version = match version {
                Version::V0 => ProtocolVersion::V0,
                Version::V1 => ProtocolVersion::V1,
            };
            config.initial_key_values = key_values(n);
            let mut engine = Engine::new(config, id(n), Duration::ZERO)?;
            engine.handle(Event::Seeds(vec![addr(0)]), Duration::ZERO);
            engines.push(engine);
        }
        Ok(Self {
            engines,
            round: 0,
            bytes: 0,
            order: (0..members).collect(),
            rng: fastrand::Rng::with_seed(1),
        })
    }

    fn step(&mut self) -> anyhow::Result<()> {
        self.round += 1;
        let now = Duration::from_secs(self.round.into());
        let mut order = std::mem::take(&mut self.order);
        self.rng.shuffle(&mut order);
        let mut queue = VecDeque::new();
        for n in &order {
            let mut outputs = self.engines[*n].handle(Event::Round, now);
            let mut from = *n;
            loop {
                for output in outputs {
                    let (to, message) = match output {
                        Output::Send { to, message } => (vec![to], message),
                        Output::SendToAll { to, message } => (to, message),
                        Output::Refuse { .. } | Output::MembershipChanged => continue,
                    };
                    let bytes = message.into_bytes()?;
                    for to in to {
                        self.bytes += bytes.len();
                        queue.push_back((from, to_index(to), bytes.clone()));
                    }
                }
                let Some((sender, to, bytes)) = queue.pop_front() else {
                    break;
                };
                from = to;
                outputs = match self.engines.get_mut(to) {
                    Some(engine) => {
                        let message = ChitchatMessage::decode(bytes)?;
                        engine.handle(received(addr(sender), message), now)
                    }
                    // The message is for a member that is not run.
                    None => Vec::new(),
                };
            }
        }
        self.order = order;
        Ok(())
    }

    /// Returns whether all engines know that this key of member `n` has this value, or any value if
    /// none is given.
    fn have(&self, n: usize, key: &str, value: Option<&str>) -> bool {
        let id = id(n);
        self.engines.iter().all(|engine| {
            let known = engine.member_value(&id, key);
            known.is_some() && (value.is_none() || known == value)
        })
    }
}

fn to_index(addr: SocketAddr) -> usize {
    match addr {
        SocketAddr::V4(addr) => {
            let [_, _, high, low] = addr.ip().octets();
            u16::from_be_bytes([high, low]).into()
        }
        SocketAddr::V6(_) => usize::MAX,
    }
}

pub(crate) fn id(n: usize) -> ChitchatId {
    ChitchatId::new(node_id(n), 1, addr(n))
}
