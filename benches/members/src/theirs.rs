//! Upstream's nodes in virtual time.

use std::time::Duration;

use chitchat::transport::ChannelTransport;
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, DeletionStatus, FailureDetectorConfig,
    VersionedValue, spawn_chitchat,
};
use cpu_time::ProcessTime;
use gossip_benches::clusters::Version;

use crate::measurement::{CHANGES, Cost, KEYS, MOST_ROUNDS, Row, addr, key_values, node_id, row};

const ROUND: Duration = Duration::from_secs(1);

/// Measures upstream's nodes. Returns `None` if they do not learn of all members.
pub(crate) fn measure(
    members: usize,
    version: Version,
    measured: u32,
    fed: bool,
) -> anyhow::Result<Option<Row>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    runtime.block_on(run(members, version, measured, fed))
}

async fn run(
    members: usize,
    version: Version,
    measured: u32,
    fed: bool,
) -> anyhow::Result<Option<Row>> {
    let running = if fed { 2 } else { members };
    let transport = ChannelTransport::default();
    let nodes = start(running, version, &transport).await?;
    if fed {
        for node in &nodes {
            feed(node, running..members).await;
        }
    }
    let last = format!("service/{}/endpoint", KEYS - 1);
    for waited in 0.. {
        if waited > MOST_ROUNDS {
            return Ok(None);
        }
        tokio::time::sleep(ROUND).await;
        let mut complete = true;
        for node in &nodes {
            let chitchat = node.chitchat();
            let chitchat = chitchat.lock().await;
            let states = chitchat.node_states();
            complete &=
                states.len() == members && states.values().all(|state| state.get(&last).is_some());
        }
        if complete {
            break;
        }
    }
    tokio::time::sleep(3 * ROUND).await;
    let before = transport.statistics().num_bytes_total as usize;
    let cpu = ProcessTime::now();
    tokio::time::sleep(ROUND * measured).await;
    let cost = Cost {
        cpu: cpu.elapsed(),
        bytes: transport.statistics().num_bytes_total as usize - before,
        steps: f64::from(measured) * running as f64,
    };
    let mut rounds = Vec::new();
    let mut rng = fastrand::Rng::with_seed(1);
    for change in 0..if fed { 0 } else { CHANGES } {
        let (of, value) = (rng.usize(0..members), change.to_string());
        let chitchat = nodes[of].chitchat();
        chitchat.lock().await.self_node_state().set("k", &value);
        let mut count = 0;
        while !all_have(&nodes, nodes[of].chitchat_id(), &value).await && count < MOST_ROUNDS {
            tokio::time::sleep(ROUND).await;
            count += 1;
        }
        rounds.push(count);
    }
    Ok(Some(row(members, version, "chitchat", &cost, rounds)))
}

async fn start(
    members: usize,
    version: Version,
    transport: &ChannelTransport,
) -> anyhow::Result<Vec<ChitchatHandle>> {
    let mut nodes = Vec::with_capacity(members);
    for n in 0..members {
        // Spreads their rounds over the second.
        tokio::time::sleep(ROUND / members as u32).await;
        let config = ChitchatConfig {
            chitchat_id: id(n),
            cluster_id: "bench".to_owned(),
            gossip_interval: ROUND,
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
        nodes.push(spawn_chitchat(config, key_values(n), transport).await?);
    }
    Ok(nodes)
}

/// Loads the states of `members` into `node`, as if it had received them.
async fn feed(node: &ChitchatHandle, members: std::ops::Range<usize>) {
    let chitchat = node.chitchat();
    let mut chitchat = chitchat.lock().await;
    for n in members {
        let set = key_values(n).into_iter().zip(1..);
        let set = set.map(|((key, value), version)| {
            let status = DeletionStatus::Set;
            let value = VersionedValue {
                value,
                version,
                status,
            };
            (key, value)
        });
        chitchat.reset_node_state_if_update(&id(n), set, KEYS as u64, 0);
    }
}

async fn all_have(nodes: &[ChitchatHandle], of: &ChitchatId, value: &str) -> bool {
    for node in nodes {
        let chitchat = node.chitchat();
        let chitchat = chitchat.lock().await;
        let state = chitchat.node_state(of);
        if state.and_then(|state| state.get("k")) != Some(value) {
            return false;
        }
    }
    true
}

fn id(n: usize) -> ChitchatId {
    ChitchatId::new(node_id(n), 1, addr(n))
}
