//! The configuration of a participant and its engine.
//!
//! Values and their bounds; nothing here acts. Where the published `chitchat` crate has a default,
//! it is the same here. Invariant: the defaults make a member that members of the published crate
//! accept.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{ConfigError, Value as _, at_least, setters};
use crate::message::{MAX_DATAGRAM_LEN, ProtocolVersion};

/// The longest name of a member or a cluster, in bytes. A few longer ones could fill every message.
pub(super) const MAX_NAME_LEN: usize = 1024;
/// The longest name of a member that holds an invite, in bytes: twice as long as the longest prefix that an invite may
/// demand. Every member sends the names of all others with each digest, so strangers may not have the longest ones.
pub(super) const MAX_LEAF_NAME_LEN: usize = 256;
/// The shortest allowed `max_message_len`, in bytes: room for the longest names, the digest of a
/// few other members, and changes.
const MIN_MESSAGE_LEN: usize = 8 << 10;
/// The room of a rumour, in bytes, below which it waits until there is more.
pub(super) const MIN_RUMOUR_ROOM: usize = 1 << 10;
/// The shortest allowed interval. Timers are no finer on most systems.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// The configuration of a participant.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GossipConfig {
    /// The name of the cluster, 1 to 1,024 bytes without control characters. Members with different names refuse each
    /// other.
    pub cluster_id: String,
    /// The name of this member, 1 to 1,024 bytes without control characters. It must be unique in the cluster.
    pub node_id: String,
    /// A number that must be higher after every start of this member. Default: the start time, in
    /// microseconds since 1970.
    pub generation_id: Option<u64>,
    /// The address at which other members reach this one. Default: the address that the socket
    /// [states](crate::TransportLayerSocket::advertised_addr), which is its bound address, or the
    /// key address of its identity if that cannot be dialled (in a browser, or because it is
    /// unspecified). It must be an address that others can dial, or a key address.
    pub advertise_addr: Option<SocketAddr>,
    /// The members to contact first, as the network resolves them (`host:port`). They are resolved
    /// again from time to time.
    pub seeds: Vec<String>,
    /// The members that this one may dial. The others it reaches over connections that exist, or
    /// not at all. Default: every member.
    pub dial: DialPolicy,
    /// The time between rounds, at least 1 ms. Default 1 s.
    pub gossip_interval: Duration,
    /// When a member counts as dead. Its `max_interval` must be at least twice the
    /// `gossip_interval`, since it counts no heartbeats that come more rarely, and so would find no
    /// member live.
    pub failure_detector: FailureDetectorConfig,
    /// The time for which the tombstone of a deleted key is kept, at least 1 ms. Default 2 h.
    pub marked_for_deletion_grace_period: Duration,
    /// The version in which members are addressed that may be of the published crate. A reply has
    /// the version of the message that it answers, and members that are known to be of this crate
    /// are addressed in V1 ([`Connection::reads_v1`](super::Connection::reads_v1)). Default V0,
    /// which every published version of the crate understands.
    pub protocol_version: ProtocolVersion,
    /// The longest message to send, in bytes; at least 8,192. Default 65,507, the most that a UDP
    /// datagram carries. The keys of a member that holds an invite may take three quarters of it, if its quotas allow more.
    pub max_message_len: usize,
    /// The largest number of members that are remembered, at least 1. Further members are refused
    /// and counted. Default 10,000.
    pub max_members: usize,
    /// The largest size of the keys and values of one member, in bytes, counting 64 more for each
    /// key; at least 1. Setting a key of our own beyond it fails. Of another member, up to twice as
    /// much is kept. Default 4 MiB.
    pub max_bytes_per_member: usize,
    /// The largest size of the keys and values of all other members together, in bytes, counted in
    /// the same way; at least 1. Keys beyond it are refused and counted until there is room again.
    /// Default 64 MiB.
    pub max_bytes: usize,
    /// The largest number of members of which this one tells peers over UDP in a day. Members at key addresses beyond it,
    /// such as browser tabs, are not mentioned to them, and counted ([`Denial::Hidden`](super::Denial::Hidden)); all
    /// others always are. Nodes of the published crate that use version 0 panic if they know of more than about 1,070
    /// members, and of fewer if the names are long: so however large this is, tabs are mentioned only while a digest of all
    /// that are mentioned takes at most 48 KiB. Tabs that these peers list already count, so
    /// that several bridges share the number, and one that is started again goes on with it.
    /// 0 mentions no tab. Default 500.
    pub max_udp_members: usize,
    /// Keys to set before the first round.
    pub initial_key_values: Vec<(String, String)>,
    /// The configuration of rumours, which push changes between rounds.
    pub rumours: RumourConfig,
    /// The seed of the random choice of members. With the same seed, the same calls produce the
    /// same outputs. Default: random.
    pub rng_seed: Option<u64>,
}

