//! Queues, connections and statistics over any [`NetTransport`](crate::net::NetTransport).

mod config;
mod outgoing;
mod socket;
mod stats;
mod transport;

pub use config::{IncomingConfig, OverflowPolicy, QueueConfig, TransportLayerConfig};
pub use outgoing::OutgoingConnection;
pub use socket::{ClosedError, SendError, ShutdownReport, TransportLayerSocket};
pub use stats::{
    ConnectionInfo, Direction, DropCounts, DropReason, PeerState, PeerStats, SocketStats,
};
pub use transport::TransportLayerTransport;
