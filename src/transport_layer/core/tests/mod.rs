//! Tests of the core alone, with plain time values and connections that do nothing.

mod dials;
mod life;
mod limits;
mod steps;
mod wakes;
mod writes;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use super::{Effects, NewPeer, Offered, PeerKey, Peers, Reading, Step, Wanted, Writer};
use crate::credential::Identity;
use crate::net::{Alpn, CloseCode, CloseReason, ConnectError, NetConnection};
use crate::rt::Instant;
use crate::transport_layer::TransportLayerConfig;
use crate::transport_layer::stats::{Direction, DropReason, PeerStats, SocketStats};
use bytes::Bytes;

/// A connection as the core sees it: an identity, an address, and when its peer was last heard.
#[derive(Debug, Clone)]
struct Conn {
    identity: Identity,
    last_heard: Instant,
    addr: SocketAddr,
}

static ALPN: Alpn = Alpn::from_static(b"test");

impl NetConnection for Conn {
    fn local_addr(&self) -> SocketAddr {
        self.addr
    }
    fn remote_addr(&self) -> SocketAddr {
        self.addr
    }
    fn local_identity(&self) -> Identity {
        self.identity
    }
    fn remote_identity(&self) -> Identity {
        self.identity
    }
    fn alpn_negotiated(&self) -> &Alpn {
        &ALPN
    }
    async fn send_many(&self, _: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        unreachable!("the core does not write")
    }
    async fn keepalive(&self) -> anyhow::Result<()> {
        unreachable!("the core does not write")
    }
    async fn recv(&self) -> anyhow::Result<Option<Bytes>> {
        unreachable!("the core does not read")
    }
    fn last_heard(&self) -> Instant {
        self.last_heard
    }
    async fn close(&self, _: CloseCode) {
        unreachable!("the core does not close")
    }
    async fn watch_close(&self) -> CloseReason {
        unreachable!("the core does not wait")
    }
}

fn addr(n: u8) -> SocketAddr {
    ([10, 0, 0, n], 7000).into()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn message() -> Bytes {
    Bytes::from_static(b"message")
}

/// A core, its time, and its peers.
struct Fixture {
    peers: Peers<Conn>,
    now: Instant,
    fx: Effects<Conn>,
    batch: VecDeque<Bytes>,
    created: Vec<NewPeer>,
}

impl Fixture {
    fn new(config: TransportLayerConfig) -> Self {
        config.validate().unwrap();
        Self {
            peers: Peers::new(Arc::new(config), 16 << 10),
            now: Instant::now(),
            fx: Effects::default(),
            batch: VecDeque::new(),
            created: Vec::new(),
        }
    }

    fn conn(&self, to: SocketAddr, identity: u8) -> Conn {
        Conn {
            identity: Identity::from_bytes([identity; 32]),
            last_heard: self.now,
            addr: to,
        }
    }

    /// Carries out the effects as the driver does, and clears them.
    fn settle(&mut self) {
        let fx = std::mem::take(&mut self.fx);
        self.created.extend(fx.new_peers);
    }

    /// Returns the latest entry for `addr`, after carrying out the effects.
    fn entry(&mut self, addr: SocketAddr) -> &NewPeer {
        self.settle();
        let own = self.created.iter().rev().find(|new| new.key.addr == addr);
        own.expect("a peer with that address")
    }

    fn key(&mut self, addr: SocketAddr) -> PeerKey {
        self.entry(addr).key
    }

    /// Takes down the signal of the peer's task. Returns whether it was up.
    fn take_signal(&mut self, addr: SocketAddr) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.entry(addr).signal.poll(&mut cx).is_ready()
    }

    /// Offers a message as the driver does.
    fn offer(&mut self, to: SocketAddr) -> Offered<Conn> {
        let now = self.now;
        match self.peers.offer_to_busy(to, message()) {
            Ok(()) => Offered::Done,
            Err(bytes) => self.peers.offer(to, bytes, || now, &mut self.fx),
        }
    }

    fn connect(&mut self, to: SocketAddr, identity: u8, direction: Direction) -> Option<u64> {
        let conn = self.conn(to, identity);
        self.peers
            .connected(to, conn, direction, self.now, &mut self.fx)
    }

    fn accept(&mut self, from: SocketAddr, identity: u8) -> u64 {
        let link = self.connect(from, identity, Direction::Incoming);
        link.expect("an open socket takes connections")
    }

    fn step(&mut self, addr: SocketAddr) -> Step<Conn> {
        let key = self.key(addr);
        self.batch.clear();
        let (batch, now) = (&mut self.batch, self.now);
        self.peers.next_step(key, batch, now, &mut self.fx)
    }

    /// Ends the batch of the last step as if the network had taken all of it.
    fn written(&mut self, addr: SocketAddr, link: u64) {
        let key = self.key(addr);
        self.batch.clear();
        let (batch, now) = (&mut self.batch, self.now);
        self.peers
            .written((key, link, Writer::Task), batch, true, now, &mut self.fx);
    }

    fn stats(&self) -> SocketStats {
        self.peers.stats(self.now)
    }

    /// The addresses of the live connections, in order.
    fn connections(&self) -> Vec<SocketAddr> {
        let connections = self.stats().connections;
        let mut addrs: Vec<_> = connections.iter().map(|c| c.remote_addr).collect();
        addrs.sort();
        addrs
    }

    fn peer(&self, addr: SocketAddr) -> PeerStats {
        self.stats().peers[&addr].clone()
    }

    fn touch(&mut self, addr: SocketAddr) -> Result<(), crate::transport_layer::ClosedError> {
        self.peers.touch(addr, self.now, &mut self.fx)
    }

    fn fail_dial(&mut self, addr: SocketAddr, kind: std::io::ErrorKind) {
        let source = kind.into();
        self.fail_dial_with(ConnectError::Io { addr, source }, addr);
    }

    fn fail_dial_with(&mut self, error: ConnectError, addr: SocketAddr) {
        let (key, error) = (self.key(addr), Arc::new(error.into()));
        let failed = self.peers.dial_failed(key, &error, self.now, &mut self.fx);
        assert!(failed.is_some());
    }
}

/// Returns the name of a step, for tables.
fn name(step: &Step<Conn>) -> &'static str {
    match step {
        Step::Gone => "gone",
        Step::Wait(_) => "wait",
        Step::Dial => "dial",
        Step::Write { .. } => "write",
        Step::Keepalive { .. } => "keepalive",
    }
}