impl GossipConfig {
    /// The default time between rounds, which is that of the published crate.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
    /// The shortest time between rounds that an application should let its users choose. `gossip-node` and the module
    /// for browsers refuse shorter ones, which cost CPU time and bytes at rest while rumours are as fast anyway.
    pub const MIN_RECOMMENDED_INTERVAL: Duration = Duration::from_millis(10);
    /// The longest time between rounds that an application should let its users choose. `gossip-node` and the module
    /// for browsers refuse longer ones, with which a stopped member would count as live for many hours.
    pub const MAX_RECOMMENDED_INTERVAL: Duration = Duration::from_secs(3600);

    /// Returns the default configuration of a member named `node_id` in the cluster `cluster_id`.
    pub fn new(cluster_id: impl Into<String>, node_id: impl Into<String>) -> Self {
        Self {
            cluster_id: cluster_id.into(),
            node_id: node_id.into(),
            generation_id: None,
            advertise_addr: None,
            seeds: Vec::new(),
            dial: DialPolicy::Anyone,
            gossip_interval: Self::DEFAULT_INTERVAL,
            failure_detector: FailureDetectorConfig::default(),
            marked_for_deletion_grace_period: Duration::from_secs(7200),
            protocol_version: ProtocolVersion::V0,
            max_message_len: MAX_DATAGRAM_LEN,
            max_members: 10_000,
            max_bytes_per_member: 4 << 20,
            max_bytes: 64 << 20,
            max_udp_members: 500,
            initial_key_values: Vec::new(),
            rumours: RumourConfig::default(),
            rng_seed: None,
        }
    }

    setters! {
        with_generation_id => generation_id: Option<u64>,
        with_advertise_addr => advertise_addr: Option<SocketAddr>,
        with_seeds => seeds: Vec<String>,
        with_dial => dial: DialPolicy,
        with_gossip_interval => gossip_interval: Duration,
        with_failure_detector => failure_detector: FailureDetectorConfig,
        with_marked_for_deletion_grace_period => marked_for_deletion_grace_period: Duration,
        with_protocol_version => protocol_version: ProtocolVersion,
        with_max_message_len => max_message_len: usize,
        with_max_members => max_members: usize,
        with_max_bytes_per_member => max_bytes_per_member: usize,
        with_max_bytes => max_bytes: usize,
        with_max_udp_members => max_udp_members: usize,
        with_initial_key_values => initial_key_values: Vec<(String, String)>,
        with_rumours => rumours: RumourConfig,
        with_rng_seed => rng_seed: Option<u64>,
    }

    /// Sets the time between rounds, and scales the failure detector with it: its initial interval
    /// is 5 times and its longest counted interval 10 times as long, as they are in the published
    /// crate at the default of 1 s. If the interval is longer than 72 min, dead members are remembered
    /// for 20 intervals. All members of a cluster should use the same interval.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.gossip_interval = interval;
        self.failure_detector.initial_interval = interval.saturating_mul(5);
        self.failure_detector.max_interval = interval.saturating_mul(10);
        let grace = &mut self.failure_detector.dead_node_grace_period;
        *grace = interval.saturating_mul(20).max(*grace);
        self
    }

    /// Checks what a member with an invite must fulfil beyond what all must: others refuse it with a longer name.
    pub(in crate::gossip) fn validate_for_invite(&self) -> Result<(), ConfigError> {
        name_fits("node_id", &self.node_id, MAX_LEAF_NAME_LEN)
    }

    /// Checks every value except `advertise_addr`, for which one must know networks.
    pub(in crate::gossip) fn validate_values(&self) -> Result<(), ConfigError> {
        name_fits("cluster_id", &self.cluster_id, MAX_NAME_LEN)?;
        name_fits("node_id", &self.node_id, MAX_NAME_LEN)?;
        at_least("gossip_interval", self.gossip_interval, MIN_INTERVAL)?;
        let longest = self.failure_detector.max_interval;
        let detector = self.failure_detector.validate();
        detector
            .and_then(|()| at_least("max_interval", longest, self.gossip_interval * 2))
            .map_err(|e| e.inside("failure_detector"))?;
        let grace = self.marked_for_deletion_grace_period;
        at_least("marked_for_deletion_grace_period", grace, MIN_INTERVAL)?;
        at_least("max_message_len", self.max_message_len, MIN_MESSAGE_LEN)?;
        at_least("max_members", self.max_members, 1)?;
        at_least("max_bytes_per_member", self.max_bytes_per_member, 1)?;
        at_least("max_bytes", self.max_bytes, 1)?;
        self.rumours.validate().map_err(|e| e.inside("rumours"))
    }
}

