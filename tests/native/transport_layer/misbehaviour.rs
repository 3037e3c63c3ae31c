//! What becomes of connections, messages and counts if the network misbehaves in ways that the one
//! in memory does not offer.

use std::collections::VecDeque;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::net::{
    Alpn, CloseCode, CloseReason, NetConnection, NetIncomingRequest, NetListener, NetTransport,
};
use gossip_transport::transport_layer::{
    DropReason, OverflowPolicy, PeerState, TransportLayerConfig, TransportLayerSocket,
    TransportLayerTransport,
};
use gossip_transport::{Identity, NetCredential};
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::layer::{World, addr, config, configured, ms, numbered, secs, until};
use crate::support::soon;

static ALPN: Alpn = Alpn::from_static(b"test");

#[derive(Debug, Clone, Copy)]
enum Sends {
    AtOnce,
    /// A batch is taken at once, and sent by the next poll or call.
    Later,
    After(Duration),
    Nothing,
    Never,
}

#[derive(Debug, Clone, Copy)]
enum Keepalives {
    Sent,
    Stuck,
    Failed,
}

#[derive(Debug, Clone, Copy)]
enum Accepts {
    Failure,
    /// A handshake that never ends.
    Silence,
    Connection,
}

/// A network with one other host, which behaves as described.
#[derive(Debug, Clone)]
struct Script {
    dials: bool,
    sends: Sends,
    keepalives: Keepalives,
    /// What each connection receives at first, and how long it lives.
    receives: usize,
    lives: Duration,
    /// Whether the other host is always heard.
    heard: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            dials: true,
            sends: Sends::AtOnce,
            keepalives: Keepalives::Sent,
            receives: 0,
            lives: secs(1_000_000),
            heard: true,
        }
    }
}

#[derive(Debug, Clone)]
struct Scripted {
    script: Script,
    accepts: Arc<Mutex<VecDeque<Accepts>>>,
    sent: Arc<Mutex<Vec<Bytes>>>,
    closed: Arc<Mutex<Vec<CloseCode>>>,
}

#[derive(Debug, Clone)]
struct Connection {
    network: Scripted,
    since: Instant,
    received: Arc<Mutex<usize>>,
    held_back: Arc<Mutex<Vec<Bytes>>>,
}

impl Scripted {
    fn new(script: Script) -> Self {
        Self {
            script,
            accepts: Arc::default(),
            sent: Arc::default(),
            closed: Arc::default(),
        }
    }

    fn accepting(self, accepts: impl IntoIterator<Item = Accepts>) -> Self {
        self.accepts.lock().unwrap().extend(accepts);
        self
    }

    async fn open(&self, config: TransportLayerConfig) -> TransportLayerSocket<Self, Bytes> {
        let credential = World::new().credential();
        let transport = TransportLayerTransport::with_config(self.clone(), credential, config);
        transport.open(addr(1)).await.unwrap()
    }

    /// Opens a socket, and connects it to peer 2.
    async fn connected(&self, config: TransportLayerConfig) -> TransportLayerSocket<Self, Bytes> {
        let socket = self.open(config).await;
        let connection = socket.get_or_create_outgoing_connection(addr(2)).unwrap();
        soon(connection.connected(secs(5))).await.unwrap();
        sleep(ms(10)).await;
        socket
    }

    fn connection(&self) -> Connection {
        Connection {
            network: self.clone(),
            since: Instant::now(),
            received: Arc::default(),
            held_back: Arc::default(),
        }
    }

