//! What the routes show.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gossip_transport::credential::is_key_address;
use gossip_transport::gossip::{Liveness, PublicUrl, PublicUrlError, SeedStatus};
use gossip_transport::http_service::HttpClient;
use gossip_transport::message::ChitchatId;
use gossip_transport::rt::Instant;
use gossip_transport::transport_layer::OwnIdentity;

use super::bodies::{Bodies, Kind, Refusal};
use super::hosts::Hosts;
use super::kept::Kept;
use super::visitors::{Visitors, Welcome};
use crate::http_stats::HttpStats;
use crate::metrics;
use crate::node::Node;
use crate::page_config::{PageConfig, Urls};
use crate::status::Status;

/// The seconds after which a client that was refused may ask again.
const RETRY_AFTER: &str = "1";

/// The state of the routes. Clones share it.
#[derive(Clone, Default)]
pub(super) struct App {
    /// Not there before the node is a member: the gossip port is open before.
    node: Arc<OnceLock<Node>>,
    bodies: Bodies,
    is_ready: Kept<bool>,
    urls: Kept<Arc<Urls>>,
    refused: Arc<AtomicU64>,
    is_gossip_port: bool,
    /// The hosts for which a page may be invited without TLS.
    hosts: Hosts,
    visitors: Option<Arc<Visitors>>,
    visitors_refused: Arc<AtomicU64>,
}

impl App {
    /// Returns the state of the routes of the gossip port.
    pub(super) fn of_gossip_port(self, visitors: Option<Visitors>, hosts: Hosts) -> Self {
        Self {
            is_gossip_port: true,
            hosts,
            visitors: visitors.map(Arc::new),
            ..self
        }
    }

    pub(super) fn start(&self, node: Node) {
        // It is started once.
        let _ = self.node.set(node);
    }

    /// Returns whether a request asks for an invite, and comes from this page. Over TLS, the certificate proves to the browser
    /// that the name in the link is one of this node. Without it, the name must be known here: a page of another site could
    /// have it lead to this address (DNS rebinding), and would read the invite.
    fn may_be_invited(&self, request: &Request, client: &HttpClient) -> bool {
        let site = request.headers().get("sec-fetch-site");
        let is_own_page = site.is_none_or(|site| site == "same-origin" || site == "none");
        let asks = request.method() == Method::GET && request.uri().query() == Some("invite");
        if !(asks && is_own_page && self.visitors.is_some()) {
            return false;
        }
        let is_allowed = client.is_encrypted() || self.hosts.allow(request);
        if !is_allowed {
            let refused = self.visitors_refused.fetch_add(1, Ordering::Relaxed) + 1;
            // Everyone can have it said again.
            if refused.is_power_of_two() {
                let host = request.headers().get(header::HOST);
                tracing::warn!(
                    refused,
                    ?host,
                    "no invite for a page whose link names a host that this node does not know: if it is this node, \
                     start it with --public-url or --http-host"
                );
            }
        }
        is_allowed
    }

    /// Returns the node while it is a member. What was kept of one that has left is not asked for then.
    fn member(&self) -> Result<&Node, Absent> {
        let node = self.node.get().ok_or(Absent::Starting)?;
        node.with(|_| node).ok_or(Absent::Leaving)
    }

    fn stats(&self, client: &HttpClient) -> HttpStats {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HttpStats::new(
            client.stats(),
            load(&self.refused),
            load(&self.visitors_refused),
        )
    }

    /// Returns a long response of the content type `content`, whose body `make` makes.
    async fn long(
        &self,
        kind: Kind,
        client: &HttpClient,
        content: &'static str,
        make: impl Fn(&Node) -> Option<Vec<u8>>,
    ) -> Response {
        let Some(node) = self.node.get() else {
            return Absent::Starting.into_response();
        };
        match self.bodies.get(kind, client, || make(node)).await {
            Ok(body) => ([(header::CONTENT_TYPE, content)], Body::from(body)).into_response(),
            Err(Refusal::Leaving) => Absent::Leaving.into_response(),
            Err(Refusal::Crowded) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let text = "the responses that are being sent take too much memory: try again\n";
                let retry = [(header::RETRY_AFTER, RETRY_AFTER)];
                (StatusCode::SERVICE_UNAVAILABLE, retry, text).into_response()
            }
        }
    }
}

pub(super) async fn status(
    State(app): State<App>,
    Extension(client): Extension<HttpClient>,
) -> Response {
    let make = |node: &Node| {
        let status = Status::new(node, app.stats(&client))?;
        serde_json::to_vec(&status).ok()
    };
    app.long(Kind::Status, &client, "application/json", make)
        .await
}

pub(super) async fn prometheus(
    State(app): State<App>,
    Extension(client): Extension<HttpClient>,
) -> Response {
    let make = |node: &Node| {
        node.with(|participant| {
            let text = metrics::render(
                &participant.members(),
                &participant.stats(),
                &participant.engine_counts(),
                &participant.bridge_counts(),
                &app.stats(&client),
                node.trust.revoked().len(),
                node.tls.status().as_ref(),
            );
            text.into_bytes()
        })
    };
    app.long(Kind::Metrics, &client, metrics::CONTENT_TYPE, make)
        .await
}

