//! How the cost of gossip grows with the number of members: our engine beside upstream's.
//!
//! `members [N ...]`: all of them in this process and in virtual time. Ours are engines between
//! which every message is encoded and decoded; upstream's are its nodes on its in-memory
//! `ChannelTransport`, which does so as well (and compares what comes out), on tokio's paused
//! clock. Rumours are off: it is about rounds. Each member has ten keys.
//!
//! With more members than [`MOST_MEMBERS`] there are only two, which have been given the states of
//! all others: a round is one exchange then, and convergence cannot be told.

mod ours;
mod theirs;

use std::net::SocketAddr;

use gossip_benches::clusters::Version;
use gossip_benches::report::write_json;
use serde::Serialize;

/// What fits into memory: each member knows all.
const MOST_MEMBERS: usize = 1000;

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
        sizes = vec![10, 100, 1000, 5000];
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
            let fed = members > MOST_MEMBERS;
            let who = if fed {
                format!("2 that know {members}")
            } else {
                members.to_string()
            };
            for row in [
                Some(ours::measure(members, version, measured, fed)?),
                theirs::measure(members, version, measured, fed)?,
            ] {
                let Some(row) = row else {
                    println!("| {who} | {version:?} | chitchat | - | - | they never know all |");
                    continue;
                };
                println!(
                    "| {who} | {} | {} | {:.0} | {:.0} | {} |",
                    row.version,
                    row.engine,
                    row.bytes,
                    row.cpu_us,
                    rounds_text(row.rounds.clone()),
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

fn rounds_text(mut rounds: Vec<u32>) -> String {
    rounds.sort_unstable();
    match rounds.last() {
        Some(last) => format!("{} ({last})", rounds[rounds.len() / 2]),
        None => "-".to_owned(),
    }
}

/// Each of `members`, by its number.
fn node_id(n: usize) -> String {
    format!("node-{n:04}")
}

fn row(
    members: usize,
    version: Version,
    engine: &'static str,
    cost: &Cost,
    rounds: Vec<u32>,
) -> Row {
    Row {
        members,
        version: format!("{version:?}"),
        engine,
        bytes: cost.bytes as f64 / cost.steps,
        cpu_us: cost.cpu.as_secs_f64() * 1e6 / cost.steps,
        rounds,
    }
}

/// What so many members' rounds have cost.
struct Cost {
    bytes: usize,
    cpu: std::time::Duration,
    steps: f64,
}
