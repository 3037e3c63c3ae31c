//! Gossip while the HTTP service of the same port has all connections that it may have, with and without TLS.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use gossip_transport::gossip::{GossipConfig, Liveness, Participant};
use gossip_transport::http_service::HttpService;
use gossip_transport::rt::Task;
use gossip_transport::tcp::{TcpConfig, TcpTransport};
use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};
use rustls::version::TLS13;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::{ANY_PORT, soon, until};
use crate::tls::certificates::Ca;

/// The most HTTP connections, and how many times as many clients there are of each kind.
const MAX: usize = 16;
const CLIENTS: usize = 3 * MAX;
/// The time for a change, which takes some milliseconds on a machine that is not busy.
const CHANGE: Duration = Duration::from_secs(5);

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

async fn join(
    name: &str,
    secret: &ClusterSecret,
    config: TcpConfig,
    seeds: Vec<String>,
) -> Participant<TcpTransport> {
    let credential = NetCredential::generate(Trust::secret(secret.clone()));
    let transport = TransportLayerTransport::new(TcpTransport::new(config), credential);
    let socket = transport.open(ANY_PORT).await.unwrap();
    let config = GossipConfig::new("cluster", name).with_seeds(seeds);
    Participant::join(socket, config).await.unwrap()
}

/// Clients of three kinds: one waits after an answer, one does not read its answer, and one is not done asking.
async fn clients<S, C>(connect: impl Fn() -> C) -> Vec<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Future<Output = S>,
{
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut waits = connect().await;
        waits.write_all(GET).await.unwrap();
        let mut first = [0; 15];
        soon(waits.read_exact(&mut first)).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        let mut unread = connect().await;
        unread
            .write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut unfinished = connect().await;
        unfinished.write_all(b"GET / HT").await.unwrap();
        clients.extend([waits, unread, unfinished]);
    }
    clients
}

/// A client that asks again and again, and takes the answers.
async fn flood(addr: SocketAddr) {
    loop {
        // It may have been ended for the sake of others.
        let Ok(mut stream) = TcpStream::connect(addr).await else {
            continue;
        };
        let mut answer = vec![0; 4096];
        while stream.write_all(GET).await.is_ok() {
            if !matches!(stream.read(&mut answer).await, Ok(1..)) {
                break;
            }
        }
    }
}

async fn check(name_of_seed: impl Fn(SocketAddr) -> String, tls: Option<&Ca>) {
    let secret = ClusterSecret::generate();
    let router: Router = Router::new()
        .route("/", get(|| async { "x" }))
        .route("/large", get(|| async { "x".repeat(16 << 20) }));
    let service = HttpService::new(router).with_max_connections(MAX);
    let config = tls.map_or(TcpConfig::default(), |ca| ca.issue(&["localhost"]).config());
    let config = config.with_http(Some(service.clone()));
    let dialling = || {
        let config = TcpConfig::default();
        tls.map_or(config.clone(), |ca| config.with_tls_roots(ca.roots()))
    };
    let a = join("a", &secret, config, Vec::new()).await;
    let addr = a.id().gossip_advertise_addr;
    let seeds = || vec![name_of_seed(addr)];
    let b = join("b", &secret, dialling(), seeds()).await;
    soon(b.connected()).await.unwrap();

    let plain = clients(|| async { TcpStream::connect(addr).await.unwrap() }).await;
    let inside = match tls {
        Some(ca) => clients(|| ca.connect_at(addr, &TLS13)).await,
        None => Vec::new(),
    };
    let evicted = service.stats().evicted as usize;
    assert!(evicted >= CLIENTS, "{evicted}");
    // One that ends for another counts until it has ended.
    until("no more connections than there may be", async || {
        service.stats().connections as usize <= MAX
    })
    .await;
    let flooding = [(); 4].map(|()| Task::spawn(flood(addr)));

    let begin = Instant::now();
    let c = join("c", &secret, dialling(), seeds()).await;
    soon(c.connected()).await.unwrap();
    assert!(
        begin.elapsed() < CHANGE,
        "joined after {:?}",
        begin.elapsed()
    );
    until("all to be live", async || {
        let live = |member: &Participant<TcpTransport>| {
            let members = member.liveness_of_members();
            let live = members.iter().filter(|(_, state)| *state == Liveness::Live);
            live.count() == 2
        };
        live(&a) && live(&b) && live(&c)
    })
    .await;
    for n in 0..10 {
        let value = n.to_string();
        let begin = Instant::now();
        c.set("n", &value).unwrap();
        until("a change", async || {
            let members = b.members();
            let c = members.iter().find(|member| member.id.node_id == "c");
            let known = c.and_then(|c| c.key_values.get("n"));
            known.is_some_and(|known| known.value == value)
        })
        .await;
        assert!(
            begin.elapsed() < CHANGE,
            "a change took {:?}",
            begin.elapsed()
        );
    }
    drop((plain, inside, flooding));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_join_and_learn_changes_at_once_while_hostile_clients_have_all_http_connections() {
    check(|addr| addr.to_string(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_join_and_learn_changes_at_once_over_tls_as_well() {
    let ca = Ca::new();
    check(|addr| format!("tls://localhost:{}", addr.port()), Some(&ca)).await;
}
