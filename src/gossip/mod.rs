//! The participant: a member of a chitchat cluster.
//!
//! A pure engine (events in, outputs out, time as an argument), and the one file that joins it to
//! a socket. The protocol is that of the published `chitchat` crate, which does not compile for a
//! browser; members of both kinds share a cluster.
//!
//! | where | what |
//! |---|---|
//! | `engine` | the protocol: rounds, messages, keys |
//! | `cluster` | what is known of all members; digests and deltas |
//! | `node_state` | what is known of one member; applying, collecting |
//! | `failure_detector` | who lives |
//! | `contacts` | who answers us |
//! | `peers` | whom to gossip with |
//! | `rumours` | news that is told at once |
//! | `participant` | the engine on a socket: the only file here that knows a runtime |
//! | `join` | finding our own address before we can have an id |
//! | `watch` | waiting for changes |

mod cluster;
mod config;
mod contacts;
mod engine;
mod failure_detector;
mod join;
mod member;
mod node_state;
mod order;
mod participant;
mod peers;
mod rumours;
mod watch;

pub use config::{FailureDetectorConfig, GossipConfig, RumourConfig};
pub use engine::{Engine, EngineCounts, Event, Output};
pub use join::JoinError;
pub use member::{DeleteError, Liveness, Member, MemberValue, SetError};
pub use participant::Participant;
pub use watch::MembershipWatch;
