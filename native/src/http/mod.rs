//! The HTTP server: its routes, and which requests it refuses. It only shows things.
//!
//! The responses themselves are made in [`crate::status`], [`crate::metrics`] and
//! [`crate::page_config`]. Invariant: no request changes anything, and what members have set is shown only
//! to requests for a host that is this one.
//!
//! | file | contents |
//! |---|---|
//! | `serve` | accepting and serving connections, within limits |
//! | `connections` | the connections, and which one ends when there are too many |
//! | `hosts` | the hosts for which requests may read the members |

mod connections;
mod hosts;
mod serve;

use std::path::Path;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use gossip_transport::rt;
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

use crate::headers::HEADERS;
use crate::metrics;
use crate::node::Node;
use crate::page_config::PageConfig;
use crate::status::Status;
pub(crate) use hosts::HostName;
use hosts::Hosts;
use serve::HttpCounters;

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
            Some(root) => router.fallback_service(ServeDir::new(root)),
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
}

async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

async fn status(State(app): State<App>) -> Response {
    respond(Status::new(&app.node, app.counters.stats()).map(Json))
}

async fn prometheus(State(app): State<App>) -> Response {
    respond(app.node.with(|participant| {
        let text = metrics::render(
            &participant.members(),
            &participant.stats(),
            &participant.bridge_counts(),
            &app.counters.stats(),
        );
        ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
    }))
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
