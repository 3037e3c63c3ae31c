//! A bound port, and whose datagram it is that has come.
//!
//! It reads and sorts; it dials nobody and answers nobody. Invariant: there is one link for each
//! remote address.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;

use super::connection::Link;
use super::{UdpConfig, UdpError};
use crate::message::{ChitchatMessage, Message as _, begins_a_message};
use crate::rt::sync::{Epoch, Mutex, MutexGuard};
use crate::rt::{self, Task};

/// Datagrams that are read in a row before other tasks get their turn.
const YIELD_AFTER: u32 = 64;

/// The wait after the system had no memory for a datagram.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// Longer than any datagram.
const BUFFER_LEN: usize = 1 << 16;

/// Datagrams that did not become messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct UdpCounts {
    /// They were no messages of chitchat's.
    pub malformed: u64,
    /// From strangers, with too many others waiting to be let in, or to a port that only dials.
    pub refused: u64,
    /// From peers of whom too much waits to be read.
    pub overflowed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    malformed: AtomicU64,
    refused: AtomicU64,
    overflowed: AtomicU64,
}

impl Counters {
    pub(super) fn counts(&self) -> UdpCounts {
        UdpCounts {
            malformed: self.malformed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            overflowed: self.overflowed.load(Ordering::Relaxed),
        }
    }
}

/// A bound port. The last handle frees it.
#[derive(Debug)]
pub(super) struct Endpoint {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    _reading: Task,
}

#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    config: UdpConfig,
    counters: Arc<Counters>,
    state: Mutex<State>,
    knocked: Epoch,
}

#[derive(Debug, Default)]
struct State {
    links: HashMap<SocketAddr, Arc<Link>>,
    /// Strangers in the order in which they came.
    strangers: VecDeque<Arc<Link>>,
    listening: bool,
    failed: Option<Arc<io::Error>>,
}

impl Endpoint {
    pub(super) async fn bind(
        addr: SocketAddr,
        config: UdpConfig,
        counters: Arc<Counters>,
    ) -> io::Result<Arc<Self>> {
        let socket = UdpSocket::bind(addr).await?;
        let local_addr = socket.local_addr()?;
        let shared = Arc::new(Shared {
            socket,
            config,
            counters,
            state: Mutex::default(),
            knocked: Epoch::default(),
        });
        Ok(Arc::new(Self {
            _reading: Task::spawn(read(Arc::clone(&shared))),
            shared,
            local_addr,
        }))
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.shared.socket
    }

    /// From now on strangers are let in, or no longer.
    pub(super) fn listen(&self, listening: bool) {
        let mut state = self.shared.lock();
        state.listening = listening;
        let turned_away = if listening {
            VecDeque::new()
        } else {
            std::mem::take(&mut state.strangers)
        };
        for link in turned_away {
            state.links.remove(&link.remote_addr());
        }
    }

    /// The next stranger. Cancel-safe.
    pub(super) async fn stranger(&self) -> Result<Arc<Link>, UdpError> {
        loop {
            let seen = self.shared.knocked.current();
            {
                let mut state = self.shared.lock();
                if let Some(link) = state.strangers.pop_front() {
                    return Ok(link);
                }
                if let Some(error) = &state.failed {
                    return Err(UdpError::Failed(Arc::clone(error)));
                }
            }
            self.shared.knocked.later_than(seen).await;
        }
    }

    /// The link to `remote`, which is made if there is none.
    pub(super) fn link(&self, remote: SocketAddr) -> Result<Arc<Link>, UdpError> {
        let mut state = self.shared.lock();
        if let Some(error) = &state.failed {
            return Err(UdpError::Failed(Arc::clone(error)));
        }
        // A stranger that we dial is none any more.
        state.strangers.retain(|link| link.remote_addr() != remote);
        let link = state
            .links
            .entry(remote)
            .or_insert_with(|| Arc::new(Link::new(remote)));
        Ok(Arc::clone(link))
    }

    /// Nothing is kept for `link` any more.
    pub(super) fn forget(&self, link: &Arc<Link>) {
        let mut state = self.shared.lock();
        if let Entry::Occupied(entry) = state.links.entry(link.remote_addr())
            && Arc::ptr_eq(entry.get(), link)
        {
            entry.remove();
        }
    }
}

async fn read(shared: Arc<Shared>) {
    let mut buffer = vec![0; BUFFER_LEN];
    let mut in_a_row = 0;
    loop {
        match shared.socket.recv_from(&mut buffer).await {
            Ok((len, from)) => {
                shared.arrived(from, buffer.get(..len).unwrap_or_default());
            }
            Err(error) if is_of_one_peer(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                rt::sleep(SHORTAGE_PAUSE).await;
            }
            Err(error) => {
                shared.fail(error);
                return;
            }
        }
        in_a_row += 1;
        if in_a_row >= YIELD_AFTER {
            in_a_row = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// What an earlier datagram of ours has met, which some systems tell here.
fn is_of_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Interrupted
    )
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn arrived(&self, from: SocketAddr, bytes: &[u8]) {
        if !begins_a_message(bytes) {
            count(&self.counters.malformed);
            return;
        }
        // A copy of what has come, rather than a buffer of 64 KiB for each.
        let bytes = Bytes::copy_from_slice(bytes);
        let known = self.lock().links.get(&from).cloned();
        if let Some(link) = known {
            if !link.push(bytes, &self.config) {
                count(&self.counters.overflowed);
            }
            return;
        }
        // Nothing is kept for whoever does not speak the protocol.
        if ChitchatMessage::decode(bytes.clone()).is_err() {
            count(&self.counters.malformed);
            return;
        }
        let mut state = self.lock();
        let is_full = state.strangers.len() >= self.config.max_waiting_strangers;
        if !state.listening || is_full {
            count(&self.counters.refused);
            return;
        }
        let link = Arc::new(Link::new(from));
        link.push(bytes, &self.config);
        state.links.insert(from, Arc::clone(&link));
        state.strangers.push_back(link);
        drop(state);
        self.knocked.advance();
    }

    fn fail(&self, error: io::Error) {
        tracing::error!(%error, "a port for plaintext UDP has failed");
        let error = Arc::new(error);
        let links: Vec<_> = {
            let mut state = self.lock();
            state.failed = Some(Arc::clone(&error));
            state.links.drain().map(|(_, link)| link).collect()
        };
        for link in links {
            link.fail(UdpError::Failed(Arc::clone(&error)));
        }
        self.knocked.advance();
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
