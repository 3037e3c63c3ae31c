//! The core alone: plain time values, and connections that do nothing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Effects, Offered, PeerKey, Peers, Reading, SenderPlace, Step, Wanted, Writer};
use crate::credential::Identity;
use crate::net::{Alpn, CloseCode, CloseReason, ConnectError, NetConnection};
use crate::rt::Instant;
use crate::transport_layer::stats::{Direction, DropReason, PeerStats, SocketStats};
use crate::transport_layer::{OverflowPolicy, TransportLayerConfig};

/// A connection as the core sees it: an identity and a silence.
#[derive(Debug, Clone)]
struct Conn {
    identity: Identity,
    silence: Duration,
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
    fn silence(&self) -> Duration {
        self.silence
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

/// A core, its time, and the keys of its peers.
struct Fixture {
    peers: Peers<Conn>,
    now: Instant,
    fx: Effects<Conn>,
    batch: VecDeque<Bytes>,
    keys: Vec<PeerKey>,
}

impl Fixture {
    fn new(config: TransportLayerConfig) -> Self {
        config.validate().unwrap();
        Self {
            peers: Peers::new(Arc::new(config), 1000),
            now: Instant::now(),
            fx: Effects::default(),
            batch: VecDeque::new(),
            keys: Vec::new(),
        }
    }

    fn conn(&self, to: SocketAddr, identity: u8) -> Conn {
        Conn {
            identity: Identity::from_bytes([identity; 32]),
            silence: Duration::ZERO,
            addr: to,
        }
    }

    /// Carries out the effects as the driver does, and forgets them.
    fn settle(&mut self) {
        let fx = std::mem::take(&mut self.fx);
        self.keys
            .extend(fx.new_peers.into_iter().map(|new| new.key));
    }

    fn key(&mut self, addr: SocketAddr) -> PeerKey {
        self.settle();
        let own = self.keys.iter().rev().find(|key| key.addr == addr);
        *own.expect("a peer with that address")
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

    /// Ends the batch of the last step, of which the network has taken all.
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
}

/// What a step is, for tables.
fn name(step: &Step<Conn>) -> &'static str {
    match step {
        Step::Gone => "gone",
        Step::Wait(_) => "wait",
        Step::Dial => "dial",
        Step::Write { .. } => "write",
        Step::Keepalive { .. } => "keepalive",
    }
}

#[test]
fn limits_hold_by_identity_then_by_host_then_in_all_and_cost_the_one_that_exceeds_them() {
    /// Host, port and identity of a connection that is accepted.
    type Accepted = (u8, u16, u8);
    struct Case {
        what: &'static str,
        limits: (usize, usize, usize),
        accepted: &'static [Accepted],
        evicted: &'static [(u8, u16)],
    }
    let cases = [
        Case {
            what: "one identity from several hosts loses its least recently used connection",
            limits: (2, 100, 100),
            accepted: &[(1, 1, 9), (2, 1, 1), (3, 1, 9), (4, 1, 9)],
            evicted: &[(1, 1)],
        },
        Case {
            what: "one host with many identities loses its least recently used connection",
            limits: (100, 2, 100),
            accepted: &[(2, 1, 1), (1, 1, 2), (1, 2, 3), (1, 3, 4)],
            evicted: &[(1, 1)],
        },
        Case {
            what: "when all is full, the identity that has the most pays",
            limits: (100, 100, 4),
            accepted: &[(1, 1, 1), (2, 1, 2), (3, 1, 9), (4, 1, 9), (5, 1, 9)],
            evicted: &[(3, 1)],
        },
        Case {
            what: "when all have one, the least recently used connection goes",
            limits: (100, 100, 2),
            accepted: &[(1, 1, 1), (2, 1, 2), (3, 1, 3)],
            evicted: &[(1, 1)],
        },
        Case {
            what: "without an identity the host counts",
            limits: (2, 100, 100),
            accepted: &[(1, 1, 0), (2, 1, 0), (1, 2, 0), (1, 3, 0)],
            evicted: &[(1, 1)],
        },
        Case {
            what: "a flood of one identity takes no place of another",
            limits: (2, 100, 4),
            accepted: &[
                (1, 1, 1),
                (2, 1, 2),
                (3, 1, 9),
                (3, 2, 9),
                (3, 3, 9),
                (3, 4, 9),
                (3, 5, 9),
            ],
            evicted: &[(3, 1), (3, 2), (3, 3)],
        },
    ];
    for case in cases {
        let (of_identity, of_host, in_all) = case.limits;
        let config = TransportLayerConfig::default()
            .with_max_connections_per_identity(of_identity)
            .with_max_connections_per_host(of_host)
            .with_max_connections(in_all);
        let mut fixture = Fixture::new(config);
        let address = |host: u8, port: u16| SocketAddr::from(([10, 0, 0, host], port));
        for (host, port, identity) in case.accepted {
            fixture.now += secs(1);
            fixture.accept(address(*host, *port), *identity);
        }
        let mut expected: Vec<_> = case
            .accepted
            .iter()
            .map(|(host, port, _)| (*host, *port))
            .filter(|accepted| !case.evicted.contains(accepted))
            .map(|(host, port)| address(host, port))
            .collect();
        expected.sort();
        assert_eq!(fixture.connections(), expected, "{}", case.what);
        let closed: Vec<_> = fixture
            .fx
            .close
            .iter()
            .map(|(conn, code)| (conn.addr, *code))
            .collect();
        let evicted: Vec<_> = case
            .evicted
            .iter()
            .map(|(host, port)| (address(*host, *port), CloseCode::EVICTED))
            .collect();
        assert_eq!(closed, evicted, "{}", case.what);
    }
}

#[test]
fn an_evicted_dial_counts_as_failed_and_its_task_learns_of_it() {
    let config = TransportLayerConfig::default().with_max_connections(1);
    let mut fixture = Fixture::new(config);
    fixture.offer(addr(1));
    assert_eq!(name(&fixture.step(addr(1))), "dial");
    fixture.now += secs(1);
    fixture.accept(addr(2), 2);
    let key = fixture.key(addr(1));
    assert!(fixture.peers.is_dial_pointless(key));
    assert_eq!(
        (fixture.stats().dials, fixture.stats().dials_failed),
        (1, 1)
    );
    let conn = fixture.conn(addr(1), 1);
    let (now, fx) = (fixture.now, &mut fixture.fx);
    let late = fixture.peers.dial_succeeded(key, conn, now, fx);
    assert_eq!(late, None, "the dial was given up");
    assert_eq!(fixture.connections(), [addr(2)]);
}

#[test]
fn the_task_of_a_peer_does_what_is_due() {
    type Prepare = fn(&mut Fixture);
    let config = || TransportLayerConfig::default();
    let one = addr(1);
    let cases: [(&str, Prepare, &str); 11] = [
        (
            "nothing is due for a new peer",
            |f| f.touch(addr(1)).unwrap(),
            "wait",
        ),
        ("a message needs a dial", |f| drop(f.offer(addr(1))), "dial"),
        (
            "a message is written to a connection",
            |f| {
                f.accept(addr(1), 1);
                f.offer(addr(1));
            },
            "write",
        ),
        (
            "after a failed dial the task waits, though there are messages",
            |f| {
                f.offer(addr(1));
                f.step(addr(1));
                f.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
            },
            "wait",
        ),
        (
            "a failed dial is repeated when its backoff is over",
            |f| {
                f.offer(addr(1));
                f.step(addr(1));
                f.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
                f.now += secs(1);
            },
            "dial",
        ),
        (
            "a connection without messages is kept alive",
            |f| {
                f.accept(addr(1), 1);
                f.now += secs(15);
            },
            "keepalive",
        ),
        (
            "an idle connection is closed",
            |f| {
                f.accept(addr(1), 1);
                f.now += secs(300);
            },
            "wait",
        ),
        (
            "a peer that was at rest for long is forgotten",
            |f| {
                f.touch(addr(1)).unwrap();
                f.now += secs(60);
            },
            "gone",
        ),
        (
            "a batch of a sender is in flight: the task waits",
            |f| {
                f.accept(addr(1), 1);
                f.now += secs(1);
                assert!(matches!(f.offer(addr(1)), Offered::Write(_)));
                f.offer(addr(1));
            },
            "wait",
        ),
        (
            "bytes that the network has not taken are flushed, though there are no messages",
            |f| {
                let link = f.accept(addr(1), 1);
                f.now += secs(1);
                assert!(matches!(f.offer(addr(1)), Offered::Write(_)));
                let key = f.key(addr(1));
                let (now, batch) = (f.now, &mut VecDeque::new());
                f.peers
                    .written((key, link, Writer::Sender), batch, false, now, &mut f.fx);
            },
            "write",
        ),
        (
            "a caller that wants a connection has one dialled",
            |f| {
                let mut wanted = Wanted::new(addr(1));
                let (now, fx) = (f.now, &mut f.fx);
                let poll = f.peers.poll_connected(&mut wanted, now, Waker::noop(), fx);
                assert!(poll.is_pending());
            },
            "dial",
        ),
    ];
    for (what, prepare, expected) in cases {
        let mut fixture = Fixture::new(config());
        prepare(&mut fixture);
        assert_eq!(name(&fixture.step(one)), expected, "{what}");
    }
}

impl Fixture {
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

#[test]
fn messages_outlive_a_failed_dial_unless_no_retry_can_help() {
    let help = String::new();
    let (one, two) = (addr(1), addr(2));
    let cases = [
        (
            ConnectError::Timeout {
                addr: one,
                after: secs(1),
            },
            one,
            1,
            0,
        ),
        (ConnectError::NotPermitted { addr: two, help }, two, 0, 1),
    ];
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    for (error, addr, queued, dropped) in cases {
        fixture.offer(addr);
        fixture.step(addr);
        fixture.fail_dial_with(error, addr);
        let peer = fixture.peer(addr);
        assert_eq!(peer.queued, queued);
        assert_eq!(peer.dropped.count(DropReason::DialFailed), dropped);
    }
}

#[test]
fn a_sender_writes_itself_only_to_a_connection_at_rest() {
    type Prepare = fn(&mut Fixture, u64);
    let cases: [(&str, Prepare, bool); 6] = [
        ("at rest", |_, _| {}, true),
        (
            "just after another message was written",
            |f, link| {
                assert!(matches!(f.offer(addr(1)), Offered::Write(_)));
                f.written(addr(1), link);
            },
            false,
        ),
        (
            "while another sender writes",
            |f, _| assert!(matches!(f.offer(addr(1)), Offered::Write(_))),
            false,
        ),
        (
            "while the task of the peer writes",
            |f, _| {
                f.now -= secs(1);
                f.offer(addr(1));
                assert_eq!(name(&f.step(addr(1))), "write");
                f.now += secs(1);
            },
            false,
        ),
        (
            "while a message waits for the task of the peer",
            |f, _| {
                f.now -= secs(1);
                f.offer(addr(1));
                f.now += secs(1);
            },
            false,
        ),
        (
            "while the connection holds bytes that the network has not taken",
            |f, link| {
                assert!(matches!(f.offer(addr(1)), Offered::Write(_)));
                let key = f.key(addr(1));
                let (now, batch) = (f.now, &mut VecDeque::new());
                f.peers
                    .written((key, link, Writer::Sender), batch, false, now, &mut f.fx);
                f.now += secs(1);
            },
            false,
        ),
    ];
    for (what, prepare, expected) in cases {
        let mut fixture = Fixture::new(TransportLayerConfig::default());
        let link = fixture.accept(addr(1), 1);
        fixture.step(addr(1));
        fixture.now += secs(1);
        prepare(&mut fixture, link);
        let direct = matches!(fixture.offer(addr(1)), Offered::Write(_));
        assert_eq!(direct, expected, "{what}");
    }
}

#[test]
fn a_message_that_its_sender_could_not_write_goes_first() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let link = fixture.accept(addr(1), 1);
    fixture.step(addr(1));
    fixture.now += secs(1);
    let Offered::Write(direct) = fixture.offer(addr(1)) else {
        panic!("the connection is at rest");
    };
    fixture.offer(addr(1));
    // The connection broke: the message is still in the batch.
    let (now, fx) = (fixture.now, &mut fixture.fx);
    let mut batch = VecDeque::from([Bytes::from_static(b"first")]);
    fixture.peers.written(
        (direct.key, direct.link, Writer::Sender),
        &mut batch,
        false,
        now,
        fx,
    );
    fixture.peers.disconnected(addr(1), link, None, now, fx);
    assert_eq!(fixture.peer(addr(1)).queued, 2);
    fixture.accept(addr(1), 1);
    assert_eq!(name(&fixture.step(addr(1))), "write");
    assert_eq!(fixture.batch, [Bytes::from_static(b"first"), message()]);
}

#[test]
fn the_clock_is_not_read_while_the_task_of_the_peer_runs() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    fixture.accept(addr(1), 1);
    fixture.step(addr(1));
    fixture.offer(addr(1));
    let reads = |fixture: &mut Fixture| {
        let (mut reads, now) = (0, fixture.now);
        let clock = || {
            reads += 1;
            now
        };
        let offered = fixture
            .peers
            .offer(addr(1), message(), clock, &mut fixture.fx);
        assert!(matches!(offered, Offered::Done));
        reads
    };
    // It was woken by the first message.
    assert_eq!(reads(&mut fixture), 0);
    let Step::Write { link, .. } = fixture.step(addr(1)) else {
        panic!("there are messages");
    };
    assert_eq!(reads(&mut fixture), 0);
    // The network does not take them: the task may now wait for long.
    let key = fixture.key(addr(1));
    fixture.peers.write_blocked(key);
    assert_eq!(reads(&mut fixture), 1);
    fixture.written(addr(1), link);
    assert_eq!(reads(&mut fixture), 0);
}

#[test]
fn the_first_connection_is_written_to_as_long_as_it_lives() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let dialled = fixture.connect(addr(1), 1, Direction::Outgoing).unwrap();
    let accepted = fixture.accept(addr(1), 1);
    let written_to = |fixture: &mut Fixture| {
        fixture.offer(addr(1));
        match fixture.step(addr(1)) {
            Step::Write { link, .. } => {
                fixture.written(addr(1), link);
                link
            }
            step => panic!("{step:?}"),
        }
    };
    assert_eq!(written_to(&mut fixture), dialled);
    // The peer has lost a connection that it dialled if it dials another one from the same address.
    let newer = fixture.accept(addr(1), 1);
    assert_eq!(written_to(&mut fixture), newer);
    let now = fixture.now;
    for (ended, next) in [(newer, dialled), (dialled, accepted)] {
        fixture
            .peers
            .disconnected(addr(1), ended, None, now, &mut fixture.fx);
        assert_eq!(written_to(&mut fixture), next);
    }
}