/// The members that a member may dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DialPolicy {
    /// Every member, at the address that it advertises.
    #[default]
    Anyone,
    /// The seeds only. A browser tab needs this: the addresses that native members advertise are
    /// not those at which a page may open a WebSocket. It gossips over the connections that it has.
    SeedsOnly,
}

/// The configuration of rumours: changes that are pushed between rounds.
///
/// A change that is made here or learnt from another member is sent to a few live members at once,
/// so that all members have it long before the rounds would bring it. A member that does not receive
/// it as often as expected sends it a few times more. Members of the published crate apply it, and
/// pass it on in their rounds only.
///
/// Without changes nothing is sent. A heartbeat is not a change.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RumourConfig {
    /// The time between two transmissions, at least 1 ms. Changes in between are gathered; the
    /// first change after a pause is sent at once. Default 20 ms.
    pub interval: Duration,
    /// The number of members to which each transmission is sent; 0 turns rumours off and leaves all
    /// changes to the rounds. The first transmission also goes to every connected member that only
    /// its connections reach, such as a browser tab. Default 4.
    pub fanout: usize,
    /// The number of bytes that a member may send as rumours in a second, counted before
    /// compression. Up to one second's worth is saved while nothing is sent. Changes beyond it wait
    /// or are left to the rounds. At least 1 KiB for each of `fanout`. Default 256 KiB.
    pub max_bytes_per_second: usize,
}

impl RumourConfig {
    setters! {
        with_interval => interval: Duration,
        with_fanout => fanout: usize,
        with_max_bytes_per_second => max_bytes_per_second: usize,
    }

    /// Checks every value. If rumours are turned off (`fanout` is 0), all are accepted.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.fanout == 0 {
            return Ok(());
        }
        at_least("interval", self.interval, MIN_INTERVAL)?;
        at_least(
            "max_bytes_per_second",
            self.max_bytes_per_second,
            MIN_RUMOUR_ROOM.saturating_mul(self.fanout),
        )
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

/// The configuration of the phi-accrual failure detector (Hayashibara et al., 2004), in the form
/// that the published crate uses.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FailureDetectorConfig {
    /// The value of phi above which a member is dead. It must be positive and finite. Default 8.
    pub phi_threshold: f64,
    /// The number of intervals between heartbeats that are remembered of each member, at least 1.
    /// Default 1,000.
    pub sampling_window_size: usize,
    /// The longest interval between heartbeats that is counted, at least 1 ms. Default 10 s.
    pub max_interval: Duration,
    /// The interval that is assumed before any was measured, at least 1 ms. It counts for five
    /// measured ones. Default 5 s.
    pub initial_interval: Duration,
    /// The time for which a dead member is remembered, at least twice `max_interval`: a member is dead
    /// until two of its heartbeats were received, and must not be forgotten before. Default 24 h.
    pub dead_node_grace_period: Duration,
}

