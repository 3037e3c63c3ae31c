//! The sender and the arrival time of received messages.

use std::net::SocketAddr;

use crate::credential::{Identity, Role};
use crate::rt::Instant;
use crate::transport_layer::core::pool::Pool;
use crate::transport_layer::received::Received;

/// The sender of a message, as its connection has proved it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport_layer) struct Origin {
    pub(in crate::transport_layer) identity: Identity,
    pub(in crate::transport_layer) role: Role,
}

impl Origin {
    pub(super) fn pool(&self) -> Pool {
        Pool::of(self.identity)
    }
}

/// Messages that arrived together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) origin: Origin,
    pub(super) at: Instant,
    pub(super) count: usize,
}

impl Arrival {
    pub(super) fn received<M>(&self, from: SocketAddr, message: M) -> Received<M> {
        Received {
            from,
            identity: self.origin.identity,
            role: self.origin.role,
            at: self.at,
            message,
        }
    }
}
