//! A network in memory, with scripted faults, for tests and examples.
//!
//! Hosts are IP addresses that need not exist; a [`MemoryTransport`] is one host's access to a
//! [`MemoryNetwork`]. Messages never leave the process, so nothing is encrypted; identities, trust
//! and application protocols are checked as the secure channel checks them, with its errors.
//!
//! Faults are set for one direction of a pair of hosts and may change at any time:
//! [`LinkFaults`]. Invariant: with tokio's paused clock and a fixed seed, the same calls give the
//! same result. No sockets, no threads; it works in a browser, too.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use gossip_transport::memory::MemoryNetwork;
//! use gossip_transport::net::NetTransport as _;
//! use gossip_transport::{NetCredential, Trust};
//!
//! let network = MemoryNetwork::new(1);
//! let host = network.host([10, 0, 0, 1].into());
//! let credential = NetCredential::generate(Trust::dangerously_anyone());
//! let _listener = host.create_listener(([10, 0, 0, 1], 7000).into(), &[], &credential).await?;
//! assert!(host.create_listener(([10, 0, 0, 1], 7000).into(), &[], &credential).await.is_err());
//! # anyhow::Ok(()) }).unwrap();
//! ```

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

mod connection;
mod pipe;
mod transport;

pub use connection::MemoryConnection;
pub use transport::{MemoryIncomingRequest, MemoryListener, MemoryTransport};

use crate::rt::sync::{Epoch, Mutex, MutexGuard};
use pipe::Pipe;
use transport::Knock;

/// The first port that is given out where port 0 is asked for, and to dialling hosts.
const FIRST_EPHEMERAL_PORT: u16 = 49_152;
/// Dials that wait for a listener's `accept`; one more is refused.
const BACKLOG: usize = 1024;

/// What is wrong with one direction between two hosts. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct LinkFaults {
    /// How long a message takes.
    pub delay: Duration,
    /// The share of messages that vanish, 0 to 1. A real connection would fail instead; this
    /// serves protocols that have to live with loss.
    pub loss: f64,
    /// Nothing is delivered until this is lifted; what was sent waits, within the connection's
    /// bound. So a peer looks that accepts and never reads.
    pub stalled: bool,
    /// What happens to dials.
    pub dial: DialFault,
}

impl LinkFaults {
    /// Messages take `delay`.
    pub fn delayed(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }
    /// A share of messages vanishes.
    pub fn lossy(loss: f64) -> Self {
        Self {
            loss,
            ..Self::default()
        }
    }
    /// Nothing is delivered.
    pub fn stalled() -> Self {
        Self {
            stalled: true,
            ..Self::default()
        }
    }
    /// Nothing is delivered, and dials get no answer: the network is cut.
    pub fn cut() -> Self {
        Self {
            stalled: true,
            dial: DialFault::Ignored,
            ..Self::default()
        }
    }
    /// Dials meet `fault`.
    pub fn dialing(fault: DialFault) -> Self {
        Self {
            dial: fault,
            ..Self::default()
        }
    }
}

/// What happens to a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DialFault {
    /// Nothing is wrong.
    #[default]
    None,
    /// No answer ever: the first packet is dropped.
    Ignored,
    /// Accepted, and the handshake is never answered.
    HandshakeUnanswered,
    /// Refused, whoever listens.
    Refused,
}

/// Limits of the network in memory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// Bytes on their way in one direction of a connection; more make the sender wait. A single
    /// message may be longer. Default 256 KiB.
    pub pipe_bytes: usize,
    /// Messages on their way in one direction of a connection. Default 1,024.
    pub pipe_messages: usize,
    /// The longest message, in bytes. Default 16 MiB.
    pub max_message_len: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            pipe_bytes: 256 << 10,
            pipe_messages: 1024,
            max_message_len: 16 << 20,
        }
    }
}

/// Hosts, listeners, and what is wrong between them. Clones are the same network.
#[derive(Debug, Clone)]
pub struct MemoryNetwork(Arc<Fabric>);