impl FailureDetectorConfig {
    setters! {
        with_phi_threshold => phi_threshold: f64,
        with_sampling_window_size => sampling_window_size: usize,
        with_max_interval => max_interval: Duration,
        with_initial_interval => initial_interval: Duration,
        with_dead_node_grace_period => dead_node_grace_period: Duration,
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let phi = self.phi_threshold;
        if !(phi.is_finite() && phi > 0.0) {
            let bound = "positive and finite";
            return Err(ConfigError::new("phi_threshold", phi.text(), bound));
        }
        at_least("sampling_window_size", self.sampling_window_size, 1)?;
        at_least("max_interval", self.max_interval, MIN_INTERVAL)?;
        at_least("initial_interval", self.initial_interval, MIN_INTERVAL)?;
        let grace = self.dead_node_grace_period;
        at_least("dead_node_grace_period", grace, self.max_interval * 2)
    }
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

/// Fails if `name` is empty, longer than `most` bytes (the error states its length instead of its
/// text), or contains a control character, such as the end of a line.
fn name_fits(field: &'static str, name: &str, most: usize) -> Result<(), ConfigError> {
    let (value, bound) = if name.len() > most {
        let bound = format!("at most {most} bytes long");
        (format!("{} bytes long", name.len()), bound)
    } else if name.is_empty() {
        ("empty".to_owned(), "at least 1 byte long".to_owned())
    } else if name.chars().any(char::is_control) {
        let bound = "without control characters".to_owned();
        (format!("\"{}\"", name.escape_default()), bound)
    } else {
        return Ok(());
    };
    Err(ConfigError::new(field, value, bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_accepted_at_its_bound_and_refused_beyond_it() {
        type Change = fn(&mut GossipConfig);
        const SHORT: Duration = Duration::from_micros(999);
        // At the bound, beyond it, and the error.
        let cases: [(Change, Change, &str); 22] = [
            (
                |c| c.cluster_id = "x".repeat(1024),
                |c| c.cluster_id = "x".repeat(1025),
                "cluster_id is 1025 bytes long, but must be at most 1024 bytes long",
            ),
            (
                |c| c.node_id = "x".repeat(1024),
                |c| c.node_id = "x".repeat(1025),
                "node_id is 1025 bytes long, but must be at most 1024 bytes long",
            ),
            (
                |c| c.gossip_interval = MIN_INTERVAL,
                |c| c.gossip_interval = SHORT,
                "gossip_interval is 999µs, but must be at least 1ms",
            ),
            (
                |c| c.failure_detector.phi_threshold = f64::MIN_POSITIVE,
                |c| c.failure_detector.phi_threshold = 0.0,
                "failure_detector.phi_threshold is 0.000, but must be positive and finite",
            ),
            (
                |c| c.failure_detector.phi_threshold = f64::MAX,
                |c| c.failure_detector.phi_threshold = f64::NAN,
                "failure_detector.phi_threshold is NaN, but must be positive and finite",
            ),
            (
                |c| c.failure_detector.phi_threshold = f64::MAX,
                |c| c.failure_detector.phi_threshold = f64::INFINITY,
                "failure_detector.phi_threshold is infinite, but must be positive and finite",
            ),
            (
                |c| c.failure_detector.sampling_window_size = 1,
                |c| c.failure_detector.sampling_window_size = 0,
                "failure_detector.sampling_window_size is 0, but must be at least 1",
            ),
            (
                |c| c.failure_detector.max_interval = Duration::from_secs(2),
                |c| c.failure_detector.max_interval = SHORT,
                "failure_detector.max_interval is 999µs, but must be at least 1ms",
            ),
            (
                |c| c.gossip_interval = Duration::from_secs(5),
                |c| c.gossip_interval = Duration::from_secs(15),
                "failure_detector.max_interval is 10s, but must be at least 30s",
            ),
            (
                |c| c.cluster_id = "x".to_owned(),
                |c| c.cluster_id = String::new(),
                "cluster_id is empty, but must be at least 1 byte long",
            ),
            (
                |c| c.node_id = " ".to_owned(),
                |c| c.node_id = String::new(),
                "node_id is empty, but must be at least 1 byte long",
            ),
            (
                |c| c.node_id = "\u{e4}".to_owned(),
                |c| c.node_id = "a\nb".to_owned(),
                "node_id is \"a\\nb\", but must be without control characters",
            ),
            (
                |c| c.marked_for_deletion_grace_period = MIN_INTERVAL,
                |c| c.marked_for_deletion_grace_period = Duration::ZERO,
                "marked_for_deletion_grace_period is 0ns, but must be at least 1ms",
            ),
            (
                |c| c.failure_detector.initial_interval = MIN_INTERVAL,
                |c| c.failure_detector.initial_interval = SHORT,
                "failure_detector.initial_interval is 999µs, but must be at least 1ms",
            ),
            (
                |c| c.failure_detector.dead_node_grace_period = Duration::from_secs(20),
                |c| c.failure_detector.dead_node_grace_period = Duration::ZERO,
                "failure_detector.dead_node_grace_period is 0ns, but must be at least 20s",
            ),
            (
                |c| c.max_message_len = 8192,
                |c| c.max_message_len = 8191,
                "max_message_len is 8191, but must be at least 8192",
            ),
            (
                |c| c.max_members = 1,
                |c| c.max_members = 0,
                "max_members is 0, but must be at least 1",
            ),
            (
                |c| c.max_bytes_per_member = 1,
                |c| c.max_bytes_per_member = 0,
                "max_bytes_per_member is 0, but must be at least 1",
            ),
            (
                |c| c.max_bytes = 1,
                |c| c.max_bytes = 0,
                "max_bytes is 0, but must be at least 1",
            ),
            (
                |c| c.advertise_addr = Some(([192, 0, 2, 1], 1).into()),
                |c| c.advertise_addr = Some(([0, 0, 0, 0], 1).into()),
                "advertise_addr is 0.0.0.0:1, but must be an address that others can dial, or a key address",
            ),
            (
                |c| c.rumours.interval = MIN_INTERVAL,
                |c| c.rumours.interval = SHORT,
                "rumours.interval is 999µs, but must be at least 1ms",
            ),
            (
                |c| c.rumours.max_bytes_per_second = 4096,
                |c| c.rumours.max_bytes_per_second = 4095,
                "rumours.max_bytes_per_second is 4095, but must be at least 4096",
            ),
        ];
        for (at_bound, beyond, text) in cases {
            let mut config = GossipConfig::new("cluster", "node");
            at_bound(&mut config);
            assert_eq!(config.validate(), Ok(()), "{text}");
            beyond(&mut config);
            assert_eq!(config.validate().unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn values_of_rumours_that_are_turned_off_are_not_checked() {
        let rumours = RumourConfig::default()
            .with_fanout(0)
            .with_interval(Duration::ZERO)
            .with_max_bytes_per_second(0);
        let config = GossipConfig::new("cluster", "node").with_rumours(rumours);
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn the_failure_detector_scales_with_the_interval() {
        let interval = GossipConfig::DEFAULT_INTERVAL;
        let config = GossipConfig::new("cluster", "node").with_interval(interval);
        let (scaled, default) = (config.failure_detector, FailureDetectorConfig::default());
        assert_eq!(scaled.initial_interval, default.initial_interval);
        assert_eq!(scaled.max_interval, default.max_interval);
        for interval in [
            MIN_INTERVAL,
            Duration::from_secs(15),
            Duration::from_secs(86_400),
        ] {
            let config = GossipConfig::new("cluster", "node").with_interval(interval);
            assert_eq!(config.validate(), Ok(()), "{interval:?}");
        }
    }

    #[test]
    fn a_time_that_would_overflow_the_clock_is_refused() {
        type Change = fn(&mut GossipConfig);
        let cases: [(Change, &str); 6] = [
            (|c| c.gossip_interval = Duration::MAX, "gossip_interval"),
            (
                |c| c.failure_detector.max_interval = Duration::MAX,
                "failure_detector.max_interval",
            ),
            (
                |c| c.failure_detector.initial_interval = Duration::MAX,
                "failure_detector.initial_interval",
            ),
            (
                |c| c.failure_detector.dead_node_grace_period = Duration::MAX,
                "failure_detector.dead_node_grace_period",
            ),
            (
                |c| c.marked_for_deletion_grace_period = Duration::MAX,
                "marked_for_deletion_grace_period",
            ),
            (|c| c.rumours.interval = Duration::MAX, "rumours.interval"),
        ];
        for (change, field) in cases {
            let mut config = GossipConfig::new("cluster", "node");
            change(&mut config);
            let error = config.validate().unwrap_err();
            assert_eq!(error.field, field);
            assert_eq!(error.bound, "at most 31536000s");
        }
    }
}
