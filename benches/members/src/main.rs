//! How the cost of gossip grows with the number of members: our engine beside upstream's.
//!
//! `members [N ...]`: all of them in this process and in virtual time. Ours are engines between
//! which every message is encoded and decoded; upstream's are its nodes on its in-memory
//! `ChannelTransport`, which does so as well (and compares what comes out), on tokio's paused
//! clock. Rumours are off: it is about rounds. Each member has ten keys.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use chitchat::transport::ChannelTransport;
use chitchat::{ChitchatConfig, ChitchatHandle, FailureDetectorConfig, spawn_chitchat};
use cpu_time::ProcessTime;
use gossip_benches::clusters::Version;
use gossip_benches::report::write_json;
use gossip_transport::Message as _;
use gossip_transport::gossip::{Engine, Event, GossipConfig, Output};
use gossip_transport::message::{ChitchatId, ChitchatMessage, ProtocolVersion};
use serde::Serialize;

const KEYS: usize = 10;
/// Changes of which the rounds are counted.
const CHANGES: usize = 5;
const MOST_ROUNDS: u32 = 100;

#[derive(Serialize)]
struct Row {
    members: usize,
    version: String,
    engine: &'static str,
    bytes: f64,
    cpu_us: f64,
    rounds: Vec<u32>,
}

fn main() -> anyhow::Result<()> {
    let sizes: Result<Vec<usize>, _> = std::env::args().skip(1).map(|arg| arg.parse()).collect();
    let mut sizes = sizes?;
    if sizes.is_empty() {
        sizes = vec![10, 100, 1000];
    }
    let mut rows = Vec::new();
    println!(
        "| members | version | engine | bytes a member a round | CPU us a member a round | rounds until all have a change, median (max) |\n\
         |--:|---|---|--:|--:|--:|"
    );
    for members in sizes {
        // Fewer where each takes long.
        let measured = if members > 300 { 5 } else { 30 };
        for version in [Version::V0, Version::V1] {
            for row in [
                ours(members, version, measured)?,
                theirs(members, version, measured)?,
            ] {
                let mut rounds = row.rounds.clone();
                rounds.sort_unstable();
                println!(
                    "| {} | {} | {} | {:.0} | {:.0} | {} ({}) |",
                    row.members,
                    row.version,
                    row.engine,
                    row.bytes,
                    row.cpu_us,
                    rounds[rounds.len() / 2],
                    rounds[rounds.len() - 1],
                );
                rows.push(row);
            }
        }
    }
    println!("\nwrote {}", write_json("members", &rows)?.display());
    Ok(())
}

fn addr(n: usize) -> SocketAddr {
    ([10, 0, (n >> 8) as u8, n as u8], 7280).into()
}

fn key_values(n: usize) -> Vec<(String, String)> {
    let pairs = (0..KEYS).map(|k| {
        (
            format!("service/{k}/endpoint"),
            format!("10.0.{n}.{k}:7280"),
        )
    });
    pairs.collect()
}

struct World {
    engines: Vec<Engine>,
    round: u32,
    bytes: usize,
    order: Vec<usize>,
    rng: fastrand::Rng,
}

impl World {
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
                    if let Output::Send { to, message } = output {
                        let bytes = message.into_bytes()?;
                        self.bytes += bytes.len();
                        let index = usize::from(to_index(to));
                        queue.push_back((from, index, bytes));
                    }
                }
                let Some((sender, to, bytes)) = queue.pop_front() else {
                    break;
                };
                let message = ChitchatMessage::decode(bytes)?;
                let event = Event::Message {
                    from: addr(sender),
                    message,
                };
                outputs = self.engines[to].handle(event, now);
                from = to;
            }
        }
        self.order = order;
        Ok(())
    }

    fn have(&self, of: usize, value: &str) -> bool {
        let id = id(of);
        let has = |engine: &Engine| engine.member_value(&id, "k") == Some(value);
        self.engines.iter().all(has)
    }
}

fn to_index(addr: SocketAddr) -> u16 {
    match addr {
        SocketAddr::V4(addr) => {
            let [_, _, high, low] = addr.ip().octets();
            u16::from_be_bytes([high, low])
        }
        SocketAddr::V6(_) => 0,
    }
}

fn id(n: usize) -> ChitchatId {
    ChitchatId::new(format!("node-{n:04}"), 1, addr(n))
}

