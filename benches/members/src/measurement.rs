//! The workload of both engines, and the rows of results.

use std::net::SocketAddr;

use gossip_benches::clusters::Version;
use serde::Serialize;

pub(crate) const KEYS: usize = 10;
/// The number of changes for which the rounds until all members have them are counted.
pub(crate) const CHANGES: usize = 5;
pub(crate) const MOST_ROUNDS: u32 = 100;

#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) members: usize,
    pub(crate) version: String,
    pub(crate) engine: &'static str,
    pub(crate) bytes: f64,
    pub(crate) cpu_us: f64,
    pub(crate) rounds: Vec<u32>,
}

pub(crate) fn addr(n: usize) -> SocketAddr {
    ([10, 0, (n >> 8) as u8, n as u8], 7280).into()
}

pub(crate) fn key_values(n: usize) -> Vec<(String, String)> {
    let pairs = (0..KEYS).map(|k| {
        (
            format!("service/{k}/endpoint"),
            format!("10.0.{n}.{k}:7280"),
        )
    });
    pairs.collect()
}

/// Returns the name of member `n`.
pub(crate) fn node_id(n: usize) -> String {
    format!("node-{n:04}")
}

pub(crate) fn row(
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

/// The cost of rounds, and their number: `steps` counts one for each member and round.
pub(crate) struct Cost {
    pub(crate) bytes: usize,
    pub(crate) cpu: std::time::Duration,
    pub(crate) steps: f64,
}
