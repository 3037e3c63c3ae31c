//! The state that the tasks of one socket share.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::decoding::DecodingTurns;
use super::inbox::SharedInbox;
use super::tasks::TaskSet;
use crate::credential::{Identity, NetCredential, Refusal};
use crate::host::Host;
use crate::message::Message;
use crate::net::{CloseCode, NetConnection, NetTransport};
use crate::rt::sync::{Mutex, MutexGuard, Signal, Ticket};
use crate::rt::{Instant, Task};
use crate::transport_layer::config::TransportLayerConfig;
use crate::transport_layer::core::{
    Effects, LinkEnd, LinkLife, NewPeer, NewReader, Own, PeerKey, Peers,
};
use crate::transport_layer::error::ClosedError;
use crate::transport_layer::received::{ConnectedPeer, Received};
use crate::transport_layer::stats::SocketStats;

/// The core of one socket behind its lock, the inbox, and the sets of tasks.
pub(in crate::transport_layer) struct Shared<T: NetTransport, M: Message> {
    pub(in crate::transport_layer) transport: T,
    pub(in crate::transport_layer) credential: NetCredential,
    pub(in crate::transport_layer) config: Arc<TransportLayerConfig>,
    pub(in crate::transport_layer) local_addr: SocketAddr,
    open: AtomicBool,
    peers: Mutex<Peers<T::Connection>>,
    /// The revision of the core, so that readers need not take the lock to see that nothing has changed for
    /// them.
    revision: AtomicU64,
    pub(super) inbox: SharedInbox<M>,
    /// The turns in which messages that take long are decoded.
    pub(super) decoding: DecodingTurns,
    /// Readers, writers and goodbyes.
    pub(super) tasks: TaskSet<()>,
    /// The handshakes of incoming connections, by host.
    pub(super) handshakes: TaskSet<Host>,
    /// The accept loop, which owns the listener. It is dropped under the lock, so that a caller
    /// which finds `None` knows that the port is free.
    listener: Mutex<Option<Task>>,
    /// Starts the tasks that the core asks for. A function of the intake, which is above this file.
    start: fn(&Arc<Self>, NewTasks<T::Connection>),
}

/// The tasks to start after a call into the core.
pub(super) struct NewTasks<C> {
    pub(super) peers: Vec<NewPeer>,
    pub(super) readers: Vec<NewReader<C>>,
}

impl<T: NetTransport, M: Message> Shared<T, M> {
    /// Must be called inside of the runtime in which the tasks are to run.
    pub(super) fn new(
        transport: T,
        credential: NetCredential,
        local_addr: SocketAddr,
        config: TransportLayerConfig,
        start: fn(&Arc<Self>, NewTasks<T::Connection>),
    ) -> Arc<Self> {
        let config = Arc::new(config);
        let own = Own {
            identity: credential.identity(),
            local_addr,
            advertised_addr: advertised_addr(&credential),
        };
        let peers = Peers::new(Arc::clone(&config), transport.max_message_len(), own);
        Arc::new(Self {
            transport,
            credential,
            local_addr,
            open: AtomicBool::new(true),
            peers: Mutex::new(peers),
            revision: AtomicU64::new(0),
            inbox: SharedInbox::new(config.incoming.clone(), M::memory),
            decoding: DecodingTurns::default(),
            tasks: TaskSet::new(),
            handshakes: TaskSet::new(),
            listener: Mutex::new(None),
            start,
            config,
        })
    }

    /// Keeps the accept loop until the socket stops accepting.
    pub(in crate::transport_layer) fn keep_listener(&self, task: Task) {
        *self.listener.lock() = Some(task);
    }

    /// Calls the core under its lock, and carries out the effects.
    pub(super) fn with<R>(
        self: &Arc<Self>,
        action: impl FnOnce(&mut Peers<T::Connection>, &mut Effects<T::Connection>) -> R,
    ) -> R {
        let mut fx = Effects::default();
        let mut peers = self.peers.lock();
        let result = action(&mut peers, &mut fx);
        self.finish(peers, fx);
        result
    }

