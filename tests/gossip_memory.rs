//! Measures the memory that gossip takes: the states of others, dead members, and waits for changes.
//!
//! The tests have a process of their own, since the allocator counts the allocations of all threads.
//! They run one after the other.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake};
use std::time::Duration;

use gossip_transport::gossip::{Connection, Engine, Event, GossipConfig, Participant};
use gossip_transport::memory::MemoryNetwork;
use gossip_transport::message::{
    ChitchatId, ChitchatMessage, DeletionStatus, Delta, Digest, KeyValueMutation, NodeDelta,
    NodeDigest, ProtocolVersion,
};
use gossip_transport::{Identity, NetCredential, Role, TransportLayerTransport, Trust};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_million_waits_for_a_change_that_are_dropped_take_no_memory() {
    const WAITS: usize = 1_000_000;
    let _alone = ONE_AT_A_TIME.lock();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let credential = NetCredential::generate(Trust::dangerously_anyone());
        let host = MemoryNetwork::new(1).host([10, 0, 0, 1].into());
        let transport = TransportLayerTransport::new(host, credential);
        let socket = transport.open(([10, 0, 0, 1], 7946).into()).await.unwrap();
        let config = GossipConfig::new("cluster", "node");
        let participant = Participant::join(socket, config).await.unwrap();
        let mut watch = participant.watch();
        let mut wait = || {
            // Each wait is that of another task.
            let waker = Arc::new(Task).into();
            let changed = pin!(watch.changed());
            assert!(changed.poll(&mut Context::from_waker(&waker)).is_pending());
        };
        wait();
        let before = MEMORY.current_usage();
        (0..WAITS).for_each(|_| wait());
        let taken = MEMORY.current_usage().saturating_sub(before);
        // Other tasks of the participant take and free a little meanwhile.
        assert!(taken < WAITS / 100, "{taken} bytes after {WAITS} waits");
        participant.set("k", "v").unwrap();
        assert!(watch.changed().await, "the next change is still noticed");
    });
}

fn id(n: u64) -> ChitchatId {
    ChitchatId::new(format!("node-{n:03}"), 1, ([10, 0, 0, 1], 7946).into())
}

fn received(message: ChitchatMessage) -> Event {
    Event::Message {
        from: ([10, 0, 0, 2], 7946).into(),
        identity: Identity::UNPROVED,
        role: Role::Core,
        message,
    }
}

/// Returns the memory that the system has given to this process, if the system tells.
fn resident() -> Option<usize> {
    let stat = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = stat.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// Fills an engine with keys of this length, each with a value of as many bytes, until it refuses
/// more. Returns the bytes that it has allocated, and those by which the process has grown.
fn fill(max_bytes: usize, len: usize) -> (usize, Option<usize>) {
    const BATCH: u64 = 1_000;
    let mut config = GossipConfig::new("cluster", "unused").with_rng_seed(Some(1));
    config.max_bytes = max_bytes;
    config.max_bytes_per_member = max_bytes;
    let mut us = Engine::new(
        config,
        ChitchatId::new("us", 1, ([10, 0, 0, 3], 1).into()),
        Duration::ZERO,
    )
    .unwrap();
    let (allocated, grown) = (MEMORY.current_usage(), resident());
    for member in 1..10_000 {
        let node = NodeDigest {
            heartbeat: 1,
            ..NodeDigest::default()
        };
        let message = ChitchatMessage::Syn {
            version: ProtocolVersion::V0,
            cluster_id: "cluster".to_owned(),
            digest: Digest {
                node_digests: [(id(member), node)].into(),
            },
        };
        let now = Duration::from_secs(member);
        us.handle(received(message), now);
        for batch in 0..30 {
            let key_values = (0..BATCH).map(|n| {
                // The order of keys is not that of versions.
                let number = (batch * BATCH + n).wrapping_mul(7_919) % 1_000_003;
                let mut key = format!("{number:x}");
                key.extend(std::iter::repeat_n('k', len.saturating_sub(key.len())));
                KeyValueMutation {
                    key,
                    value: "v".repeat(len),
                    version: batch * BATCH + n + 1,
                    status: DeletionStatus::Set,
                }
            });
            let delta = Delta {
                node_deltas: vec![NodeDelta {
                    chitchat_id: id(member),
                    last_gc_version: 0,
                    from_version_excluded: batch * BATCH,
                    key_values: key_values.collect(),
                    max_version: (batch + 1) * BATCH,
                }],
            };
            let version = ProtocolVersion::V0;
            us.handle(received(ChitchatMessage::Ack { version, delta }), now);
            if us.counts().refused_keys > 0 {
                let allocated = MEMORY.current_usage().saturating_sub(allocated);
                let grown = resident().zip(grown);
                return (
                    allocated,
                    grown.map(|(now, before)| now.saturating_sub(before)),
                );
            }
        }
    }
    panic!("the limit is not reached")
}

#[test]
fn the_memory_of_states_is_what_the_limit_counts_give_or_take_a_third() {
    const MAX_BYTES: usize = 64 << 20;
    let _alone = ONE_AT_A_TIME.lock();
    let mut is_first = true;
    for len in [11, 4, 40, 400] {
        let (allocated, grown) = fill(MAX_BYTES, len);
        println!("{len}: {allocated} bytes are allocated, {grown:?} resident");
        let accounted = MAX_BYTES as f64;
        let ratio = allocated as f64 / accounted;
        assert!((1.0 / 1.4..1.3).contains(&ratio), "{len}: {ratio}");
        // The later ones get the memory that the first one has given back.
        if let Some(grown) = grown.filter(|_| std::mem::take(&mut is_first)) {
            let ratio = grown as f64 / accounted;
            assert!((1.0 / 1.3..1.3).contains(&ratio), "{len}: {ratio} resident");
        }
    }
}

/// Returns the id of a page, whose address cannot be dialled.
fn page(n: u64) -> ChitchatId {
    let mut key = [7; 32];
    key[..8].copy_from_slice(&n.to_be_bytes());
    let addr = Identity::from_bytes(key).address();
    ChitchatId::new(format!("tab-{n:06}"), 1, addr)
}

/// Returns the most bytes that were allocated at once by `f`, beyond those before, and its output.
fn peak_of<T>(f: impl FnOnce() -> T) -> (usize, T) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let output = f();
    (MEMORY.peak_usage().saturating_sub(before), output)
}

