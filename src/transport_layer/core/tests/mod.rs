//! Tests of the core alone, with plain time values and connections that do nothing.

mod backlog;
mod claims;
mod conflicts;
mod dials;
mod hostile;
mod leaves;
mod life;
mod life_of_many;
mod limits;
mod names;
mod order;
mod steps;
mod trusted;
mod unproved;
mod wakes;
mod waking;
mod writes;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use super::{
    DirectWrite, Effects, LinkEnd, NewDial, NewPeer, Offered, Own, PeerKey, Peers, Reading, Step,
    Wanted, Writer,
};
use crate::credential::{Claims, ClusterSecret, Grounds, Identity};
use crate::net::{Alpn, CloseCode, CloseReason, ConnectError, NetConnection};
use crate::rt::Instant;
use crate::transport_layer::TransportLayerConfig;
use crate::transport_layer::stats::{Direction, DropReason, PeerStats, SocketStats};
use bytes::Bytes;

/// A connection as the core sees it: an identity, addresses, and when its peer was last heard.
#[derive(Debug, Clone)]
struct Conn {
    identity: Identity,
    last_heard: Instant,
    last_answer: Option<Instant>,
    addr: SocketAddr,
    is_local: bool,
    stated: Option<SocketAddr>,
    grounds: Grounds,
    claims: Option<Arc<Claims>>,
}

static ALPN: Alpn = Alpn::from_static(b"test");

impl NetConnection for Conn {
    fn local_addr(&self) -> SocketAddr {
        self.addr
    }
    fn remote_addr(&self) -> SocketAddr {
        self.addr
    }
    fn is_local(&self) -> bool {
        self.is_local
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
    fn grounds(&self) -> Grounds {
        self.grounds
    }
    fn claims(&self) -> Option<&Arc<Claims>> {
        self.claims.as_ref()
    }
    fn stated_addr(&self) -> Option<SocketAddr> {
        self.stated
    }
    fn last_heard(&self) -> Instant {
        self.last_heard
    }
    fn last_answer(&self) -> Option<Instant> {
        self.last_answer
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

fn id(identity: u8) -> Identity {
    Identity::from_bytes([identity; 32])
}

/// Returns the grounds of a connection that was made with the secret `n`.
fn secret(n: u8) -> Grounds {
    Grounds::Secret(ClusterSecret::from_bytes(&[n; 16]).unwrap().id())
}

/// Returns this socket as its peers may name it.
fn own() -> Own {
    let local_addr = addr(200);
    Own {
        identity: id(100),
        local_addr,
        advertised_addr: local_addr,
    }
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
    closed: Vec<CloseCode>,
    /// The connections on which a goodbye was to be said, with its code.
    left: Vec<CloseCode>,
    /// The connections that were to be read, in this order.
    started: Vec<u64>,
}

impl Fixture {
    fn new(config: TransportLayerConfig) -> Self {
        config.validate().unwrap();
        Self {
            peers: Peers::new(Arc::new(config), 16 << 10, own()),
            now: Instant::now(),
            fx: Effects::default(),
            batch: VecDeque::new(),
            created: Vec::new(),
            closed: Vec::new(),
            left: Vec::new(),
            started: Vec::new(),
        }
    }

    /// Returns a connection of a peer that states the address of the connection.
    fn conn(&self, to: SocketAddr, identity: u8) -> Conn {
        Conn {
            identity: id(identity),
            last_heard: self.now,
            last_answer: None,
            addr: to,
            is_local: to.ip().is_loopback(),
            stated: Some(to),
            grounds: Grounds::Unknown,
            claims: None,
        }
    }

    /// Carries out the effects as the driver does, and clears them.
    fn settle(&mut self) {
        let fx = std::mem::take(&mut self.fx);
        self.created.extend(fx.new_peers);
        self.started
            .extend(fx.readers.iter().map(|reader| reader.link));
        self.closed.extend(fx.close.iter().map(|(_, code)| *code));
        self.left.extend(fx.leave.iter().map(|(_, code)| *code));
    }

    /// Returns the latest entry for `addr`, after carrying out the effects.
    fn entry(&mut self, addr: SocketAddr) -> &NewPeer {
        self.settle();
        let id = self.peers.id_at(addr);
        let own = self.created.iter().rev().find(|new| match id {
            Some(id) => new.key.id == id,
            None => new.key.addr == addr,
        });
        own.expect("a peer with that address")
    }

    fn key(&mut self, addr: SocketAddr) -> PeerKey {
        let id = self.entry(addr).key.id;
        PeerKey { addr, id }
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

    /// Offers a message that its sender may write itself.
    fn direct(&mut self, to: SocketAddr) -> DirectWrite<Conn> {
        match self.offer(to) {
            Offered::Write(direct) => direct,
            other => panic!("the connection is not at rest: {other:?}"),
        }
    }

    /// Takes a connection into service that was accepted, or dialled without being asked for. Returns
    /// its id if it is read, and 0 otherwise.
    fn enter(&mut self, conn: Conn, direction: Direction) -> u64 {
        let before = self.fx.readers.len();
        match direction {
            Direction::Incoming => self.peers.accepted(conn, self.now, &mut self.fx),
            Direction::Outgoing => {
                let to = conn.addr;
                self.peers.touch(to, self.now, &mut self.fx).ok();
                self.peers.dialled((to, to), conn, self.now, &mut self.fx);
            }
        }
        self.fx.readers.get(before).map_or(0, |reader| reader.link)
    }

    fn connect(&mut self, to: SocketAddr, identity: u8, direction: Direction) -> u64 {
        let conn = self.conn(to, identity);
        self.enter(conn, direction)
    }

    fn accept(&mut self, from: SocketAddr, identity: u8) -> u64 {
        self.connect(from, identity, Direction::Incoming)
    }

    fn end(&mut self, addr: SocketAddr, link: u64, end: LinkEnd) -> Option<Duration> {
        let key = self.key(addr);
        let (now, fx) = (self.now, &mut self.fx);
        let life = self.peers.disconnected(key, link, &end, now, fx);
        self.peers.reader_ended(key, link, fx);
        life.map(|life| life.age)
    }

    fn lose(&mut self, addr: SocketAddr, link: u64) {
        self.end(addr, link, LinkEnd::Lost);
    }

    fn hear(&mut self, addr: SocketAddr, link: u64) {
        let key = self.key(addr);
        self.peers.heard(key, link, self.now);
    }

    fn reading(&mut self, addr: SocketAddr, link: u64, reading: Reading) {
        let key = self.key(addr);
        self.peers.reading(key, link, reading);
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

    fn ask_for(&mut self, addr: SocketAddr) {
        self.peers.ask_for(addr, self.now, &mut self.fx).unwrap();
    }

    fn fail_dial(&mut self, addr: SocketAddr, kind: std::io::ErrorKind) {
        let source = kind.into();
        self.fail_dial_with(ConnectError::Io { addr, source }, addr);
    }

    fn fail_dial_with(&mut self, error: ConnectError, addr: SocketAddr) {
        let (key, error) = (self.peers.dial_at(addr), Arc::new(error.into()));
        let failed = self.stats().dials_failed;
        self.peers.dial_failed(key, &error, self.now, &mut self.fx);
        assert_eq!(self.stats().dials_failed, failed + 1);
    }
}

/// Returns the name of a step, for tables.
fn name(step: &Step<Conn>) -> &'static str {
    match step {
        Step::Gone => "gone",
        Step::Wait(_) => "wait",
        Step::Dial(_) => "dial",
        Step::Write { .. } => "write",
        Step::Keepalive { .. } => "keepalive",
        Step::Probe { .. } => "probe",
    }
}
