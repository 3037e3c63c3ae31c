//! A host's access to the network: dialling, listening, and the checks of a handshake.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use futures::channel::oneshot;

use super::connection::About;
use super::{BACKLOG, DialFault, MemoryConnection, MemoryNetwork};
use crate::credential::NetCredential;
use crate::net::{Alpn, ConnectError, NetIncomingRequest, NetListener, NetTransport, is_dialable};
use crate::rt;
use crate::rt::sync::{Epoch, Mutex, MutexGuard};
use crate::secure::HandshakeError;

/// The network in memory as one host sees it.
#[derive(Debug, Clone)]
pub struct MemoryTransport {
    network: MemoryNetwork,
    ip: IpAddr,
}

/// A bound address. Dropping it frees the address at once.
#[derive(Debug)]
pub struct MemoryListener {
    network: MemoryNetwork,
    local_addr: SocketAddr,
    knock: Arc<Knock>,
    alpn_supported: Vec<Alpn>,
    credential: NetCredential,
}

/// A host that dialled and waits for an answer.
#[derive(Debug)]
pub struct MemoryIncomingRequest {
    dial: Dial,
    network: MemoryNetwork,
    local_addr: SocketAddr,
    alpn_supported: Vec<Alpn>,
    credential: NetCredential,
}

/// Where dials wait for `accept`.
#[derive(Debug, Default)]
pub(super) struct Knock {
    waiting: Mutex<VecDeque<Dial>>,
    changed: Epoch,
}

#[derive(Debug)]
struct Dial {
    from: SocketAddr,
    alpn_preferred: Vec<Alpn>,
    credential: NetCredential,
    answer: oneshot::Sender<Result<MemoryConnection, HandshakeError>>,
}

impl MemoryTransport {
    pub(super) fn new(network: MemoryNetwork, ip: IpAddr) -> Self {
        Self { network, ip }
    }

    /// This host's address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Waits as long as dials to `to` get no answer.
    async fn wait_for_answer(&self, to: IpAddr) -> DialFault {
        loop {
            let seen = self.network.changed().current();
            let faults = self.network.faults(self.ip, to);
            if faults.dial != DialFault::Ignored {
                if !faults.delay.is_zero() {
                    rt::sleep(faults.delay).await;
                }
                return faults.dial;
            }
            self.network.changed().later_than(seen).await;
        }
    }
}

impl NetTransport for MemoryTransport {
    type Listener = MemoryListener;
    type Connection = MemoryConnection;

    async fn create_listener(
        &self,
        bind_addr: SocketAddr,
        alpn_supported: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<MemoryListener> {
        let mut state = self.network.lock();
        let mut local_addr = bind_addr;
        if local_addr.ip().is_unspecified() {
            local_addr.set_ip(self.ip);
        }
        if local_addr.port() == 0 {
            loop {
                local_addr.set_port(state.ephemeral_port());
                if !state.listeners.contains_key(&local_addr) {
                    break;
                }
            }
        }
        if state.listeners.contains_key(&local_addr) {
            return Err(io::Error::from(io::ErrorKind::AddrInUse))
                .with_context(|| format!("cannot listen on {local_addr}"));
        }
        let knock = Arc::new(Knock::default());
        state.listeners.insert(local_addr, Arc::clone(&knock));
        drop(state);
        Ok(MemoryListener {
            network: self.network.clone(),
            local_addr,
            knock,
            alpn_supported: alpn_supported.to_vec(),
            credential: credential.clone(),
        })
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<MemoryConnection> {
        if !is_dialable(addr) {
            return Err(ConnectError::NotDialable { addr }.into());
        }
        let refused = || ConnectError::Io {
            addr,
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        match self.wait_for_answer(addr.ip()).await {
            DialFault::None | DialFault::Ignored => {}
            DialFault::Refused => return Err(refused().into()),
            DialFault::HandshakeUnanswered => return std::future::pending().await,
        }
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.network.lock();
            let from = SocketAddr::new(self.ip, state.ephemeral_port());
            let Some(knock) = state.listeners.get(&addr) else {
                return Err(refused().into());
            };
            let mut waiting = knock.lock();
            if waiting.len() >= BACKLOG {
                // Whoever has given up takes no place.
                waiting.retain(|dial| !dial.answer.is_canceled());
            }
            if waiting.len() >= BACKLOG {
                return Err(refused().into());
            }
            waiting.push_back(Dial {
                from,
                alpn_preferred: alpn_preferred.to_vec(),
                credential: credential.clone(),
                answer,
            });
            drop(waiting);
            knock.changed.advance();
        }
        match answered.await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error.into()),
            Err(oneshot::Canceled) => Err(HandshakeError::ClosedByPeer.into()),
        }
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        let addr = name
            .parse()
            .with_context(|| format!("{name:?} is no address (ip:port)"))?;
        Ok(vec![addr])
    }

