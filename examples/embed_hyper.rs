//! A hyper server of your own, with a page, browser tabs and native members on one port.
//!
//! Its accept loop hands what is not for it to a member of the cluster: a whole stream, or a WebSocket that was requested.
//! Both can be of any type that tokio reads and writes, TLS included. (`TcpConfig::http` is the other way round: the member's
//! port answers the requests of your service, with limits for each host.)
//!
//! ```sh
//! cargo run --features http --example embed_hyper
//! CLUSTER_SECRET=... cargo run --example member -- bob 127.0.0.1:7002 127.0.0.1:8080
//! ```
//!
//! A tab joins with the invite that this prints: `GossipNode.join({ id, invite })`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use gossip_transport::credential::{Claims, Invite, InviteId};
use gossip_transport::gossip::{GossipConfig, Participant};
use gossip_transport::rt;
use gossip_transport::tcp::{AcceptedStreams, GossipUpgrade, TcpConfig, TcpTransport};
use gossip_transport::{
    ClusterSecret, NetCredential, TransportLayerConfig, TransportLayerTransport, Trust,
};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The most connections of the server. Those of gossip have limits of their own.
const MAX_CONNECTIONS: usize = 512;
/// Limit until a connection shows what it is.
const FIRST_BYTE_WITHIN: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<()> {
    let secret = ClusterSecret::generate();
    println!("CLUSTER_SECRET={}", secret.to_text());
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    // What the server pushes into one clone, the member accepts from the other.
    let streams = AcceptedStreams::new();
    let member = join(&secret, listener.local_addr()?, streams.clone()).await?;
    println!(
        "page: http://127.0.0.1:8080/, invite for its tabs: {}",
        *invite(&secret)?.to_text()
    );
    tokio::select! {
        served = serve(listener, streams) => served?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    member.leave(Duration::from_secs(1)).await?;
    Ok(())
}

/// Joins the cluster. The member accepts `streams`, and others dial the server at `server`.
pub(crate) async fn join(
    secret: &ClusterSecret,
    server: SocketAddr,
    streams: AcceptedStreams,
) -> Result<Participant<TcpTransport>> {
    let network = TcpTransport::new(TcpConfig::default().with_accepted_streams(Some(streams)));
    let credential = NetCredential::generate(Trust::secret(secret.clone()).accepting_invites());
    let config = TransportLayerConfig::default().with_advertise_addr(Some(server));
    let transport = TransportLayerTransport::with_config(network, credential, config);
    // It has a port of its own, too, which nobody needs to know.
    let socket = transport.open("127.0.0.1:0".parse()?).await?;
    Participant::join(socket, GossipConfig::new("example", "server")).await
}

/// Returns an invite for an hour, which is all that a tab needs. Give each page one of its own.
pub(crate) fn invite(secret: &ClusterSecret) -> Result<Invite> {
    let id = InviteId::generate(rt::unix_time(), Duration::from_secs(60 * 60))?;
    let seeds = vec!["ws://127.0.0.1:8080/gossip".to_owned()];
    Ok(Invite::issue(
        secret,
        Claims::new(id),
        "example".to_owned(),
        seeds,
    )?)
}

/// Serves what `listener` accepts. Connections of the server, and none of gossip, end if this is dropped.
pub(crate) async fn serve(listener: TcpListener, streams: AcceptedStreams) -> Result<()> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        while connections.try_join_next().is_some() {}
        let Ok((stream, client)) = listener.accept().await else {
            // For example, too many files are open.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let streams = streams.clone();
        connections.spawn(async move {
            let _place = place;
            handle(stream, client, streams).await
        });
    }
}

async fn handle(stream: TcpStream, client: SocketAddr, streams: AcceptedStreams) -> Result<()> {
    let mut first = [0];
    timeout(FIRST_BYTE_WITHIN, stream.peek(&mut first)).await??;
    // The method of a request. Native members begin with something else.
    if !first[0].is_ascii_uppercase() {
        return Ok(streams.push_tcp(stream, client)?);
    }
    let answer = service_fn(|request| {
        let response = answer(request, client, &streams);
        async { anyhow::Ok(response) }
    });
    let mut server = http1::Builder::new();
    // With it, the head of a request must arrive within 30 s.
    server.timer(TokioTimer::new());
    let serving = server.serve_connection(TokioIo::new(stream), answer);
    Ok(serving.with_upgrades().await?)
}

fn answer(
    mut request: Request<Incoming>,
    client: SocketAddr,
    streams: &AcceptedStreams,
) -> Response<Full<Bytes>> {
    if request.uri().path() != "/gossip" {
        return Response::new("A page whose tabs may join.\n".into());
    }
    match GossipUpgrade::from_request(&mut request) {
        Ok(upgrade) => upgrade.push_to(streams, client),
        Err(rejection) => rejection.response(),
    }
}
