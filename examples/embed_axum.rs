//! An axum server of your own, through which browser tabs join the cluster, behind middleware of its own.
//!
//! The server has a page, a log of its requests, and a route for tabs that needs a cookie which the page sets. Native
//! members connect to the port of the member itself:
//!
//! ```sh
//! cargo run --features axum --example embed_axum
//! CLUSTER_SECRET=... cargo run --example member -- bob 127.0.0.1:7002 127.0.0.1:7001
//! ```
//!
//! A tab joins with the invite that this prints: `GossipNode.join({ id, invite })`.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gossip_transport::credential::{Claims, Invite, InviteId};
use gossip_transport::gossip::{GossipConfig, Participant};
use gossip_transport::rt;
use gossip_transport::tcp::{AcceptedStreams, GossipUpgrade, TcpConfig, TcpTransport};
use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};
use tokio::net::TcpListener;

/// The cookie of a visitor. Yours would be another one for each.
const COOKIE_OF_VISITORS: &str = "visitor=1";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let secret = ClusterSecret::generate();
    println!("CLUSTER_SECRET={}", secret.to_text());
    // What the server pushes into one clone, the member accepts from the other.
    let streams = AcceptedStreams::new();
    let member = join(&secret, "127.0.0.1:7001".parse()?, streams.clone()).await?;
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    println!(
        "page: http://127.0.0.1:8080/, invite for its tabs: {}",
        *invite(&secret)?.to_text()
    );
    let app = app(streams).into_make_service_with_connect_info::<SocketAddr>();
    tokio::select! {
        served = axum::serve(listener, app) => served?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    member.leave(Duration::from_secs(1)).await?;
    Ok(())
}

/// Joins the cluster. The member listens at `listen`, and accepts `streams` besides.
pub(crate) async fn join(
    secret: &ClusterSecret,
    listen: SocketAddr,
    streams: AcceptedStreams,
) -> anyhow::Result<Participant<TcpTransport>> {
    let network = TcpTransport::new(TcpConfig::default().with_accepted_streams(Some(streams)));
    // So that tabs can be given invites, in place of the secret.
    let trust = Trust::secret(secret.clone()).accepting_invites();
    let transport = TransportLayerTransport::new(network, NetCredential::generate(trust));
    let socket = transport.open(listen).await?;
    Participant::join(socket, GossipConfig::new("example", "server")).await
}

/// Returns an invite for an hour, which is all that a tab needs. Give each page one of its own.
pub(crate) fn invite(secret: &ClusterSecret) -> anyhow::Result<Invite> {
    let id = InviteId::generate(rt::unix_time(), Duration::from_secs(60 * 60))?;
    let seeds = vec!["ws://127.0.0.1:8080/gossip".to_owned()];
    Ok(Invite::issue(
        secret,
        Claims::new(id),
        "example".to_owned(),
        seeds,
    )?)
}

/// Returns the server, which pushes the WebSockets of tabs into `streams`.
pub(crate) fn app(streams: AcceptedStreams) -> Router {
    Router::new()
        .route("/gossip", get(gossip))
        .route_layer(from_fn(only_visitors))
        .route("/", get(page))
        .layer(from_fn(log))
        .with_state(streams)
}

async fn gossip(
    State(streams): State<AcceptedStreams>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    upgrade: GossipUpgrade,
) -> Response {
    upgrade.push_to(&streams, client)
}

async fn page() -> impl IntoResponse {
    let cookie = format!("{COOKIE_OF_VISITORS}; HttpOnly; SameSite=Strict");
    ([(SET_COOKIE, cookie)], "A page whose tabs may join.\n")
}

async fn only_visitors(request: Request, next: Next) -> Response {
    let fields = request.headers().get_all(COOKIE).iter();
    let fields = fields.filter_map(|field| field.to_str().ok());
    let mut cookies = fields.flat_map(|field| field.split(';'));
    match cookies.any(|cookie| cookie.trim() == COOKIE_OF_VISITORS) {
        true => next.run(request).await,
        false => (StatusCode::UNAUTHORIZED, "Open the page first.\n").into_response(),
    }
}

async fn log(request: Request, next: Next) -> Response {
    let asked = format!("{} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    println!("{asked}: {}", response.status());
    response
}
