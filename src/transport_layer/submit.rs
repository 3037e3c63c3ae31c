//! How a message gets into a queue, whatever network the socket is open on.
//!
//! No queue is here: [`Hub`] hides the socket's network type from the handles that users hold.
//! Invariant: a future of this module that is dropped leaves nothing queued and hands its turn on.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::{ClosedError, ConnectionInfo, DropReason, SendError};
use crate::message::Message;
use crate::rt::sync::Ticket;
use crate::rt::{self, MaybeSend, MaybeSync};

/// A socket, without its types.
pub(super) trait Hub: MaybeSend + MaybeSync {
    fn is_open(&self) -> bool;
    /// Queues or drops the message; pending only under `Backpressure`.
    fn poll_offer(
        &self,
        submission: &mut Submission,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ClosedError>>;
    /// Gives up the place of a sender that waits.
    fn withdraw(&self, submission: &mut Submission);
    /// Counts a message that cannot be queued.
    fn refuse(&self, to: SocketAddr, reason: DropReason);
    /// Asks for a connection and waits for it.
    fn poll_connected(
        &self,
        wanted: &mut Wanted,
        cx: &mut Context<'_>,
    ) -> Poll<anyhow::Result<ConnectionInfo>>;
    /// Ends what [`poll_connected`](Self::poll_connected) began.
    fn give_up(&self, wanted: &mut Wanted);
}

/// A message on its way into a queue.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) to: SocketAddr,
    pub(super) bytes: Option<Bytes>,
    /// The entry in which `ticket` is a place; 0 is none.
    pub(super) peer: u64,
    pub(super) ticket: Ticket,
}

/// A caller that wants a connection.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) addr: SocketAddr,
    /// The entry that counts this caller; 0 is none.
    pub(super) peer: u64,
    pub(super) ticket: Ticket,
    /// Failures with a larger id happened while it waited.
    pub(super) since: u64,
    /// Why the last dial failed.
    pub(super) cause: Option<Arc<anyhow::Error>>,
}

/// Withdraws the submission when the sender is dropped.
struct Sending<'a, H: Hub + ?Sized> {
    hub: &'a H,
    submission: Submission,
}

impl<H: Hub + ?Sized> Drop for Sending<'_, H> {
    fn drop(&mut self) {
        self.hub.withdraw(&mut self.submission);
    }
}

/// `send`, for the socket and for [`OutgoingConnection`](super::OutgoingConnection).
pub(super) async fn submit<M: Message>(
    hub: &(impl Hub + ?Sized),
    to: SocketAddr,
    message: M,
) -> Result<(), SendError<M>> {
    if !hub.is_open() {
        return Err(SendError(message));
    }
    let encoded = message.into_bytes();
    let bytes = match encoded {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::debug!(%to, %error, "a message cannot be encoded");
            hub.refuse(to, DropReason::EncodeFailed);
            return Ok(());
        }
    };
    let mut sending = Sending {
        hub,
        submission: Submission {
            to,
            bytes: Some(bytes),
            peer: 0,
            ticket: None,
        },
    };
    let queued = poll_fn(|cx| hub.poll_offer(&mut sending.submission, cx)).await;
    let Err(ClosedError) = queued else {
        return Ok(());
    };
    // Given back as it came: what was encoded can be decoded.
    let bytes = sending.submission.bytes.take();
    match bytes.map(M::decode) {
        Some(Ok(message)) => Err(SendError(message)),
        _ => {
            hub.refuse(to, DropReason::Closed);
            Ok(())
        }
    }
}

/// Gives up when the caller is dropped.
struct Waiting<'a> {
    hub: &'a dyn Hub,
    wanted: Wanted,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.hub.give_up(&mut self.wanted);
    }
}

/// Waits for a connection with `addr` for at most `limit`.
pub(super) async fn connected(
    hub: &dyn Hub,
    addr: SocketAddr,
    limit: Duration,
) -> anyhow::Result<ConnectionInfo> {
    let mut waiting = Waiting {
        hub,
        wanted: Wanted {
            addr,
            peer: 0,
            ticket: None,
            since: 0,
            cause: None,
        },
    };
    let wanted = &mut waiting.wanted;
    match rt::timeout(limit, poll_fn(|cx| hub.poll_connected(wanted, cx))).await {
        Ok(connected) => connected,
        Err(_) => Err(waiting.wanted.failed(Some(limit))),
    }
}

impl Wanted {
    /// The error after `limit`, or after a failure that no retry can mend.
    pub(super) fn failed(&self, limit: Option<Duration>) -> anyhow::Error {
        anyhow::Error::new(NotConnected {
            addr: self.addr,
            limit,
            cause: self.cause.clone(),
        })
    }
}

/// No connection; the last dial's error is the source.
#[derive(Debug)]
struct NotConnected {
    addr: SocketAddr,
    limit: Option<Duration>,
    cause: Option<Arc<anyhow::Error>>,
}

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection with {}", self.addr)?;
        match self.limit {
            Some(limit) => write!(f, " within {limit:?}"),
            None => Ok(()),
        }
    }
}

impl Error for NotConnected {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let cause: &(dyn Error + Send + Sync + 'static) = self.cause.as_deref()?.as_ref();
        Some(cause)
    }
}