#[test]
fn a_silent_peer_is_closed_unless_it_is_not_read() {
    for (reading, closed) in [(true, true), (false, false)] {
        let config = TransportLayerConfig::default().with_idle_timeout(secs(100_000));
        let mut fixture = Fixture::new(config);
        let mut conn = fixture.conn(addr(1), 1);
        conn.silence = secs(1000);
        let (now, fx) = (fixture.now, &mut fixture.fx);
        let incoming = Direction::Incoming;
        let link = fixture.peers.connected(addr(1), conn, incoming, now, fx);
        fixture.step(addr(1));
        if !reading {
            let link = link.unwrap();
            fixture.peers.reading(addr(1), link, Reading::Paused);
        }
        fixture.now += secs(90);
        fixture.step(addr(1));
        assert_eq!(fixture.connections().is_empty(), closed);
    }
}

#[test]
fn the_peer_that_is_forgotten_first_has_no_connection_and_no_messages() {
    let config = TransportLayerConfig::default()
        .with_max_connections(2)
        .with_max_peers(3);
    let mut fixture = Fixture::new(config);
    fixture.accept(addr(1), 1);
    fixture.now += secs(1);
    fixture.offer(addr(2));
    fixture.now += secs(1);
    fixture.touch(addr(3)).unwrap();
    for (newcomer, left) in [(4, [1, 2, 4]), (5, [1, 2, 5])] {
        fixture.now += secs(1);
        fixture.touch(addr(newcomer)).unwrap();
        let known: Vec<_> = fixture.stats().peers.into_keys().collect();
        assert_eq!(known, left.map(addr));
    }
    // Messages count as dropped if their peer has to go all the same.
    fixture.accept(addr(5), 5);
    fixture.touch(addr(6)).unwrap();
    let stats = fixture.stats();
    assert_eq!(stats.total.dropped.count(DropReason::Overflow), 1);
    assert!(!stats.peers.contains_key(&addr(2)));
}

