//! An unmodified node of the published chitchat crate on that crate's own UDP transport, with the
//! parts of `gossip-node`'s command line and HTTP interface that `cargo xtask demo --upstream` uses.
//!
//! It uses no code of this workspace.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use chitchat::transport::UdpTransport;
use chitchat::{ChitchatConfig, ChitchatHandle, FailureDetectorConfig, spawn_chitchat};
use clap::Parser;
use serde_json::{Value, json};

#[derive(Debug, Parser)]
struct Args {
    /// Address for gossip, over UDP
    #[arg(long)]
    listen: SocketAddr,
    /// Address for /status and /keys
    #[arg(long)]
    http: SocketAddr,
    #[arg(long)]
    cluster: String,
    #[arg(long)]
    id: String,
    #[arg(long = "seed")]
    seeds: Vec<String>,
    #[arg(long)]
    gossip_interval_ms: u64,
    /// File to write once everything is bound
    #[arg(long)]
    ready_file: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let interval = Duration::from_millis(args.gossip_interval_ms);
    let listen = match args.listen.port() {
        // The chitchat crate needs the address, port included, before it binds the socket.
        0 => std::net::UdpSocket::bind(args.listen)?.local_addr()?,
        _ => args.listen,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "the portable wrapper is part of this workspace's library"
    )]
    let now = SystemTime::now();
    let generation = now.duration_since(UNIX_EPOCH)?.as_micros() as u64;
    let config = ChitchatConfig {
        chitchat_id: chitchat::ChitchatId::new(&*args.id, generation, listen),
        cluster_id: args.cluster,
        gossip_interval: interval,
        listen_addr: listen,
        seed_nodes: args.seeds,
        failure_detector_config: FailureDetectorConfig {
            initial_interval: interval * 5,
            max_interval: interval * 10,
            ..FailureDetectorConfig::default()
        },
        marked_for_deletion_grace_period: Duration::from_secs(7200),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: chitchat::ProtocolVersion::V0,
    };
    let node = Arc::new(spawn_chitchat(config, Vec::new(), &UdpTransport).await?);
    let app = Router::new()
        .route("/status", get(status))
        .route("/keys/{key}", post(set).delete(delete))
        .with_state(Arc::clone(&node));
    let http = tokio::net::TcpListener::bind(args.http).await?;
    let ready = json!({ "gossip": listen, "http": http.local_addr()? });
    let temporary = args.ready_file.with_extension("tmp");
    std::fs::write(&temporary, ready.to_string())?;
    std::fs::rename(&temporary, &args.ready_file).context("cannot write the ready file")?;
    axum::serve(http, app).await?;
    Ok(())
}

async fn status(State(node): State<Arc<ChitchatHandle>>) -> Json<Value> {
    let own = node.chitchat_id().clone();
    let members = node.with_chitchat(|chitchat| {
        let live: Vec<_> = chitchat.live_nodes().cloned().collect();
        let members = chitchat.node_states().iter().map(|(id, state)| {
            let keys: BTreeMap<_, _> = state.key_values().collect();
            json!({
                "id": id.node_id,
                "generation": id.generation_id,
                "addr": id.gossip_advertise_addr,
                "live": live.contains(id),
                "self": *id == own,
                "keys": keys,
            })
        });
        members.collect::<Vec<_>>()
    });
    Json(json!({ "members": members.await }))
}

async fn set(
    State(node): State<Arc<ChitchatHandle>>,
    Path(key): Path<String>,
    value: String,
) -> StatusCode {
    node.with_chitchat(|chitchat| chitchat.self_node_state().set(&key, &value))
        .await;
    StatusCode::NO_CONTENT
}

async fn delete(State(node): State<Arc<ChitchatHandle>>, Path(key): Path<String>) -> StatusCode {
    node.with_chitchat(|chitchat| chitchat.self_node_state().delete(&key))
        .await;
    StatusCode::NO_CONTENT
}
