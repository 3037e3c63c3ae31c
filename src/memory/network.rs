//! All hosts, listeners and pipes of a network.
//!
//! It delivers nothing itself; pipes and listeners do. Invariant: at most one listener is bound to
//! an address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use super::backlog::Backlog;
use super::config::MemoryConfig;
use super::faults::{FaultTable, Faults};
use super::pipe::Pipe;
use crate::rt::sync::{Mutex, MutexGuard};

/// The first port that is assigned when port 0 is bound, and to dialling hosts.
const FIRST_EPHEMERAL_PORT: u16 = 49_152;

/// A network of hosts, with scripted faults between them. Clones are the same network.
#[derive(Debug, Clone)]
pub struct MemoryNetwork(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: MemoryConfig,
    faults: Arc<FaultTable>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    backlogs: HashMap<SocketAddr, Arc<Backlog>>,
    pipes: Vec<Weak<Pipe>>,
    next_port: u16,
}

impl MemoryNetwork {
    /// Returns a network without faults and with default limits. The losses of messages are drawn
    /// from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::with_config(seed, MemoryConfig::default())
    }

    /// Returns a network with the given limits.
    ///
    /// Invalid limits are reported by
    /// [`create_listener`](crate::net::NetTransport::create_listener) and
    /// [`connect`](crate::net::NetTransport::connect).
    pub fn with_config(seed: u64, config: MemoryConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            faults: Arc::new(FaultTable::new(seed)),
            state: Mutex::new(State {
                backlogs: HashMap::new(),
                pipes: Vec::new(),
                next_port: FIRST_EPHEMERAL_PORT,
            }),
        }))
    }

    /// Sets the faults from one host to another.
    pub fn set_faults(&self, from: IpAddr, to: IpAddr, faults: Faults) {
        self.0.faults.set(&[(from, to)], faults);
        self.wake_pipes();
    }

    /// Sets the same faults in both directions between two hosts.
    pub fn set_faults_between(&self, a: IpAddr, b: IpAddr, faults: Faults) {
        self.0.faults.set(&[(a, b), (b, a)], faults);
        self.wake_pipes();
    }

    /// Cuts the network between each host of `side` and each host of `others`.
    pub fn partition(&self, side: &[IpAddr], others: &[IpAddr]) {
        for a in side {
            for b in others {
                self.set_faults_between(*a, *b, Faults::cut());
            }
        }
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.0.faults.clear();
        self.wake_pipes();
    }

    /// Breaks all current connections between two hosts. Later connections are not affected.
    pub fn break_connections(&self, a: IpAddr, b: IpAddr) {
        for pipe in self.pipes() {
            if pipe.is_between(a, b) {
                pipe.break_now();
            }
        }
    }

    pub(super) fn config(&self) -> &MemoryConfig {
        &self.0.config
    }

    pub(super) fn faults(&self) -> &FaultTable {
        &self.0.faults
    }

    /// Binds `addr`, or a free port of its IP address if its port is 0. Returns the bound address.
    ///
    /// # Errors
    ///
    /// Fails with [`io::ErrorKind::AddrInUse`] if the address is bound already.
    pub(super) fn bind(&self, mut addr: SocketAddr) -> io::Result<(SocketAddr, Arc<Backlog>)> {
        let mut state = self.lock();
        if addr.port() == 0 {
            loop {
                addr.set_port(state.ephemeral_port());
                if !state.backlogs.contains_key(&addr) {
                    break;
                }
            }
        }
        match state.backlogs.entry(addr) {
            Entry::Occupied(_) => Err(io::ErrorKind::AddrInUse.into()),
            Entry::Vacant(entry) => Ok((addr, Arc::clone(entry.insert(Arc::default())))),
        }
    }

    /// Frees a bound address.
    pub(super) fn unbind(&self, addr: SocketAddr) {
        self.lock().backlogs.remove(&addr);
    }

    /// Returns the backlog of the listener at `addr`, if there is one, and a port to dial from.
    pub(super) fn dial(&self, addr: SocketAddr) -> Option<(Arc<Backlog>, u16)> {
        let mut state = self.lock();
        let port = state.ephemeral_port();
        let backlog = state.backlogs.get(&addr)?;
        Some((Arc::clone(backlog), port))
    }

    /// Creates one direction of a connection.
    pub(super) fn new_pipe(&self, from: IpAddr, to: IpAddr) -> Arc<Pipe> {
        let faults = Arc::clone(&self.0.faults);
        let pipe = Arc::new(Pipe::new(faults, self.config(), from, to));
        let mut state = self.lock();
        state.pipes.retain(|pipe| pipe.strong_count() > 0);
        state.pipes.push(Arc::downgrade(&pipe));
        pipe
    }

    fn pipes(&self) -> Vec<Arc<Pipe>> {
        self.lock().pipes.iter().filter_map(Weak::upgrade).collect()
    }

    fn wake_pipes(&self) {
        for pipe in self.pipes() {
            pipe.wake();
        }
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