#[derive(Debug)]
struct Fabric {
    config: MemoryConfig,
    state: Mutex<State>,
    // Faults have changed.
    changed: Epoch,
}

#[derive(Debug)]
struct State {
    listeners: HashMap<SocketAddr, Arc<Knock>>,
    faults: BTreeMap<(IpAddr, IpAddr), LinkFaults>,
    pipes: Vec<Weak<Pipe>>,
    rng: fastrand::Rng,
    next_port: u16,
}

impl MemoryNetwork {
    /// An empty network whose losses are drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::with_config(seed, MemoryConfig::default())
    }

    /// The same, with limits.
    pub fn with_config(seed: u64, config: MemoryConfig) -> Self {
        Self(Arc::new(Fabric {
            config,
            state: Mutex::new(State {
                listeners: HashMap::new(),
                faults: BTreeMap::new(),
                pipes: Vec::new(),
                rng: fastrand::Rng::with_seed(seed),
                next_port: FIRST_EPHEMERAL_PORT,
            }),
            changed: Epoch::default(),
        }))
    }

    /// The network as the host `ip` sees it.
    pub fn host(&self, ip: IpAddr) -> MemoryTransport {
        MemoryTransport::new(self.clone(), ip)
    }

    /// Sets what is wrong on the way from one host to another.
    pub fn set_faults(&self, from: IpAddr, to: IpAddr, faults: LinkFaults) {
        self.lock().faults.insert((from, to), faults);
        self.wake_all();
    }

    /// Sets the same in both directions.
    pub fn set_faults_between(&self, a: IpAddr, b: IpAddr, faults: LinkFaults) {
        {
            let mut state = self.lock();
            state.faults.insert((a, b), faults);
            state.faults.insert((b, a), faults);
        }
        self.wake_all();
    }

    /// Cuts every way between a host of `side` and a host of `others`.
    pub fn partition(&self, side: &[IpAddr], others: &[IpAddr]) {
        for a in side {
            for b in others {
                self.set_faults_between(*a, *b, LinkFaults::cut());
            }
        }
    }

    /// Takes every fault away.
    pub fn heal(&self) {
        self.lock().faults.clear();
        self.wake_all();
    }

    /// Breaks every connection between two hosts now; later ones are not affected.
    pub fn break_connections(&self, a: IpAddr, b: IpAddr) {
        for pipe in self.pipes() {
            if (pipe.from, pipe.to) == (a, b) || (pipe.from, pipe.to) == (b, a) {
                pipe.break_now();
            }
        }
    }

    fn faults(&self, from: IpAddr, to: IpAddr) -> LinkFaults {
        let state = self.lock();
        state.faults.get(&(from, to)).copied().unwrap_or_default()
    }

    /// Whether a message from `from` to `to` is one of those that vanish.
    fn loses(&self, from: IpAddr, to: IpAddr) -> bool {
        let mut state = self.lock();
        let loss = state.faults.get(&(from, to)).map_or(0.0, |f| f.loss);
        loss > 0.0 && state.rng.f64() < loss
    }

    fn new_pipe(&self, from: IpAddr, to: IpAddr) -> Arc<Pipe> {
        let pipe = Arc::new(Pipe::new(self.clone(), from, to));
        let mut state = self.lock();
        state.pipes.retain(|pipe| pipe.strong_count() > 0);
        state.pipes.push(Arc::downgrade(&pipe));
        pipe
    }

    fn pipes(&self) -> Vec<Arc<Pipe>> {
        self.lock().pipes.iter().filter_map(Weak::upgrade).collect()
    }

    fn wake_all(&self) {
        self.0.changed.advance();
        for pipe in self.pipes() {
            pipe.changed.advance();
        }
    }

    fn config(&self) -> &MemoryConfig {
        &self.0.config
    }

    fn changed(&self) -> &Epoch {
        &self.0.changed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

impl State {
    fn ephemeral_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
        port
    }
}
