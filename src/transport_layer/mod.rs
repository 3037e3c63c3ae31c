//! Queues, connections and statistics over any [`NetTransport`](crate::net::NetTransport).
//!
//! Written once for every target: it knows no socket of the system, no bytes of a protocol and no
//! runtime but [`rt`](crate::rt). Invariants: `send` waits for nobody but, under `Backpressure`,
//! for room in its own peer's queue; a peer that is slow, silent or hostile delays nobody else;
//! every queue is bounded, and every message that is dropped is counted with its reason.
//!
//! | file | what |
//! |---|---|
//! | `transport` | opens sockets |
//! | `socket` | what a user holds: send, receive, statistics, shutdown |
//! | `listener` | lets peers in |
//! | `incoming`, `incoming_queue`, `ranking` | reads a connection; the fair queue of what was received; who has the most in it |
//! | `outgoing`, `queue` | dials and writes; the bounded queue of what is to be sent |
//! | `submit` | how a message gets into a queue, and how a caller waits for a connection |
//! | `peers` | all peers behind one lock, and what to do about each next |
//! | `shared` | joins the above for one socket |
//! | `backoff`, `tasks` | when to dial again; the background tasks |
//! | `config`, `stats` | limits and counters |

use std::collections::HashMap;
use std::net::SocketAddr;

mod backoff;
mod config;
mod incoming;
mod incoming_queue;
mod listener;
mod outgoing;
mod peers;
mod queue;
mod ranking;
mod shared;
mod socket;
mod stats;
mod submit;
mod tasks;
mod transport;

pub use config::{IncomingConfig, OverflowPolicy, QueueConfig, TransportLayerConfig};
pub use outgoing::OutgoingConnection;
pub use socket::{ClosedError, SendError, ShutdownReport, TransportLayerSocket};
pub use stats::{
    ConnectionInfo, Direction, DropCounts, DropReason, PeerState, PeerStats, SocketStats,
};
pub use transport::TransportLayerTransport;

/// Something for each peer. Looked up for every message, so not with the standard hasher; seeded
/// at random all the same, since peers choose their ports.
type PeerMap<V> = HashMap<SocketAddr, V, foldhash::fast::RandomState>;
