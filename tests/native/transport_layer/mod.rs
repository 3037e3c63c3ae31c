//! The transport layer: queues, isolation of peers, connections, silence and lifecycle.

mod backlog;
mod connections;
mod flood;
mod half_record;
mod hostile;
mod invites;
mod isolation;
mod lifecycle;
mod misbehaviour;
mod naming;
mod partial;
mod queues;
mod renewal;
mod silence;
mod stress;
mod to_all;
mod trust;
mod turns;
