//! What the routes show.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gossip_transport::credential::is_key_address;
use gossip_transport::gossip::{Liveness, PublicUrl};
use gossip_transport::http_service::HttpClient;
use gossip_transport::message::ChitchatId;

use super::bodies::{Bodies, Kind, Refusal};
use super::hosts::Hosts;
use super::visitors::{Visitors, Welcome};
use crate::http_stats::HttpStats;
use crate::metrics;
use crate::node::Node;
use crate::page_config::PageConfig;
use crate::status::Status;

/// The seconds after which a client that was refused may ask again.
const RETRY_AFTER: &str = "1";

/// The state of the routes. Clones share it.
#[derive(Clone, Default)]
pub(super) struct App {
    /// Not there before the node is a member: the gossip port is open before.
    node: Arc<OnceLock<Node>>,
    bodies: Bodies,
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
        asks && is_own_page && (client.is_encrypted() || self.hosts.allow(request))
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
            return starting();
        };
        match self.bodies.get(kind, client, || make(node)).await {
            Ok(body) => ([(header::CONTENT_TYPE, content)], Body::from(body)).into_response(),
            Err(Refusal::Leaving) => leaving(),
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
    let Some(node) = app.node.get() else {
        return starting();
    };
    let config = if app.is_gossip_port {
        let Some(reached) = reached(&request, &client) else {
            let text = "the request names no host, or several\n";
            return (StatusCode::BAD_REQUEST, text).into_response();
        };
        PageConfig::for_everyone(node, &reached)
    } else {
        PageConfig::new(node)
    };
    let Some(config) = config else {
        return leaving();
    };
    let visitors = app.visitors.as_ref();
    let Some(visitors) = visitors.filter(|_| app.may_be_invited(&request, &client)) else {
        return Json(config).into_response();
    };
    let config = match visitors.welcome(client.remote_addr().ip(), node) {
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
fn reached(request: &Request, client: &HttpClient) -> Option<PublicUrl> {
    let scheme = if client.is_encrypted() { "wss" } else { "ws" };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return None;
    };
    let host: Authority = host.to_str().ok()?.parse().ok()?;
    format!("{scheme}://{host}/").parse().ok()
}

/// Says that the node is a member. Knows nothing of others.
pub(super) async fn healthz(State(app): State<App>) -> Response {
    let Some(node) = app.node.get() else {
        return starting();
    };
    match node.with(|_| "ok\n") {
        Some(text) => text.into_response(),
        None => leaving(),
    }
}

/// Says whether the node has a live peer, or is the first member.
pub(super) async fn readyz(State(app): State<App>) -> Response {
    let Some(node) = app.node.get() else {
        return starting();
    };
    let ready = node.with(|participant| {
        let own = participant.id().addr();
        let seeds = participant.seeds();
        // All nodes may have the same list of seeds.
        let is_first = seeds.iter().all(|seed| seed.addr == Some(own));
        let members = participant.liveness_of_members();
        // A tab has no other connection than that to this node, perhaps.
        let is_live_node = |(id, liveness): &(ChitchatId, Liveness)| {
            *liveness == Liveness::Live && !is_key_address(id.addr())
        };
        is_first || members.iter().any(is_live_node)
    });
    match ready {
        Some(true) => "ready\n".into_response(),
        Some(false) => {
            let text = "no other member of the cluster has answered yet\n";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        None => leaving(),
    }
}

pub(super) async fn no_page() -> &'static str {
    "A gossip node. See /status and /metrics; --web-root DIR serves a page here.\n"
}

fn starting() -> Response {
    let text = "this node is starting\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

fn leaving() -> Response {
    let text = "this node is leaving the cluster\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}
