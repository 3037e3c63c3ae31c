//! What can be set; where upstream chitchat has a default, it is that one.
//!
//! Values only. Invariant: the defaults alone make a member that upstream members accept.

use std::net::SocketAddr;
use std::time::Duration;

use crate::message::{MAX_DATAGRAM_LEN, ProtocolVersion};

/// A participant's configuration.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GossipConfig {
    /// Only members of the same cluster talk to each other.
    pub cluster_id: String,
    /// A name unique over the cluster.
    pub node_id: String,
    /// Must rise with every start. Default: the start time, in microseconds since 1970.
    pub generation_id: Option<u64>,
    /// Where others reach us. Default: the socket's bound address; if that cannot be dialled (a
    /// browser, or an unspecified address), the address under which the first peer sees us.
    pub advertise_addr: Option<SocketAddr>,
    /// Members to begin with, as the network resolves them (`host:port`). Asked again over time.
    pub seeds: Vec<String>,
    /// Time between rounds. Default 1 s.
    pub gossip_interval: Duration,
    /// When a member counts as dead.
    pub failure_detector: FailureDetectorConfig,
    /// How long a deleted key's tombstone is kept. Default 2 h.
    pub marked_for_deletion_grace_period: Duration,
    /// The version to open exchanges with; replies echo what they answer. Default V0, which every
    /// published version understands.
    pub protocol_version: ProtocolVersion,
    /// The longest message to send, in bytes; at least 8,192. Default 65,507: what fits a UDP
    /// datagram.
    pub max_message_len: usize,
    /// Members that are remembered at a time; more are counted and not taken in. Default 10,000.
    pub max_members: usize,
    /// Bytes of keys and values that a member may have, with 64 more for each key. A key of ours
    /// that would go beyond is refused; of another member, up to twice as much is kept. Default
    /// 4 MiB.
    pub max_bytes_per_member: usize,
    /// Bytes of keys and values, counted likewise, that are kept of all other members together.
    /// Keys that would go beyond are not taken in until there is room again, and counted. Default
    /// 64 MiB.
    pub max_bytes: usize,
    /// Keys to set before the first round.
    pub initial_key_values: Vec<(String, String)>,
    /// How news travels between rounds.
    pub rumours: RumourConfig,
    /// Seeds the choice of peers; the same seed gives the same trace. Default: random.
    pub rng_seed: Option<u64>,
}

impl GossipConfig {
    /// The default time between rounds, which is upstream's.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

    /// Sets the time between rounds, and scales the failure detector with it: its initial interval
    /// is 5 times and its longest counted interval 10 times as long, as upstream's are at the
    /// default of 1 s. All members of a cluster should use the same interval.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.gossip_interval = interval;
        self.failure_detector.initial_interval = interval.saturating_mul(5);
        self.failure_detector.max_interval = interval.saturating_mul(10);
        self
    }

    /// The defaults, for `node_id` in `cluster_id`.
    pub fn new(cluster_id: impl Into<String>, node_id: impl Into<String>) -> Self {
        Self {
            cluster_id: cluster_id.into(),
            node_id: node_id.into(),
            generation_id: None,
            advertise_addr: None,
            seeds: Vec::new(),
            gossip_interval: Self::DEFAULT_INTERVAL,
            failure_detector: FailureDetectorConfig::default(),
            marked_for_deletion_grace_period: Duration::from_secs(7200),
            protocol_version: ProtocolVersion::V0,
            max_message_len: MAX_DATAGRAM_LEN,
            max_members: 10_000,
            max_bytes_per_member: 4 << 20,
            max_bytes: 64 << 20,
            initial_key_values: Vec::new(),
            rumours: RumourConfig::default(),
            rng_seed: None,
        }
    }
}

/// Telling news at once: what is set here, and what is learnt from others, is told to a few live
/// members, several times, so that everyone has it long before the rounds would bring it. Members
/// of the published crate understand it, and do not pass it on but in their rounds.
///
/// Without news nothing is sent. Heartbeats are no news.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RumourConfig {
    /// Time between two tellings, in which further news is gathered. The first is told at once.
    /// Not zero. Default 20 ms.
    pub interval: Duration,
    /// Members that are told at a time; 0 leaves everything to the rounds. A member tells each
    /// rumour to `ln(members) + 5` others in all: 12 of 100 members, in three tellings. Default 4.
    pub fanout: usize,
    /// What a member's rumours may cost it, in bytes of messages before compression; unused, it
    /// adds up to one second's worth. What goes beyond waits, or is left to the rounds. At least
    /// 1 KiB for each of `fanout`. Default 256 KiB.
    pub max_bytes_per_second: usize,
}

impl RumourConfig {
    pub(super) fn is_off(&self) -> bool {
        self.fanout == 0
    }

    /// Bytes for each that is told, after a second of silence.
    pub(super) fn room_at_most(&self) -> usize {
        self.max_bytes_per_second / self.fanout.max(1)
    }
}

impl Default for RumourConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(20),
            fanout: 4,
            max_bytes_per_second: 256 << 10,
        }
    }
}

/// Phi-accrual failure detection (Hayashibara et al., 2004), as upstream has it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FailureDetectorConfig {
    /// Suspicion above which a member is dead. Default 8.
    pub phi_threshold: f64,
    /// Heartbeat intervals that are remembered. Default 1,000.
    pub sampling_window_size: usize,
    /// Longer intervals are not counted. Default 10 s.
    pub max_interval: Duration,
    /// The prior interval. Default 5 s.
    pub initial_interval: Duration,
    /// A dead member is forgotten after this. Default 24 h.
    pub dead_node_grace_period: Duration,
}

impl Default for FailureDetectorConfig {
    fn default() -> Self {
        Self {
            phi_threshold: 8.0,
            sampling_window_size: 1000,
            max_interval: Duration::from_secs(10),
            initial_interval: Duration::from_secs(5),
            dead_node_grace_period: Duration::from_secs(24 * 3600),
        }
    }
}
