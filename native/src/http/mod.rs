//! The HTTP server: its routes, and which requests it refuses. It only shows things.
//!
//! The responses themselves are made in [`crate::status`], [`crate::metrics`] and
//! [`crate::page_config`]. Invariant: no request changes anything, and what members have set is shown only
//! to requests for a host that is this one, except for their public URLs.
//!
//! | file | contents |
//! |---|---|
//! | `serve` | accepting and serving connections, within limits |
//! | `connections` | the connections, and which ones end when there are too many or others need their memory |
//! | `progress` | whether a client reads and writes |
//! | `bodies` | the bodies of long responses, and what they take in memory together |
//! | `web_root` | the files of `--web-root` |
//! | `hosts` | the hosts for which requests may read the members |

mod bodies;
mod connections;
mod hosts;
mod progress;
mod serve;
mod web_root;

use std::path::Path;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use gossip_transport::rt;
use tokio::net::TcpListener;

use crate::headers::HEADERS;
use crate::metrics;
use crate::node::Node;
use crate::page_config::PageConfig;
use crate::status::Status;
use bodies::{Bodies, Client, Kind, Refusal};
pub(crate) use hosts::HostName;
use hosts::Hosts;
use serve::HttpCounters;

/// The seconds after which a client that was refused may ask again.
const RETRY_AFTER: &str = "1";

/// The server before it has a listener.
pub(crate) struct Server {
    router: Router,
    counters: HttpCounters,
}

impl Server {
    /// Returns a server for `node` that also serves the files of `web_root`, if given. Besides by its
    /// address, it is known under `names`.
    pub(crate) fn new(node: Node, names: Vec<HostName>, web_root: Option<&Path>) -> Self {
        let counters = HttpCounters::default();
        let app = App {
            node,
            counters: counters.clone(),
            bodies: Bodies::default(),
        };
        let for_own_hosts = Router::new()
            .route("/status", get(status))
            .route("/metrics", get(prometheus))
            .route_layer(from_fn_with_state(Hosts::new(names), hosts::only_these));
        let router = Router::new()
            .route("/config.json", get(page_config))
            .route("/health", get(health))
            .merge(for_own_hosts)
            .with_state(app);
        let router = match web_root {
            Some(root) => router.fallback_service(web_root::serve(root)),
            None => router.route("/", get(no_page)),
        };
        Self {
            router: router.layer(from_fn(with_headers)),
            counters,
        }
    }

    /// Serves at most `max_connections` connections at a time, until the returned task is dropped.
    pub(crate) fn serve(self, listener: TcpListener, max_connections: usize) -> rt::Task {
        serve::serve(listener, self.router, max_connections, self.counters)
    }
}

#[derive(Clone)]
struct App {
    node: Node,
    counters: HttpCounters,
    bodies: Bodies,
}

impl App {
    /// Returns a long response of the content type `content`, whose body `make` makes.
    async fn long(
        &self,
        kind: Kind,
        client: &Client,
        content: &'static str,
        make: impl Fn() -> Option<Vec<u8>>,
    ) -> Response {
        let note_ended = |ended| self.counters.note_stalled(ended);
        match self.bodies.get(kind, client, make, note_ended).await {
            Ok(body) => ([(header::CONTENT_TYPE, content)], Body::from(body)).into_response(),
            Err(Refusal::Leaving) => leaving(),
            Err(Refusal::Crowded) => {
                self.counters.note_refused();
                let text = "the responses that are being sent take too much memory: try again\n";
                let retry = [(header::RETRY_AFTER, RETRY_AFTER)];
                (StatusCode::SERVICE_UNAVAILABLE, retry, text).into_response()
            }
        }
    }
}

async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

async fn status(State(app): State<App>, Extension(client): Extension<Client>) -> Response {
    let make = || {
        let status = Status::new(&app.node, app.counters.stats())?;
        serde_json::to_vec(&status).ok()
    };
    app.long(Kind::Status, &client, "application/json", make)
        .await
}

async fn prometheus(State(app): State<App>, Extension(client): Extension<Client>) -> Response {
    let make = || {
        app.node.with(|participant| {
            let text = metrics::render(
                &participant.members(),
                &participant.stats(),
                &participant.engine_counts(),
                &participant.bridge_counts(),
                &app.counters.stats(),
                app.node.trust.revoked().len(),
            );
            text.into_bytes()
        })
    };
    app.long(Kind::Metrics, &client, metrics::CONTENT_TYPE, make)
        .await
}

async fn page_config(State(app): State<App>) -> Response {
    respond(PageConfig::new(&app.node).map(Json))
}

/// Says that the node is a member. Knows nothing of others.
async fn health(State(app): State<App>) -> Response {
    respond(app.node.with(|_| "ok\n"))
}

async fn no_page() -> &'static str {
    "A gossip node. See /status and /metrics; --web-root DIR serves a page here.\n"
}

/// Returns `body` as a response. `None` means that the node has left.
fn respond(body: Option<impl IntoResponse>) -> Response {
    match body {
        Some(body) => body.into_response(),
        None => leaving(),
    }
}

fn leaving() -> Response {
    let text = "this node is leaving the cluster\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}
