//! Senders that wait for room, and callers that wait for a connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::step::PeerKey;
use crate::rt::sync::Ticket;

/// The place of a sender that waits for room in the queue of a peer.
#[derive(Debug)]
pub(in crate::transport_layer) struct SenderPlace {
    pub(in crate::transport_layer) to: SocketAddr,
    /// The entry in whose queue `ticket` is a place; the id 0 is none.
    pub(super) entry: PeerKey,
    pub(super) ticket: Ticket,
}

impl SenderPlace {
    pub(in crate::transport_layer) fn new(to: SocketAddr) -> Self {
        Self {
            to,
            entry: PeerKey { addr: to, id: 0 },
            ticket: None,
        }
    }
}

/// The result of offering a message to the core.
#[derive(Debug)]
pub(in crate::transport_layer) enum Offered<C> {
    /// It is queued, or dropped and counted.
    Done,
    /// There is no room for it, and the policy is to wait.
    Full(Bytes),
    /// The socket is closed. Contains the message.
    Closed(Bytes),
    /// No message is queued before this one: the caller hands it to the connection itself, and
    /// reports with [`Peers::written`](super::Peers::written).
    Write(DirectWrite<C>),
}

/// The side that hands a batch to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport_layer) enum Writer {
    /// The task of the peer.
    Task,
    /// The sender of the message.
    Sender,
}

/// A message that its sender hands to the connection itself. It counts as queued until the report.
#[derive(Debug)]
pub(in crate::transport_layer) struct DirectWrite<C> {
    pub(in crate::transport_layer) key: PeerKey,
    pub(in crate::transport_layer) link: u64,
    pub(in crate::transport_layer) conn: C,
    /// The message.
    pub(in crate::transport_layer) batch: VecDeque<Bytes>,
}

/// A caller that waits for a connection with a peer.
#[derive(Debug)]
pub(in crate::transport_layer) struct Wanted {
    pub(in crate::transport_layer) addr: SocketAddr,
    /// The entry that counts this caller; the id 0 is none.
    pub(super) entry: PeerKey,
    pub(super) ticket: Ticket,
    /// Failures with a larger id happened while the caller waited.
    pub(super) since: u64,
    /// The error of the last dial.
    pub(in crate::transport_layer) cause: Option<Arc<anyhow::Error>>,
}

impl Wanted {
    pub(in crate::transport_layer) fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            entry: PeerKey { addr, id: 0 },
            ticket: None,
            since: 0,
            cause: None,
        }
    }
}
