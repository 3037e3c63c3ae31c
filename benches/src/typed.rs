//! Real chitchat messages through our socket, decoded on arrival.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cpu_time::ProcessTime;
use gossip_transport::message::{
    ChitchatId, ChitchatMessage, DeletionStatus, Delta, Digest, KeyValueMutation, Message,
    NodeDelta, NodeDigest, ProtocolVersion,
};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::OverflowPolicy;
use gossip_transport::{NetCredential, TransportLayerConfig, TransportLayerTransport, Trust};

use crate::peers::secret;
use crate::scenario::Throughput;

const WARM_UP: Duration = Duration::from_millis(150);
const LOOK_EVERY: u64 = 16;

/// The Syn of a member that knows `nodes` nodes.
pub fn syn(version: ProtocolVersion, nodes: u16) -> ChitchatMessage {
    let node_digests = (0..nodes).map(|n| {
        let digest = NodeDigest {
            heartbeat: 10_000 + u64::from(n),
            last_gc_version: 0,
            max_version: 40 + u64::from(n % 7),
        };
        (id(n), digest)
    });
    ChitchatMessage::Syn {
        version,
        cluster_id: "bench".to_owned(),
        digest: Digest {
            node_digests: node_digests.collect(),
        },
    }
}

/// The Ack that brings `keys` keys of one node.
pub fn ack(keys: u64) -> ChitchatMessage {
    let key_values = (1..=keys).map(|version| KeyValueMutation {
        key: format!("service/endpoint/{version}"),
        value: format!("10.20.{}.{}:7280", version % 13, version % 251),
        version,
        status: DeletionStatus::Set,
    });
    ChitchatMessage::Ack {
        version: ProtocolVersion::V0,
        delta: Delta {
            node_deltas: vec![NodeDelta {
                chitchat_id: id(1),
                last_gc_version: 0,
                from_version_excluded: 0,
                key_values: key_values.collect(),
                max_version: keys,
            }],
        },
    }
}

fn id(n: u16) -> ChitchatId {
    let addr = ([10, 0, (n >> 8) as u8, n as u8], 7280).into();
    ChitchatId::new(format!("node-{n:05}"), 1_700_000_000_000_000, addr)
}

/// Sends `message` again and again, and counts what `recv` gives, decoded.
pub async fn throughput(message: ChitchatMessage, window: Duration) -> anyhow::Result<Throughput> {
    let open = async || {
        let mut config = TransportLayerConfig::default();
        config.outgoing.overflow = OverflowPolicy::Backpressure;
        config.incoming.overflow = OverflowPolicy::Backpressure;
        let credential = NetCredential::generate(Trust::secret(secret()));
        let transport = TransportLayerTransport::<_, ChitchatMessage>::with_config(
            TcpTransport::default(),
            credential,
            config,
        );
        anyhow::Ok(transport.open("127.0.0.1:0".parse()?).await?)
    };
    let receiver = open().await?;
    let sender = open().await?;
    let to = receiver.local_addr();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let sending = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            for _ in 0..LOOK_EVERY {
                sender.send(to, message.clone()).await?;
            }
        }
        anyhow::Ok(())
    });
    let receiving = tokio::spawn(async move {
        let begin = Instant::now();
        let mut measured: Option<(Instant, ProcessTime)> = None;
        let mut count = 0_u64;
        loop {
            for _ in 0..LOOK_EVERY {
                receiver.recv().await?;
                count += 1;
            }
            match measured {
                None if begin.elapsed() >= WARM_UP => {
                    measured = Some((Instant::now(), ProcessTime::now()));
                    count = 0;
                }
                Some((since, cpu)) if since.elapsed() >= window => {
                    return anyhow::Ok(Throughput {
                        per_second: count as f64 / since.elapsed().as_secs_f64(),
                        cpu_ns: cpu.elapsed().as_nanos() as f64 / count as f64,
                    });
                }
                _ => {}
            }
        }
    });
    let measured = receiving.await?;
    stop.store(true, Ordering::Relaxed);
    sending.abort();
    let _ = sending.await;
    measured
}

/// The bytes of `message`, for a peer that carries bytes only.
pub fn bytes(message: ChitchatMessage) -> anyhow::Result<Bytes> {
    Ok(message.into_bytes()?)
}