    /// Locks the core. The caller must pass the guard and the effects to [`finish`](Self::finish).
    pub(super) fn lock(&self) -> MutexGuard<'_, Peers<T::Connection>> {
        self.peers.lock()
    }

    /// Releases the lock and carries out the effects.
    pub(super) fn finish(
        self: &Arc<Self>,
        peers: MutexGuard<'_, Peers<T::Connection>>,
        mut fx: Effects<T::Connection>,
    ) {
        if fx.is_empty() {
            return;
        }
        // Under the lock, so that the core and the inbox agree in every snapshot.
        for addr in fx.forgotten.drain(..) {
            self.inbox.forget(addr);
        }
        for new in &fx.new_peers {
            self.inbox.remember(new.key.addr);
        }
        for addr in fx.moved_to.drain(..) {
            self.inbox.remember(addr);
        }
        self.revision.store(peers.revision(), Ordering::Release);
        drop(peers);
        fx.wakers.into_iter().for_each(Waker::wake);
        for (conn, code) in fx.close {
            self.tasks.spawn((), async move { conn.close(code).await });
        }
        for (conn, code) in fx.leave {
            self.tasks.spawn((), async move { conn.leave(code).await });
        }
        for ended in fx.ended {
            log_end(ended.addr, &ended.why, ended.life);
        }
        for addr in fx.downgraded {
            tracing::warn!(
                %addr,
                "a peer without authentication has taken over the address of an authenticated one that \
                 was away for long"
            );
        }
        if !fx.new_peers.is_empty() || !fx.readers.is_empty() {
            let (peers, readers) = (fx.new_peers, fx.readers);
            (self.start)(self, NewTasks { peers, readers });
        }
    }

    /// Probes the connections of a peer that seems to be gone, if nothing was heard on them for `silence`.
    pub(in crate::transport_layer) fn suspect(
        self: &Arc<Self>,
        addr: SocketAddr,
        silence: Duration,
    ) {
        self.with(|peers, _| peers.suspected(addr, silence, Instant::now()));
    }

    /// Drops the messages for peers that are not connected.
    pub(in crate::transport_layer) fn drop_unconnected(self: &Arc<Self>) {
        self.with(|peers, fx| peers.drop_unconnected(fx));
    }

    /// Closes the connections of a peer that holds an invite, and tells it why.
    pub(in crate::transport_layer) fn refuse_leaf(
        self: &Arc<Self>,
        addr: SocketAddr,
        reason: Refusal,
    ) {
        self.with(|peers, fx| peers.refuse_leaf(addr, reason, Instant::now(), fx));
    }

    /// Takes a connection out of service. Only the first report of its end counts.
    pub(super) fn disconnected(
        self: &Arc<Self>,
        key: PeerKey,
        link: u64,
        end: LinkEnd,
        why: &dyn std::fmt::Display,
    ) {
        let life = self.with(|peers, fx| peers.disconnected(key, link, &end, Instant::now(), fx));
        if let Some(life) = life {
            log_end(key.addr, why, life);
        }
    }

    /// Returns a number that rises when readers have to look at their peer again.
    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Returns the next message and its sender. Cancel-safe.
    pub(in crate::transport_layer) async fn recv(&self) -> Result<(SocketAddr, M), ClosedError> {
        self.inbox.recv().await
    }

    /// Returns the next message with what is known of its sender. Cancel-safe.
    pub(in crate::transport_layer) async fn recv_detailed(
        &self,
    ) -> Result<Received<M>, ClosedError> {
        self.inbox.recv_detailed().await
    }

    /// Returns whether the socket still takes messages.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Returns a snapshot in which all sums hold.
    pub(in crate::transport_layer) fn stats(&self) -> SocketStats {
        let peers = self.peers.lock();
        let mut stats = peers.stats(Instant::now());
        let mut total = std::mem::take(&mut stats.total);
        self.inbox.stats(&mut total, &mut stats.peers);
        drop(peers);
        for peer in stats.peers.values() {
            total.merge(peer);
        }
        stats.total = total;
        stats.partial = self.transport.partial_stats();
        stats
    }

    /// Returns the peers with a live connection if they have changed since `seen`.
    pub(in crate::transport_layer) fn connected_peers(
        &self,
        seen: &mut u64,
    ) -> Option<Vec<ConnectedPeer>> {
        self.peers.lock().connected_peers(seen)
    }

    /// Returns the number of failed dials in a row of `addr`, and the error of the last one.
    pub(in crate::transport_layer) fn dial_failure(
        &self,
        addr: SocketAddr,
    ) -> Option<(u32, Arc<anyhow::Error>)> {
        self.peers.lock().dial_failure(addr)
    }

    /// Frees the port, and refuses new messages and connections.
    pub(in crate::transport_layer) fn stop_accepting(self: &Arc<Self>) {
        self.open.store(false, Ordering::Release);
        drop(self.listener.lock().take());
        self.handshakes.close();
        self.with(|peers, fx| peers.start_draining(fx));
    }

    /// Completes once no message is left to send.
    pub(in crate::transport_layer) fn poll_drained(
        &self,
        ticket: &mut Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        self.peers.lock().poll_drained(ticket, cx.waker())
    }

    /// Gives up a place taken by [`poll_drained`](Self::poll_drained).
    pub(in crate::transport_layer) fn stop_waiting_for_drain(&self, ticket: &mut Ticket) {
        self.peers.lock().stop_waiting_for_drain(ticket);
    }

    /// Drops every queued message. Returns the connections, which the caller must close, and the
    /// number of messages that were queued, also if another call closed the socket before.
    pub(in crate::transport_layer) fn close_peers(self: &Arc<Self>) -> (Vec<T::Connection>, u64) {
        self.open.store(false, Ordering::Release);
        self.with(|peers, fx| {
            let unsent = peers.close(fx);
            let conns = fx.close.drain(..).map(|(conn, _)| conn);
            (conns.collect(), unsent)
        })
    }

    /// Closes all of `conns` at the same time, and waits for it. If the future is dropped, closing
    /// goes on.
    pub(in crate::transport_layer) async fn say_goodbye(&self, conns: Vec<T::Connection>) {
        /// Raises the signal when the last close has finished or its task is dropped.
        struct Said(Arc<Signal>);
        impl Drop for Said {
            fn drop(&mut self) {
                self.0.raise();
            }
        }
        let all_said = Arc::new(Signal::default());
        let said = Arc::new(Said(Arc::clone(&all_said)));
        for conn in conns {
            let said = Arc::clone(&said);
            self.tasks.spawn((), async move {
                conn.close(CloseCode::GOING_AWAY).await;
                drop(said);
            });
        }
        drop(said);
        poll_fn(|cx| all_said.poll(cx)).await;
    }

    /// Ends every task before it returns. `recv` then returns the messages that have arrived, and
    /// ends.
    pub(in crate::transport_layer) fn close_tasks(&self) {
        drop(self.listener.lock().take());
        self.handshakes.close();
        self.tasks.close();
        self.inbox.close();
    }
}

/// Logs the end of a connection. Without a proved identity there may be as many as someone forges
/// addresses, so these are for debugging only.
fn log_end(addr: SocketAddr, reason: &dyn std::fmt::Display, life: LinkLife) {
    let age = life.age;
    if life.identity == Identity::UNPROVED {
        tracing::debug!(%addr, %reason, ?age, "connection ended");
    } else {
        tracing::info!(%addr, %reason, ?age, "connection ended");
    }
}

/// Returns the address under which peers register a socket with this credential.
pub(in crate::transport_layer) fn advertised_addr(credential: &NetCredential) -> SocketAddr {
    let stated = credential.stated_addr();
    stated.unwrap_or_else(|| credential.identity().address())
}
