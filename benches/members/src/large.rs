//! The cost of an engine that knows many live and dead members, by what it does.
//!
//! One engine is fed with the digests that a peer would send. Nothing is encoded, so these are the
//! costs of the engine alone. They must grow in proportion to the number of members.

use std::time::{Duration, Instant};

use gossip_transport::gossip::{Engine, Event, GossipConfig, Liveness};
use gossip_transport::message::{
    ChitchatId, ChitchatMessage, DeletionStatus, Delta, Digest, KeyValueMutation, NodeDelta,
    NodeDigest, ProtocolVersion,
};
use serde::Serialize;

use crate::measurement::{addr, node_id};
use crate::ours::{id, received};

/// The number of rounds that are measured, of which the fastest counts.
const ROUNDS: u32 = 7;
const CLUSTER: &str = "bench";

#[derive(Serialize)]
pub(crate) struct Costs {
    live: usize,
    dead: usize,
    round_us: f64,
    members_us: f64,
    rumours_us: f64,
    syn_us: f64,
}

/// Prints a table of the costs of an engine that knows `members` members, of which half are dead.
pub(crate) fn print(sizes: &[usize]) -> anyhow::Result<Vec<Costs>> {
    println!(
        "\n| live | dead | round us | members() us | rumour us | Syn of all live us |\n\
         |--:|--:|--:|--:|--:|--:|"
    );
    let mut rows = Vec::new();
    for each in sizes {
        let row = measure(*each, *each)?;
        let Costs {
            live,
            dead,
            round_us,
            members_us,
            rumours_us,
            syn_us,
        } = row;
        println!(
            "| {live} | {dead} | {round_us:.0} | {members_us:.0} | {rumours_us:.0} | {syn_us:.0} |"
        );
        rows.push(row);
    }
    Ok(rows)
}

fn measure(live: usize, dead: usize) -> anyhow::Result<Costs> {
    let mut config = GossipConfig::new(CLUSTER, "unused");
    config.rng_seed = Some(1);
    config.max_members = live + dead + 1;
    let mut us = Engine::new(config, id(0), Duration::ZERO)?;
    us.handle(beat(1..live + dead + 1, 1), Duration::ZERO);
    us.handle(keys(1..live + dead + 1), Duration::ZERO);
    let mut second = 0;
    let mut fastest = [Duration::MAX; 4];
    for round in 0..ROUNDS + 3 {
        second += 1;
        let now = Duration::from_secs(second);
        let heard = beat(1..live + 1, second + 1);
        let took = [
            timed(|| drop(us.handle(Event::Round, now))),
            timed(|| drop(us.members())),
            {
                us.set("k", &second.to_string(), now)?;
                timed(|| drop(us.handle(Event::Rumours, now)))
            },
            timed(|| drop(us.handle(heard, now))),
        ];
        // All members are found live first.
        if round >= 3 {
            for (fastest, took) in fastest.iter_mut().zip(took) {
                *fastest = took.min(*fastest);
            }
        }
    }
    let members = us.members();
    let count = |l: Liveness| members.iter().filter(|m| m.liveness == l).count();
    let [round_us, members_us, rumours_us, syn_us] = fastest.map(|took| took.as_secs_f64() * 1e6);
    Ok(Costs {
        live: count(Liveness::Live),
        dead: count(Liveness::Dead),
        round_us,
        members_us,
        rumours_us,
        syn_us,
    })
}

fn timed(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

/// Returns a Syn that lists `members`, each with this heartbeat and its one key.
fn beat(members: std::ops::Range<usize>, heartbeat: u64) -> Event {
    let node = NodeDigest {
        heartbeat,
        last_gc_version: 0,
        max_version: 1,
    };
    let message = ChitchatMessage::Syn {
        version: ProtocolVersion::V0,
        cluster_id: CLUSTER.to_owned(),
        digest: Digest {
            node_digests: members.map(|n| (member(n), node)).collect(),
        },
    };
    received(addr(1), message)
}

/// Returns an Ack with one key of each of `members`.
fn keys(members: std::ops::Range<usize>) -> Event {
    let node_deltas = members.map(|n| NodeDelta {
        chitchat_id: member(n),
        last_gc_version: 0,
        from_version_excluded: 0,
        key_values: vec![KeyValueMutation {
            key: "endpoint".to_owned(),
            value: node_id(n),
            version: 1,
            status: DeletionStatus::Set,
        }],
        max_version: 1,
    });
    let message = ChitchatMessage::Ack {
        version: ProtocolVersion::V0,
        delta: Delta {
            node_deltas: node_deltas.collect(),
        },
    };
    received(addr(1), message)
}

fn member(n: usize) -> ChitchatId {
    ChitchatId::new(node_id(n), 1, addr(n))
}