    fn sent(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    fn closed(&self) -> Vec<CloseCode> {
        self.closed.lock().unwrap().clone()
    }
}

impl NetTransport for Scripted {
    type Listener = Self;
    type Connection = Connection;
    async fn create_listener(
        &self,
        _: SocketAddr,
        _: &[Alpn],
        _: &NetCredential,
    ) -> anyhow::Result<Self> {
        Ok(self.clone())
    }
    async fn connect(
        &self,
        _: SocketAddr,
        _: &[Alpn],
        _: &NetCredential,
    ) -> anyhow::Result<Connection> {
        if self.script.dials {
            sleep(ms(10)).await;
            Ok(self.connection())
        } else {
            pending().await
        }
    }
    async fn resolve(&self, _: &str) -> anyhow::Result<Vec<SocketAddr>> {
        Ok(Vec::new())
    }
}

impl NetListener for Scripted {
    type IncomingRequest = Request;
    type Connection = Connection;
    fn local_addr(&self) -> SocketAddr {
        addr(1)
    }
    async fn accept(&self) -> anyhow::Result<Request> {
        sleep(ms(1)).await;
        let next = self.accepts.lock().unwrap().pop_front();
        match next {
            Some(Accepts::Failure) => anyhow::bail!("no more files"),
            Some(Accepts::Silence) => Ok(Request(None)),
            Some(Accepts::Connection) => Ok(Request(Some(self.connection()))),
            None => pending().await,
        }
    }
}

struct Request(Option<Connection>);

impl NetIncomingRequest for Request {
    type Connection = Connection;
    fn remote_addr(&self) -> SocketAddr {
        addr(2)
    }
    async fn accept(self) -> anyhow::Result<Connection> {
        match self.0 {
            Some(connection) => Ok(connection),
            None => pending().await,
        }
    }
}

impl NetConnection for Connection {
    fn local_addr(&self) -> SocketAddr {
        addr(1)
    }
    fn remote_addr(&self) -> SocketAddr {
        addr(2)
    }
    fn local_identity(&self) -> Identity {
        Identity::from_bytes([1; 32])
    }
    fn remote_identity(&self) -> Identity {
        Identity::from_bytes([2; 32])
    }
    fn stated_addr(&self) -> Option<SocketAddr> {
        Some(addr(2))
    }
    fn alpn_negotiated(&self) -> &Alpn {
        &ALPN
    }
    async fn send_many(&self, batch: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        match self.network.script.sends {
            Sends::AtOnce => {}
            Sends::Later => {
                if !batch.is_empty() {
                    self.held_back.lock().unwrap().extend(batch.drain(..));
                    tokio::task::yield_now().await;
                }
            }
            Sends::After(time) => sleep(time).await,
            Sends::Nothing => return Ok(()),
            Sends::Never => anyhow::bail!("the line is dead"),
        }
        let mut sent = self.network.sent.lock().unwrap();
        sent.append(&mut self.held_back.lock().unwrap());
        sent.extend(batch.drain(..));
        Ok(())
    }
    async fn keepalive(&self) -> anyhow::Result<()> {
        match self.network.script.keepalives {
            Keepalives::Sent => Ok(()),
            Keepalives::Stuck => pending().await,
            Keepalives::Failed => anyhow::bail!("the line is dead"),
        }
    }
    async fn recv(&self) -> anyhow::Result<Option<Bytes>> {
        {
            let mut received = self.received.lock().unwrap();
            if *received < self.network.script.receives {
                *received += 1;
                return Ok(Some(numbered(0, 8)));
            }
        }
        sleep_until(self.since + self.network.script.lives).await;
        Ok(None)
    }
    fn last_heard(&self) -> Instant {
        if self.network.script.heard {
            Instant::now()
        } else {
            self.since
        }
    }
    async fn close(&self, code: CloseCode) {
        // A goodbye takes time.
        sleep(ms(100)).await;
        self.network.closed.lock().unwrap().push(code);
    }
    async fn watch_close(&self) -> CloseReason {
        pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_connection_holds_back_is_flushed() {
    let network = Scripted::new(Script {
        sends: Sends::Later,
        ..Script::default()
    });
    let socket = network.connected(config()).await;
    for n in 1..4 {
        socket.send(addr(2), numbered(0, 8)).await.unwrap();
        sleep(ms(10)).await;
        assert_eq!(network.sent(), n);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_work_is_closed_with_the_code_of_its_fault() {
    struct Case {
        sends: Sends,
        keepalives: Keepalives,
        /// The length of the only message, if there is one.
        len: Option<usize>,
        code: Option<CloseCode>,
    }
    let good = Case {
        sends: Sends::AtOnce,
        keepalives: Keepalives::Sent,
        len: Some(8),
        code: None,
    };
    let cases = [
        Case {
            sends: Sends::Never,
            code: Some(CloseCode::NORMAL),
            ..good
        },
        Case {
            sends: Sends::Nothing,
            code: Some(CloseCode::PROTOCOL),
            ..good
        },
        Case {
            sends: Sends::After(secs(40)),
            code: Some(CloseCode::GOING_AWAY),
            ..good
        },
        // A long message has more time.
        Case {
            sends: Sends::After(secs(40)),
            len: Some(1 << 20),
            ..good
        },
        Case {
            keepalives: Keepalives::Stuck,
            len: None,
            code: Some(CloseCode::GOING_AWAY),
            ..good
        },
        Case {
            keepalives: Keepalives::Failed,
            len: None,
            code: Some(CloseCode::NORMAL),
            ..good
        },
        good,
    ];
    for case in cases {
        let network = Scripted::new(Script {
            sends: case.sends,
            keepalives: case.keepalives,
            ..Script::default()
        });
        let socket = network.connected(config()).await;
        if let Some(len) = case.len {
            socket.send(addr(2), numbered(0, len)).await.unwrap();
        }
        sleep(secs(60)).await;
        let what = format!("{:?}, {:?}, {:?}", case.sends, case.keepalives, case.len);
        assert_eq!(network.closed().first().copied(), case.code, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_to_live_of_a_message_begins_when_it_is_sent_also_during_a_slow_write() {
    let network = Scripted::new(Script {
        sends: Sends::After(secs(20)),
        ..Script::default()
    });
    let socket = network
        .connected(configured(|c| c.outgoing.ttl = secs(5)))
        .await;
    socket.send(addr(2), numbered(0, 8)).await.unwrap();
    sleep(secs(19)).await;
    socket.send(addr(2), numbered(1, 8)).await.unwrap();
    sleep(secs(25)).await;
    assert_eq!(network.sent(), 2);
    let total = socket.stats().total;
    assert_eq!(total.dropped.count(DropReason::Expired), 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_connects_while_its_dial_hangs_is_written_to() {
    let network = Scripted::new(Script {
        dials: false,
        lives: secs(1),
        ..Script::default()
    });
    let network = network.accepting([Accepts::Connection]);
    let socket = network.open(config()).await;
    socket.send(addr(2), numbered(0, 8)).await.unwrap();
    sleep(secs(5)).await;
    let stats = socket.stats();
    assert_eq!((stats.dials, stats.accepted), (1, 1));
    assert_eq!(network.sent(), 1);
    assert!(stats.connections.is_empty());
    assert_eq!(stats.peers[&addr(2)].state, PeerState::Dialing);
    sleep(secs(30)).await;
    assert_eq!(socket.stats().dials_failed, 1);
    assert_eq!(socket.stats().peers[&addr(2)].state, PeerState::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_fails_is_asked_again_after_a_pause() {
    let network = Scripted::new(Script::default());
    let failures = [Accepts::Failure; 3];
    let network = network.accepting(failures.into_iter().chain([Accepts::Connection]));
    let start = Instant::now();
    let socket = network.open(config()).await;
    until(&socket, |s| s.accepted == 1).await;
    assert!(start.elapsed() >= ms(300), "{:?}", start.elapsed());
    assert!(start.elapsed() < secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_never_ends_counts_as_failed_after_the_time_of_a_dial() {
    let network = Scripted::new(Script::default());
    let network = network.accepting([Accepts::Silence]);
    let socket = network.open(configured(|c| c.dial_timeout = secs(3))).await;
    sleep(secs(2)).await;
    assert_eq!(socket.stats().accept_failed, 0);
    sleep(secs(2)).await;
    assert_eq!(socket.stats().accept_failed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_its_goodbyes() {
    let network = Scripted::new(Script::default());
    let socket = network.connected(config()).await;
    soon(socket.shutdown(secs(5))).await;
    assert_eq!(network.closed(), [CloseCode::GOING_AWAY]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_read_again_is_closed_if_its_peer_is_silent() {
    let network = Scripted::new(Script {
        receives: 3,
        heard: false,
        ..Script::default()
    });
    let socket = network
        .connected(configured(|c| {
            c.incoming.max_messages = 1;
            c.incoming.overflow = OverflowPolicy::Backpressure;
            c.idle_timeout = secs(100_000);
        }))
        .await;
    sleep(secs(200)).await;
    assert_eq!(network.closed(), []);
    for _ in 0..3 {
        soon(socket.recv()).await.unwrap();
    }
    sleep(secs(80)).await;
    assert_eq!(network.closed(), []);
    sleep(secs(20)).await;
    assert_eq!(network.closed(), [CloseCode::GOING_AWAY]);
}