    fn max_message_len(&self) -> usize {
        self.network.config().max_message_len
    }
}

impl Knock {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Dial>> {
        self.waiting.lock()
    }
}

impl NetListener for MemoryListener {
    type IncomingRequest = MemoryIncomingRequest;
    type Connection = MemoryConnection;

    fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    async fn accept(&self) -> anyhow::Result<MemoryIncomingRequest> {
        loop {
            let seen = self.knock.changed.current();
            let dial = self.knock.lock().pop_front();
            if let Some(dial) = dial {
                return Ok(MemoryIncomingRequest {
                    dial,
                    network: self.network.clone(),
                    local_addr: self.local_addr,
                    alpn_supported: self.alpn_supported.clone(),
                    credential: self.credential.clone(),
                });
            }
            self.knock.changed.later_than(seen).await;
        }
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        self.network.lock().listeners.remove(&self.local_addr);
        // Whoever waits is told by the drop of its answer.
        self.knock.lock().clear();
    }
}

impl NetIncomingRequest for MemoryIncomingRequest {
    type Connection = MemoryConnection;

    fn remote_addr(&self) -> SocketAddr {
        self.dial.from
    }

    async fn accept(self) -> anyhow::Result<MemoryConnection> {
        let alpn = match self.check() {
            Ok(alpn) => alpn,
            Err((ours, theirs)) => {
                // A dialler that has gone needs no answer.
                let _ = self.dial.answer.send(Err(theirs));
                return Err(ours.into());
            }
        };
        let (acceptor, dialler) = (self.local_addr, self.dial.from);
        let (ours, theirs) = (self.credential.identity(), self.dial.credential.identity());
        let to_dialler = self.network.new_pipe(acceptor.ip(), dialler.ip());
        let to_acceptor = self.network.new_pipe(dialler.ip(), acceptor.ip());
        let max_message_len = self.network.config().max_message_len;
        let their_end = MemoryConnection::new(
            About {
                local_addr: dialler,
                remote_addr: acceptor,
                local_identity: theirs,
                remote_identity: ours,
                alpn: alpn.clone(),
            },
            Arc::clone(&to_acceptor),
            Arc::clone(&to_dialler),
            max_message_len,
        );
        let our_end = MemoryConnection::new(
            About {
                local_addr: acceptor,
                remote_addr: dialler,
                local_identity: ours,
                remote_identity: theirs,
                alpn,
            },
            to_dialler,
            to_acceptor,
            max_message_len,
        );
        if self.dial.answer.send(Ok(their_end)).is_err() {
            return Err(HandshakeError::ClosedByPeer.into());
        }
        Ok(our_end)
    }
}

impl MemoryIncomingRequest {
    /// What the secure channel's handshake checks, with what each side sees of a failure: ours
    /// first, the dialler's second.
    fn check(&self) -> Result<Alpn, (HandshakeError, HandshakeError)> {
        let closed = HandshakeError::ClosedByPeer;
        let (ours, theirs) = (self.credential.trust(), self.dial.credential.trust());
        if ours.cluster_secret() != theirs.cluster_secret() {
            return Err((HandshakeError::Decrypt, closed));
        }
        let identity = self.credential.identity();
        if !theirs.allows(&identity) {
            return Err((closed, HandshakeError::UntrustedPeer { identity }));
        }
        let identity = self.dial.credential.identity();
        if !ours.allows(&identity) {
            return Err((HandshakeError::UntrustedPeer { identity }, closed));
        }
        let preferred = &self.dial.alpn_preferred;
        match preferred.iter().find(|a| self.alpn_supported.contains(a)) {
            Some(alpn) => Ok(alpn.clone()),
            None => Err((HandshakeError::NoCommonProtocol, closed)),
        }
    }
}
