//! Queues, isolation of peers, connections and lifecycle of the transport layer.

mod connections;
mod isolation;
mod lifecycle;
mod queues;
mod silence;
