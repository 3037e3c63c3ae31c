//! A message, or a wish for a connection, on its way into the core.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::step::PeerKey;
use crate::rt::sync::Ticket;

/// A message on its way into the queue of a peer.
#[derive(Debug)]
pub(in crate::transport_layer) struct Submission {
    pub(in crate::transport_layer) to: SocketAddr,
    /// Taken when the message is queued or dropped.
    pub(in crate::transport_layer) bytes: Option<Bytes>,
    /// The id of the entry in whose queue `ticket` is a place; 0 is none.
    pub(super) entry: u64,
    pub(super) ticket: Ticket,
}

impl Submission {
    pub(in crate::transport_layer) fn new(to: SocketAddr, bytes: Bytes) -> Self {
        Self {
            to,
            bytes: Some(bytes),
            entry: 0,
            ticket: None,
        }
    }

    /// Returns whether the sender waits for room.
    pub(in crate::transport_layer) fn is_waiting(&self) -> bool {
        self.ticket.is_some()
    }
}

/// What became of a [`Submission`].
#[derive(Debug)]
pub(in crate::transport_layer) enum Offered<C> {
    /// The message is queued, or dropped and counted.
    Done,
    /// There is no room yet. The waker is woken when there may be some.
    Waiting,
    /// The socket is closed. The message is still in the submission.
    Closed,
    /// Nothing is queued before the message: the caller hands it to the connection itself, and
    /// reports with [`Peers::written`](super::Peers::written).
    Write(DirectWrite<C>),
}

/// A message that its sender hands to the connection itself. It counts as queued until the report.
#[derive(Debug)]
pub(in crate::transport_layer) struct DirectWrite<C> {
    pub(in crate::transport_layer) key: PeerKey,
    pub(in crate::transport_layer) link: u64,
    pub(in crate::transport_layer) conn: C,
    pub(in crate::transport_layer) bytes: Bytes,
}

/// A caller that waits for a connection with a peer.
#[derive(Debug)]
pub(in crate::transport_layer) struct Wanted {
    pub(in crate::transport_layer) addr: SocketAddr,
    /// The id of the entry that counts this caller; 0 is none.
    pub(super) entry: u64,
    pub(super) ticket: Ticket,
    /// Failures with a larger id happened while the caller waited.
    pub(super) since: u64,
    /// Why the last dial failed.
    pub(in crate::transport_layer) cause: Option<Arc<anyhow::Error>>,
}

impl Wanted {
    pub(in crate::transport_layer) fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            entry: 0,
            ticket: None,
            since: 0,
            cause: None,
        }
    }
}
