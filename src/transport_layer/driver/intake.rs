//! The entrance for messages and requests for connections, which starts the tasks of peers.
//!
//! Invariant: dropping a future of this module leaves nothing queued, and passes its turn to the
//! next in line.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;

use super::incoming::Reader;
use super::outgoing::{PeerTask, handle_outgoing_connection};
use super::shared::{NewTasks, Shared};
use super::trust::judge_new;
use crate::credential::NetCredential;
use crate::message::Message;
use crate::net::{NetConnection, NetTransport};
use crate::rt::{self, Instant, MaybeSend, MaybeSync};
use crate::transport_layer::config::TransportLayerConfig;
use crate::transport_layer::core::{
    DirectWrite, Effects, LinkEnd, Offered, SenderPlace, Wanted, Writer,
};
use crate::transport_layer::error::{ClosedError, NotConnected, SendError};
use crate::transport_layer::stats::{ConnectionInfo, DropReason};

/// The outgoing side of a socket, without the type of its network.
pub(in crate::transport_layer) trait Outbound:
    MaybeSend + MaybeSync
{
    /// Returns whether the socket still takes messages.
    fn is_open(&self) -> bool;

    /// Queues, writes or drops a message.
    ///
    /// # Errors
    ///
    /// Returns the message if the socket is closed, or if there is no room and the policy is to
    /// wait.
    fn offer(&self, to: SocketAddr, bytes: Bytes) -> Result<(), NotTaken>;

    /// Offers again a message for which there was no room. If there still is none, it stays in
    /// `bytes`.
    fn poll_offer(
        &self,
        bytes: &mut Option<Bytes>,
        place: &mut SenderPlace,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ClosedError>>;

    /// Gives up the place of a sender that waits.
    fn withdraw(&self, place: &mut SenderPlace);

    /// Counts a message that cannot be queued.
    fn refuse(&self, to: SocketAddr, reason: DropReason);

    /// Polls for a connection with a peer, which is dialled if there is none.
    fn poll_connected(
        &self,
        wanted: &mut Wanted,
        cx: &mut Context<'_>,
    ) -> Poll<anyhow::Result<ConnectionInfo>>;

    /// Withdraws a request that was made by [`poll_connected`](Self::poll_connected).
    fn stop_wanting(&self, wanted: &mut Wanted);
}

/// A message that was not taken.
pub(in crate::transport_layer) enum NotTaken {
    Full(Bytes),
    Closed(Bytes),
}

/// Takes messages and requests for one socket, and starts the tasks of its peers.
pub(in crate::transport_layer) struct Intake<T: NetTransport, M: Message> {
    pub(in crate::transport_layer) shared: Arc<Shared<T, M>>,
}

impl<T: NetTransport, M: Message> Clone for Intake<T, M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T: NetTransport, M: Message> Intake<T, M> {
    /// Must be called inside of the runtime in which the tasks are to run.
    pub(in crate::transport_layer) fn new(
        transport: T,
        credential: NetCredential,
        local_addr: SocketAddr,
        config: TransportLayerConfig,
    ) -> Self {
        Self {
            shared: Shared::new(transport, credential, local_addr, config, Self::start),
        }
    }

    /// Notes that the application asks for the peer at `addr`.
    pub(in crate::transport_layer) fn ask_for(&self, addr: SocketAddr) -> Result<(), ClosedError> {
        self.shared
            .with(|peers, fx| peers.ask_for(addr, Instant::now(), fx))
    }

    /// Takes an accepted connection into service: from now on it is written to and read. If the
    /// socket is closing, the connection is closed.
    pub(super) fn accepted(&self, conn: T::Connection) {
        let (identity, grounds) = (conn.remote_identity(), conn.grounds());
        self.shared
            .with(|peers, fx| peers.accepted(conn, Instant::now(), fx));
        judge_new(&self.shared, identity, grounds);
    }

    /// Starts the tasks that the core has asked for.
    fn start(shared: &Arc<Shared<T, M>>, new: NewTasks<T::Connection>) {
        for new in new.peers {
            let task = PeerTask {
                shared: Arc::clone(shared),
                key: new.key,
                signal: new.signal,
            };
            shared.tasks.spawn((), handle_outgoing_connection(task));
        }
        for new in new.readers {
            Reader::start(shared, new);
        }
    }

    /// Hands a message to the connection from within the caller's poll. What the network does not
    /// take at once is left to the task of the peer.
    fn write(&self, direct: DirectWrite<T::Connection>) {
        let DirectWrite {
            key,
            link,
            conn,
            mut batch,
        } = direct;
        let outcome = conn.send_many(&mut batch).now_or_never();
        self.shared.with(|peers, fx| {
            let flushed = matches!(outcome, Some(Ok(())));
            let write = (key, link, Writer::Sender);
            peers.written(write, &mut batch, flushed, Instant::now(), fx);
        });
        if let Some(Err(error)) = outcome {
            let why = format_args!("{error:#}");
            self.shared.disconnected(key, link, LinkEnd::Lost, &why);
        }
    }
}

impl<T: NetTransport, M: Message> Outbound for Intake<T, M> {
    fn is_open(&self) -> bool {
        self.shared.is_open()
    }

    fn offer(&self, to: SocketAddr, bytes: Bytes) -> Result<(), NotTaken> {
        let mut peers = self.shared.lock();
        let Err(bytes) = peers.offer_to_busy(to, bytes) else {
            return Ok(());
        };
        // This repeats `with`, so that nothing is moved for a message that is queued.
        let mut fx = Effects::default();
        match peers.offer(to, bytes, Instant::now, &mut fx) {
            Offered::Done => {
                self.shared.finish(peers, fx);
                Ok(())
            }
            Offered::Full(bytes) => {
                self.shared.finish(peers, fx);
                Err(NotTaken::Full(bytes))
            }
            Offered::Closed(bytes) => Err(NotTaken::Closed(bytes)),
            Offered::Write(direct) => {
                self.shared.finish(peers, fx);
                self.write(direct);
                Ok(())
            }
        }
    }

    fn poll_offer(
        &self,
        bytes: &mut Option<Bytes>,
        place: &mut SenderPlace,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ClosedError>> {
        let Some(message) = bytes.take() else {
            return Poll::Ready(Ok(()));
        };
        let offered = self
            .shared
            .with(|peers, fx| peers.offer_again(message, place, Instant::now(), cx.waker(), fx));
        match offered {
            Offered::Done => Poll::Ready(Ok(())),
            Offered::Full(message) => {
                *bytes = Some(message);
                Poll::Pending
            }
            Offered::Closed(message) => {
                *bytes = Some(message);
                Poll::Ready(Err(ClosedError))
            }
            Offered::Write(direct) => {
                self.write(direct);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn withdraw(&self, place: &mut SenderPlace) {
        self.shared.with(|peers, fx| peers.withdraw(place, fx));
    }

    fn refuse(&self, to: SocketAddr, reason: DropReason) {
        self.shared
            .with(|peers, fx| peers.refuse(to, reason, Instant::now(), fx));
    }

    fn poll_connected(
        &self,
        wanted: &mut Wanted,
        cx: &mut Context<'_>,
    ) -> Poll<anyhow::Result<ConnectionInfo>> {
        self.shared
            .with(|peers, fx| peers.poll_connected(wanted, Instant::now(), cx.waker(), fx))
    }

    fn stop_wanting(&self, wanted: &mut Wanted) {
        self.shared.with(|peers, _| peers.stop_wanting(wanted));
    }
}

/// Sends a message. This is the body of `send` of a socket and of an
/// [`OutgoingConnection`](crate::transport_layer::OutgoingConnection).
pub(in crate::transport_layer) async fn submit<M: Message>(
    outbound: &(impl Outbound + ?Sized),
    to: SocketAddr,
    message: M,
) -> Result<(), SendError<M>> {
    if !outbound.is_open() {
        return Err(SendError(message));
    }
    let refused = match message.into_bytes() {
        Ok(bytes) => outbound.offer(to, bytes),
        Err(error) => {
            tracing::debug!(%to, %error, "cannot encode a message");
            outbound.refuse(to, DropReason::EncodeFailed);
            return Ok(());
        }
    };
    let unsent = match refused {
        Ok(()) => return Ok(()),
        Err(NotTaken::Closed(bytes)) => Some(bytes),
        Err(NotTaken::Full(bytes)) => wait_for_room(outbound, to, bytes).await,
    };
    // The message is decoded again to return it to the caller; what was just encoded can be
    // decoded.
    match unsent.map(M::decode) {
        None => Ok(()),
        Some(Ok(message)) => Err(SendError(message)),
        Some(Err(_)) => {
            outbound.refuse(to, DropReason::Closed);
            Ok(())
        }
    }
}

/// Sends a message to several peers, encoded once. This is the body of `send_to_all` of a socket.
pub(in crate::transport_layer) fn submit_to_all<M: Message>(
    outbound: &(impl Outbound + ?Sized),
    to: &[SocketAddr],
    message: M,
) -> Result<(), SendError<M>> {
    if !outbound.is_open() {
        return Err(SendError(message));
    }
    match message.into_bytes() {
        Ok(bytes) => {
            for to in to {
                match outbound.offer(*to, bytes.clone()) {
                    Ok(()) => {}
                    Err(NotTaken::Full(_)) => outbound.refuse(*to, DropReason::Overflow),
                    // It was closed meanwhile.
                    Err(NotTaken::Closed(_)) => outbound.refuse(*to, DropReason::Closed),
                }
            }
        }
        Err(error) => {
            tracing::debug!(%error, "cannot encode a message");
            for to in to {
                outbound.refuse(*to, DropReason::EncodeFailed);
            }
        }
    }
    Ok(())
}

/// A sender that waits for room. Dropping it gives up its place in line.
struct Sending<'a, O: Outbound + ?Sized> {
    outbound: &'a O,
    place: SenderPlace,
}

impl<O: Outbound + ?Sized> Drop for Sending<'_, O> {
    fn drop(&mut self) {
        self.outbound.withdraw(&mut self.place);
    }
}

/// Waits for room in the queue of `to`. Returns the message if the socket is closed.
async fn wait_for_room(
    outbound: &(impl Outbound + ?Sized),
    to: SocketAddr,
    bytes: Bytes,
) -> Option<Bytes> {
    let mut sending = Sending {
        outbound,
        place: SenderPlace::new(to),
    };
    let mut bytes = Some(bytes);
    let queued = poll_fn(|cx| outbound.poll_offer(&mut bytes, &mut sending.place, cx)).await;
    queued.err().and(bytes)
}

/// A caller that waits for a connection. Dropping it withdraws its request.
struct Waiting<'a> {
    outbound: &'a dyn Outbound,
    wanted: Wanted,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.outbound.stop_wanting(&mut self.wanted);
    }
}

/// Waits for a connection with `addr` for at most `limit`.
pub(in crate::transport_layer) async fn connected(
    outbound: &dyn Outbound,
    addr: SocketAddr,
    limit: Duration,
) -> anyhow::Result<ConnectionInfo> {
    let mut waiting = Waiting {
        outbound,
        wanted: Wanted::new(addr),
    };
    let wanted = &mut waiting.wanted;
    match rt::timeout(limit, poll_fn(|cx| outbound.poll_connected(wanted, cx))).await {
        Ok(connected) => connected,
        Err(_) => Err(NotConnected {
            addr,
            limit: Some(limit),
            cause: waiting.wanted.cause.clone(),
        }
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::sync::Mutex;

    /// Takes the first message, has no room for the second, and is closed then.
    #[derive(Default)]
    struct Closing(Mutex<Vec<Option<DropReason>>>);

    impl Outbound for Closing {
        fn is_open(&self) -> bool {
            self.0.lock().len() < 2
        }

        fn offer(&self, _: SocketAddr, bytes: Bytes) -> Result<(), NotTaken> {
            let taken = self.0.lock().len();
            match taken {
                0 => {
                    self.0.lock().push(None);
                    Ok(())
                }
                1 => Err(NotTaken::Full(bytes)),
                _ => Err(NotTaken::Closed(bytes)),
            }
        }

        fn poll_offer(
            &self,
            _: &mut Option<Bytes>,
            _: &mut SenderPlace,
            _: &mut Context<'_>,
        ) -> Poll<Result<(), ClosedError>> {
            Poll::Pending
        }

        fn withdraw(&self, _: &mut SenderPlace) {}

        fn refuse(&self, _: SocketAddr, reason: DropReason) {
            self.0.lock().push(Some(reason));
        }

        fn poll_connected(
            &self,
            _: &mut Wanted,
            _: &mut Context<'_>,
        ) -> Poll<anyhow::Result<ConnectionInfo>> {
            Poll::Pending
        }

        fn stop_wanting(&self, _: &mut Wanted) {}
    }

    #[test]
    fn each_copy_of_a_message_is_queued_or_counted_also_if_the_socket_is_closed_meanwhile() {
        let outbound = Closing::default();
        let to = [([10, 0, 0, 1], 7000).into(); 4];
        submit_to_all(&outbound, &to, Bytes::from_static(b"message")).unwrap();
        let closed = Some(DropReason::Closed);
        let expected = [None, Some(DropReason::Overflow), closed, closed];
        assert_eq!(*outbound.0.lock(), expected);
        let later = submit_to_all(&outbound, &to, Bytes::from_static(b"later"));
        assert_eq!(later.unwrap_err().0, "later");
        assert_eq!(outbound.0.lock().len(), 4);
    }
}