#[test]
fn a_closing_socket_takes_no_messages_and_only_dials_that_it_has_begun() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    fixture.offer(addr(1));
    fixture.step(addr(1));
    fixture.peers.start_draining(&mut fixture.fx);
    assert!(matches!(fixture.offer(addr(1)), Offered::Closed(_)));
    assert_eq!(fixture.connect(addr(2), 2, Direction::Incoming), None);
    assert!(fixture.connect(addr(1), 1, Direction::Outgoing).is_some());
    assert!(
        fixture
            .peers
            .poll_drained(&mut None, Waker::noop())
            .is_pending()
    );
    let Step::Write { link, .. } = fixture.step(addr(1)) else {
        panic!("there is a message");
    };
    fixture.written(addr(1), link);
    assert!(
        fixture
            .peers
            .poll_drained(&mut None, Waker::noop())
            .is_ready()
    );
    fixture.peers.close(&mut fixture.fx);
    assert_eq!(fixture.connect(addr(1), 1, Direction::Outgoing), None);
}

proptest! {
    #[test]
    fn sums_and_bounds_hold_after_any_operation(
        policy in 0..3,
        operations in proptest::collection::vec((0..12, 1..7_u8, 0..4_u8, 0..20_u64), 1..200),
    ) {
        let overflow = match policy {
            0 => OverflowPolicy::DropOldest,
            1 => OverflowPolicy::DropNewest,
            _ => OverflowPolicy::Backpressure,
        };
        let mut config = TransportLayerConfig::default()
            .with_max_connections(4)
            .with_max_connections_per_identity(2)
            .with_max_connections_per_host(3)
            .with_max_peers(5);
        config.outgoing.overflow = overflow;
        config.outgoing.max_messages = 3;
        let mut fixture = Fixture::new(config);
        let mut writing: Vec<((PeerKey, u64, Writer), usize)> = Vec::new();
        let mut place = SenderPlace::new(addr(1));
        for (operation, peer, identity, time) in operations {
            let to = addr(peer);
            let known = fixture.stats().peers.contains_key(&to);
            match operation {
                0..=2 => if let Offered::Write(direct) = fixture.offer(to) {
                    writing.push(((direct.key, direct.link, Writer::Sender), 1));
                },
                3 => {
                    let (now, fx) = (fixture.now, &mut fixture.fx);
                    let offered = fixture.peers.offer_again(message(), &mut place, now, Waker::noop(), fx);
                    prop_assert!(!matches!(offered, Offered::Write(_) | Offered::Closed(_)));
                }
                4 => fixture.peers.withdraw(&mut place, &mut fixture.fx),
                5 => { fixture.accept(to, identity); }
                6 | 7 if known => if let Step::Write { link, .. } = fixture.step(to) {
                    let key = fixture.key(to);
                    writing.push(((key, link, Writer::Task), fixture.batch.len()));
                },
                8 => if let Some((write, count)) = writing.pop() {
                    // The network has taken some of the batch, and perhaps not flushed it.
                    let left = count.min(usize::from(identity));
                    let mut batch: VecDeque<_> = (0..left).map(|_| message()).collect();
                    let (flushed, now) = (left == 0, fixture.now);
                    fixture.peers.written(write, &mut batch, flushed, now, &mut fixture.fx);
                },
                9 if known => {
                    let key = fixture.key(to);
                    let conn = fixture.conn(to, identity);
                    let (now, fx) = (fixture.now, &mut fixture.fx);
                    fixture.peers.dial_succeeded(key, conn, now, fx);
                }
                10 if known => {
                    let key = fixture.key(to);
                    let error = Arc::new(ConnectError::NotDialable { addr: to }.into());
                    let (now, fx) = (fixture.now, &mut fixture.fx);
                    fixture.peers.dial_failed(key, &error, now, fx);
                }
                _ => fixture.now += secs(time),
            }
            fixture.settle();
            let stats = fixture.stats();
            let mut total = stats.total.clone();
            for one in stats.peers.values() {
                prop_assert_eq!(one.submitted, one.sent + one.queued + one.dropped.total());
                prop_assert!(one.queued <= 3);
                total.merge(one);
            }
            prop_assert_eq!(total.submitted, total.sent + total.queued + total.dropped.total());
            prop_assert!(stats.connections.len() <= 4 && stats.peers.len() <= 5);
            for connection in &stats.connections {
                let same = |other: &&crate::transport_layer::ConnectionInfo| {
                    other.remote_identity == connection.remote_identity
                        && other.remote_identity != Identity::UNPROVED
                };
                prop_assert!(stats.connections.iter().filter(same).count() <= 2);
                let host = connection.remote_addr.ip();
                let of_host = stats.connections.iter().filter(|c| c.remote_addr.ip() == host);
                prop_assert!(of_host.count() <= 3);
            }
        }
        // Whatever happened, closing leaves nothing behind.
        fixture.peers.close(&mut fixture.fx);
        let stats = fixture.stats();
        prop_assert!(stats.connections.is_empty() && stats.peers.is_empty());
        prop_assert_eq!(stats.total.submitted, stats.total.sent + stats.total.dropped.total());
    }
}