pub(super) async fn page_config(
    State(app): State<App>,
    Extension(client): Extension<HttpClient>,
    request: Request,
) -> Response {
    let node = match app.member() {
        Ok(node) => node,
        Err(absent) => return absent.into_response(),
    };
    let config = if app.is_gossip_port {
        let reached = match reached(&request, &client) {
            Ok(reached) => reached,
            Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
        };
        let urls = app
            .urls
            .get(Instant::now(), || Urls::read(node).map(Arc::new));
        urls.map(|urls| PageConfig::for_everyone(node, &urls, &reached))
    } else {
        PageConfig::new(node)
    };
    let Some(config) = config else {
        return Absent::Leaving.into_response();
    };
    let visitors = app.visitors.as_ref();
    let Some(visitors) = visitors.filter(|_| app.may_be_invited(&request, &client)) else {
        return Json(config).into_response();
    };
    // Only tabs use the invite, and strangers need not learn an inner address.
    let seed = config.first_seed().unwrap_or_default().to_owned();
    let config = match visitors.welcome(client.remote_addr().ip(), node, seed) {
        Welcome::Invite(word) => config.with_invite(word),
        Welcome::Unable => config,
        Welcome::Later(wait) => {
            app.visitors_refused.fetch_add(1, Ordering::Relaxed);
            config.with_invite_after(wait)
        }
    };
    Json(config).into_response()
}

/// Returns the URL at which a page has reached the gossip port, and at which it reaches it again with a WebSocket.
///
/// # Errors
///
/// Fails with a text that says what is wrong with the host that the request names.
fn reached(request: &Request, client: &HttpClient) -> Result<PublicUrl, String> {
    let scheme = if client.is_reached_by_tls() {
        "wss"
    } else {
        "ws"
    };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err("the request names no host, or several\n".to_owned());
    };
    let host: Option<Authority> = host.to_str().ok().and_then(|host| host.parse().ok());
    let host = host.ok_or("the host that the request names is malformed\n")?;
    // A name with a dot at its end is the same one, and browsers send it as it was written.
    let name = host.host();
    let name = name.strip_suffix('.').unwrap_or(name);
    let port = host.port_u16().map(|port| format!(":{port}"));
    let is_whole = !host.as_str().contains('@');
    let url = format!("{scheme}://{name}{}/", port.unwrap_or_default());
    let url = url
        .parse()
        .map_err(|error: PublicUrlError| error.to_string());
    let url = url.and_then(|url| is_whole.then_some(url).ok_or("it has a user".to_owned()));
    url.map_err(|why| format!("pages cannot reach a node at {host}: {why}\n"))
}

/// Says that the node is a member. Knows nothing of others.
pub(super) async fn healthz(State(app): State<App>) -> Response {
    match app.member() {
        Ok(_) => "ok\n".into_response(),
        Err(absent) => absent.into_response(),
    }
}

/// Says whether the node has a live peer, or is the first member.
pub(super) async fn readyz(State(app): State<App>) -> Response {
    let node = match app.member() {
        Ok(node) => node,
        Err(absent) => return absent.into_response(),
    };
    match app.is_ready.get(Instant::now(), || is_ready(node)) {
        Some(true) => "ready\n".into_response(),
        Some(false) => {
            let text = "no other member of the cluster has answered yet\n";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        None => Absent::Leaving.into_response(),
    }
}

/// Returns whether the node has a live peer, or no seed but itself; `None` if it has left.
fn is_ready(node: &Node) -> Option<bool> {
    node.with(|participant| {
        // A tab has no other connection than that to this node, perhaps.
        let is_live_node = |(id, liveness): &(ChitchatId, Liveness)| {
            *liveness == Liveness::Live && !is_key_address(id.addr())
        };
        participant.liveness_of_members().iter().any(is_live_node)
            || is_first(&participant.seeds(), participant.id().addr())
    })
}

/// Returns whether all seeds of the node that advertises `own` lead to itself: nodes that are started alike name the first
/// of them. A name that begins with `tls://` stands for no address, and answers with the node's own key.
fn is_first(seeds: &[SeedStatus], own: SocketAddr) -> bool {
    let leads_here = |seed: &SeedStatus| {
        let error = seed.error.as_ref();
        seed.addr == Some(own) || error.is_some_and(|error| error.is::<OwnIdentity>())
    };
    let is_own = |name: &str| {
        let mut addrs = seeds.iter().filter(|seed| seed.name == name);
        addrs.any(leads_here)
    };
    seeds.iter().all(|seed| is_own(&seed.name))
}

pub(super) async fn no_page() -> &'static str {
    "A gossip node. See /status and /metrics; --web-root DIR serves a page here.\n"
}

/// The reason why there is no member to show.
#[derive(Debug, Clone, Copy)]
enum Absent {
    Starting,
    Leaving,
}

impl IntoResponse for Absent {
    fn into_response(self) -> Response {
        let text = match self {
            Self::Starting => "this node is starting\n",
            Self::Leaving => "this node is leaving the cluster\n",
        };
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}