fn ours(members: usize, version: Version, measured: u32) -> anyhow::Result<Row> {
    let mut engines = Vec::with_capacity(members);
    for n in 0..members {
        let mut config = GossipConfig::new("bench", "unused");
        config.rng_seed = Some(n as u64);
        config.rumours.fanout = 0;
        config.protocol_version = match version {
            Version::V0 => ProtocolVersion::V0,
            Version::V1 => ProtocolVersion::V1,
        };
        config.initial_key_values = key_values(n);
        let mut engine = Engine::new(config, id(n), Duration::ZERO)?;
        engine.handle(Event::Seeds(vec![addr(0)]), Duration::ZERO);
        engines.push(engine);
    }
    let mut world = World {
        engines,
        round: 0,
        bytes: 0,
        order: (0..members).collect(),
        rng: fastrand::Rng::with_seed(1),
    };
    let complete = |world: &World| {
        let last = format!("service/{}/endpoint", KEYS - 1);
        world
            .engines
            .iter()
            .all(|engine| (0..members).all(|n| engine.member_value(&id(n), &last).is_some()))
    };
    while !complete(&world) {
        world.step()?;
    }
    // Everyone is found live.
    for _ in 0..3 {
        world.step()?;
    }
    world.bytes = 0;
    let cpu = ProcessTime::now();
    for _ in 0..measured {
        world.step()?;
    }
    let steps = f64::from(measured) * members as f64;
    let (cpu, bytes) = (cpu.elapsed(), world.bytes);
    let mut rounds = Vec::new();
    for change in 0..CHANGES {
        let value = change.to_string();
        let of = world.rng.usize(0..members);
        let now = Duration::from_secs(world.round.into());
        world.engines[of].set("k", &value, now)?;
        let before = world.round;
        while !world.have(of, &value) && world.round - before < MOST_ROUNDS {
            world.step()?;
        }
        rounds.push(world.round - before);
    }
    Ok(Row {
        members,
        version: format!("{version:?}"),
        engine: "gossip-transport",
        bytes: bytes as f64 / steps,
        cpu_us: cpu.as_secs_f64() * 1e6 / steps,
        rounds,
    })
}

fn theirs(members: usize, version: Version, measured: u32) -> anyhow::Result<Row> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    runtime.block_on(async {
        let transport = ChannelTransport::with_mtu(65_507);
        let mut nodes: Vec<ChitchatHandle> = Vec::with_capacity(members);
        for n in 0..members {
            // Rounds are spread over the second.
            tokio::time::sleep(Duration::from_secs(1) / members as u32).await;
            let config = ChitchatConfig {
                chitchat_id: chitchat::ChitchatId::new(format!("node-{n:04}"), 1, addr(n)),
                cluster_id: "bench".to_owned(),
                gossip_interval: Duration::from_secs(1),
                listen_addr: addr(n),
                seed_nodes: vec![addr(0).to_string()],
                failure_detector_config: FailureDetectorConfig::default(),
                marked_for_deletion_grace_period: Duration::from_secs(7200),
                catchup_callback: None,
                extra_liveness_predicate: None,
                protocol_version: match version {
                    Version::V0 => chitchat::ProtocolVersion::V0,
                    Version::V1 => chitchat::ProtocolVersion::V1,
                },
            };
            nodes.push(spawn_chitchat(config, key_values(n), &transport).await?);
        }
        let last = format!("service/{}/endpoint", KEYS - 1);
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut complete = true;
            for node in &nodes {
                let chitchat = node.chitchat();
                let chitchat = chitchat.lock().await;
                let states = chitchat.node_states();
                complete &= states.len() == members
                    && states.values().all(|state| state.get(&last).is_some());
            }
            if complete {
                break;
            }
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = transport.statistics().num_bytes_total;
        let cpu = ProcessTime::now();
        tokio::time::sleep(Duration::from_secs(measured.into())).await;
        let (cpu, bytes) = (
            cpu.elapsed(),
            transport.statistics().num_bytes_total - before,
        );
        let steps = f64::from(measured) * members as f64;
        let mut rounds = Vec::new();
        let mut rng = fastrand::Rng::with_seed(1);
        for change in 0..CHANGES {
            let (of, value) = (rng.usize(0..members), change.to_string());
            let chitchat = nodes[of].chitchat();
            chitchat.lock().await.self_node_state().set("k", &value);
            let id = nodes[of].chitchat_id();
            let mut count = 0;
            loop {
                let mut all = true;
                for node in &nodes {
                    let chitchat = node.chitchat();
                    let chitchat = chitchat.lock().await;
                    let state = chitchat.node_state(id);
                    all &= state.and_then(|state| state.get("k")) == Some(value.as_str());
                }
                if all || count >= MOST_ROUNDS {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                count += 1;
            }
            rounds.push(count);
        }
        Ok(Row {
            members,
            version: format!("{version:?}"),
            engine: "chitchat",
            bytes: bytes as f64 / steps,
            cpu_us: cpu.as_secs_f64() * 1e6 / steps,
            rounds,
        })
    })
}
