//! The options of the gossip protocol: its rounds, its failure detector and its rumours.

use std::sync::LazyLock;

use clap::ValueEnum;
use gossip_transport::gossip::{DialPolicy, GossipConfig};
use gossip_transport::message::ProtocolVersion;

use super::interval::Interval;
use crate::units::{Period, Size};

static GOSSIP: LazyLock<GossipConfig> = LazyLock::new(|| GossipConfig::new("", ""));

/// Rounds, the failure detector and rumours. All members of a cluster should have the same.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Gossip (all members of a cluster should use the same)")]
pub(crate) struct GossipOptions {
    /// Time between gossip rounds, from 10ms to 60m; also scales the failure detector
    #[arg(long, value_name = "TIME", default_value_t)]
    pub(crate) gossip_interval: Interval,

    /// Version in which members are addressed that may be chitchat nodes: those before 0.12 know v0 only
    #[arg(long, value_name = "VERSION", value_enum, default_value_t = Version::V0)]
    pub(crate) protocol_version: Version,

    /// Members that this node may dial; it reaches others over connections that they open
    #[arg(long, value_name = "WHOM", value_enum, default_value_t = Dial::Anyone)]
    pub(crate) dial: Dial,

    /// Value of phi above which a member counts as dead, above 0
    #[arg(long, value_name = "NUMBER", default_value_t = GOSSIP.failure_detector.phi_threshold)]
    pub(crate) phi_threshold: f64,

    /// Intervals between heartbeats that are remembered of each member, at least 1
    #[arg(long, value_name = "COUNT", default_value_t = GOSSIP.failure_detector.sampling_window_size)]
    pub(crate) sampling_window_size: usize,

    /// Longest interval between heartbeats that counts, at least 2 gossip intervals [default: 10 gossip intervals]
    #[arg(long, value_name = "TIME")]
    pub(crate) max_heartbeat_interval: Option<Period>,

    /// Interval between heartbeats that is assumed of a new member [default: 5 gossip intervals]
    #[arg(long, value_name = "TIME")]
    pub(crate) initial_heartbeat_interval: Option<Period>,

    /// Time for which a dead member is remembered, at least twice --max-heartbeat-interval
    #[arg(long, value_name = "TIME",
        default_value_t = Period(GOSSIP.failure_detector.dead_node_grace_period))]
    pub(crate) dead_node_grace_period: Period,

    /// Time for which it is remembered that a key was deleted, or set with --expire
    #[arg(long, value_name = "TIME",
        default_value_t = Period(GOSSIP.marked_for_deletion_grace_period))]
    pub(crate) marked_for_deletion_grace_period: Period,

    /// Longest gossip message, at least 8KiB; more than 65507 does not fit into a datagram
    #[arg(long, value_name = "SIZE", default_value_t = Size(GOSSIP.max_message_len))]
    pub(crate) gossip_max_message_len: Size,

    /// Members to which each change is pushed at once; 0 leaves changes to the rounds
    #[arg(long, value_name = "COUNT", default_value_t = GOSSIP.rumours.fanout)]
    pub(crate) rumour_fanout: usize,

    /// Time between two pushes, during which changes are gathered
    #[arg(long, value_name = "TIME", default_value_t = Period(GOSSIP.rumours.interval))]
    pub(crate) rumour_interval: Period,

    /// Bytes that are pushed in a second, at least 1KiB for each of --rumour-fanout
    #[arg(long, value_name = "SIZE", default_value_t = Size(GOSSIP.rumours.max_bytes_per_second))]
    pub(crate) rumour_max_bytes_per_second: Size,
}

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Version {
    V0,
    V1,
}

/// The members that a node may dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dial {
    Anyone,
    Seeds,
}

impl GossipOptions {
    /// Sets what these options say.
    pub(super) fn apply(&self, config: GossipConfig) -> GossipConfig {
        let config = config.with_interval(self.gossip_interval.get());
        let detector = config.failure_detector.clone();
        let (longest, first) = (detector.max_interval, detector.initial_interval);
        let detector = detector
            .with_phi_threshold(self.phi_threshold)
            .with_sampling_window_size(self.sampling_window_size)
            .with_max_interval(self.max_heartbeat_interval.map_or(longest, |given| given.0))
            .with_initial_interval(
                self.initial_heartbeat_interval
                    .map_or(first, |given| given.0),
            )
            .with_dead_node_grace_period(self.dead_node_grace_period.0);
        let rumours = config.rumours.clone();
        let rumours = rumours
            .with_fanout(self.rumour_fanout)
            .with_interval(self.rumour_interval.0)
            .with_max_bytes_per_second(self.rumour_max_bytes_per_second.0);
        config
            .with_failure_detector(detector)
            .with_rumours(rumours)
            .with_marked_for_deletion_grace_period(self.marked_for_deletion_grace_period.0)
            .with_max_message_len(self.gossip_max_message_len.0)
            .with_protocol_version(match self.protocol_version {
                Version::V0 => ProtocolVersion::V0,
                Version::V1 => ProtocolVersion::V1,
            })
            .with_dial(match self.dial {
                Dial::Anyone => DialPolicy::Anyone,
                Dial::Seeds => DialPolicy::SeedsOnly,
            })
    }
}