#[test]
fn a_page_that_is_closed_takes_little_memory_and_makes_what_others_do_take_hardly_more() {
    const PAGES: u64 = 2_000;
    let _alone = ONE_AT_A_TIME.lock();
    let config = GossipConfig::new("cluster", "unused").with_rng_seed(Some(1));
    let mut us = Engine::new(config, id(1), Duration::ZERO).unwrap();
    let other = ([10, 0, 0, 2], 7946).into();
    let connection = Connection {
        addr: other,
        reads_v1: true,
        invite: None,
    };
    us.handle(Event::Connections(vec![connection]), Duration::ZERO);
    let version = ProtocolVersion::V1;
    // What the other node tells in each second: its own heartbeat, and those of the pages `alive`.
    let told = |second: u64, alive: std::ops::Range<u64>| {
        let beat = |id, heartbeat| {
            let digest = NodeDigest {
                heartbeat,
                max_version: 1,
                ..NodeDigest::default()
            };
            (id, digest)
        };
        let node = ChitchatId::new("other", 1, other);
        let pages = alive.clone().map(|n| beat(page(n), second));
        let node_deltas = alive.map(|n| NodeDelta {
            chitchat_id: page(n),
            last_gc_version: 0,
            from_version_excluded: 0,
            key_values: vec![KeyValueMutation {
                key: "kind".to_owned(),
                value: "tab".to_owned(),
                version: 1,
                status: DeletionStatus::Set,
            }],
            max_version: 1,
        });
        ChitchatMessage::SynAck {
            version,
            digest: Digest {
                node_digests: pages.chain([beat(node, second)]).collect(),
            },
            delta: Delta {
                node_deltas: node_deltas.collect(),
            },
        }
    };
    let before = MEMORY.current_usage();
    // Four pages are loaded in each second, and each lives for three.
    for second in 1..=PAGES / 4 {
        let now = Duration::from_secs(second);
        let alive = (second * 4).saturating_sub(12)..second * 4;
        us.handle(received(told(second, alive)), now);
        us.handle(Event::Round, now);
    }
    let kept = |us: &Engine, when: &str| {
        let bytes = MEMORY.current_usage().saturating_sub(before) / PAGES as usize;
        println!("{bytes} bytes for each page {when}");
        assert!(us.members().len() as u64 >= PAGES);
        assert!(bytes <= 800, "{bytes} bytes for each page {when}");
    };
    kept(&us, "at the end");
    for second in 1..=600 {
        let now = Duration::from_secs(PAGES / 4 + second);
        us.handle(received(told(PAGES / 4 + second, 0..0)), now);
        us.handle(Event::Round, now);
        if second == 60 || second == 600 {
            kept(&us, &format!("after {second} s"));
        }
    }
    // All pages are dead and no longer mentioned: what this member does in a second takes little more
    // memory than if there were none.
    let second = PAGES / 4 + 601;
    let (node, now) = (
        ChitchatId::new("other", 1, other),
        Duration::from_secs(second),
    );
    let heartbeat = NodeDigest {
        heartbeat: second,
        ..NodeDigest::default()
    };
    let syn = ChitchatMessage::Syn {
        version,
        cluster_id: "cluster".to_owned(),
        digest: Digest {
            node_digests: [(node, heartbeat)].into(),
        },
    };
    for (what, event) in [("an answer", received(syn)), ("a round", Event::Round)] {
        let (peak, outputs) = peak_of(|| us.handle(event, now));
        assert!(!outputs.is_empty());
        let peak = peak / PAGES as usize;
        println!("{what}: {peak} bytes for each page");
        assert!(peak <= 32, "{what}: {peak} bytes for each page");
    }
    let (peak, listed) = peak_of(|| us.liveness_of_members());
    let peak = peak / listed.len();
    println!("the list: {peak} bytes for each page");
    assert!(peak <= 100, "the list: {peak} bytes for each page");
}
