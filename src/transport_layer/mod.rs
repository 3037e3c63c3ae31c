//! Queues, connections and statistics over any [`NetTransport`](crate::net::NetTransport).
//!
//! The layer is the same on every target: it knows no socket of the system, no bytes of a protocol,
//! and no runtime but [`rt`](crate::rt). Invariants: `send` never waits, except for room in the
//! queue of its own peer under [`OverflowPolicy::Backpressure`]; a peer that is slow, silent or
//! hostile delays no other; every queue is bounded, and every dropped message is counted with its
//! reason.
//!
//! | file | content |
//! |---|---|
//! | `transport`, `socket`, `outgoing` | the types that a user holds: opens sockets; sends and receives; one peer's queue |
//! | `config`, `error`, `stats`, `received` | limits, errors, counters, and a message with its sender |
//! | `core/` | every decision, as plain values with the time as an argument |
//! | `driver/` | carries out the decisions: tasks, dials, reads, writes and locks |

mod config;
mod core;
mod driver;
mod error;
mod outgoing;
mod received;
mod socket;
mod stats;
mod transport;

use std::collections::HashMap;
use std::net::SocketAddr;

pub use config::{IncomingConfig, OverflowPolicy, QueueConfig, TransportLayerConfig};
pub use error::{ClosedError, DuplicateIdentity, OwnIdentity, Refused, SendError, WrongIdentity};
pub use outgoing::OutgoingConnection;
pub use received::{ConnectedPeer, Received};
pub use socket::{ShutdownReport, TransportLayerSocket};
pub use stats::{
    AcceptFailures, ConnectionInfo, Direction, DropCounts, DropReason, NamingStats, PeerState,
    PeerStats, SocketStats,
};
pub use transport::TransportLayerTransport;

/// A map from peer addresses. It is read for every message, so the hasher is a fast one; peers
/// choose their ports, so it is seeded at random.
type PeerMap<V> = HashMap<SocketAddr, V, foldhash::fast::RandomState>;
