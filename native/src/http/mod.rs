//! The HTTP server: its routes, and which requests may change keys.
//!
//! The responses themselves are made in [`crate::status`], [`crate::metrics`] and
//! [`crate::page_config`]. Invariant: a request changes nothing unless `--http-write` was given, it
//! comes from this machine, and it does not come from a web page.
//!
//! | file | contents |
//! |---|---|
//! | `serve` | accepting and serving connections, within limits |
//! | `connections` | the connections, and which one ends when there are too many |

mod connections;
mod serve;

use std::net::SocketAddr;
use std::path::Path;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequestParts, Path as Segment, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use gossip_transport::gossip::{DeleteError, SetError};
use gossip_transport::rt;
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

use crate::headers::HEADERS;
use crate::metrics;
use crate::node::Node;
use crate::page_config::PageConfig;
use crate::status::Status;
use serve::HttpCounters;

/// The requests that may change keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteAccess {
    /// None.
    Denied,
    /// Those from this machine that do not come from a web page.
    ThisMachine,
}

/// The server before it has a listener.
pub(crate) struct Server {
    router: Router,
    counters: HttpCounters,
}

impl Server {
    /// Returns a server for `node` that also serves the files of `web_root`, if given.
    pub(crate) fn new(node: Node, write: WriteAccess, web_root: Option<&Path>) -> Self {
        let counters = HttpCounters::default();
        let app = App {
            node,
            write,
            counters: counters.clone(),
        };
        let router = Router::new()
            .route("/status", get(status))
            .route("/metrics", get(prometheus))
            .route("/config.json", get(page_config))
            .route("/keys/{key}", post(set_key).delete(delete_key))
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
    write: WriteAccess,
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

async fn no_page() -> &'static str {
    "A gossip node. See /status and /metrics; --web-root DIR serves a page here.\n"
}

async fn set_key(
    _permission: WritePermission,
    State(app): State<App>,
    Segment(key): Segment<String>,
    value: Bytes,
) -> Response {
    let Ok(value) = std::str::from_utf8(&value) else {
        return (StatusCode::BAD_REQUEST, "the value must be UTF-8\n").into_response();
    };
    let Some(result) = app.node.with(|participant| participant.set(&key, value)) else {
        return leaving();
    };
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(SetError::Left) => leaving(),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")).into_response(),
    }
}

async fn delete_key(
    _permission: WritePermission,
    State(app): State<App>,
    Segment(key): Segment<String>,
) -> Response {
    let Some(result) = app.node.with(|participant| participant.delete(&key)) else {
        return leaving();
    };
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error @ DeleteError::NoSuchKey { .. }) => {
            (StatusCode::NOT_FOUND, format!("{error}\n")).into_response()
        }
        Err(_) => leaving(),
    }
}

/// Proof that a request may change keys. Extracting it from any other request refuses that with
/// 403.
struct WritePermission;

impl FromRequestParts<App> for WritePermission {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|ConnectInfo(addr)| *addr);
        match refusal(app.write, peer, &parts.headers) {
            None => Ok(Self),
            Some(reason) => Err((StatusCode::FORBIDDEN, reason)),
        }
    }
}

/// Returns the reason for which a request may not change keys, or `None` if it may.
///
/// A browser sends `Origin` with every POST and DELETE, so a web page cannot use the loopback access
/// of the user who opened it. curl and scripts send none.
fn refusal(
    write: WriteAccess,
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
) -> Option<&'static str> {
    if write == WriteAccess::Denied {
        return Some("keys are read-only: start the node with --http-write\n");
    }
    if !peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
        return Some("keys can be changed from this machine only\n");
    }
    if headers.contains_key(header::ORIGIN) {
        return Some("keys cannot be changed from a web page\n");
    }
    None
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

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(write: WriteAccess, peer: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        refusal(write, Some(peer.parse().unwrap()), &headers).is_some()
    }

    #[test]
    fn keys_change_only_from_this_machine_not_from_a_page_and_only_if_enabled() {
        let here = ["127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5"];
        for peer in here {
            assert!(!is_refused(WriteAccess::ThisMachine, peer, None), "{peer}");
            assert!(is_refused(WriteAccess::Denied, peer, None), "{peer}");
            let page = Some("http://127.0.0.1:5");
            assert!(is_refused(WriteAccess::ThisMachine, peer, page), "{peer}");
        }
        for peer in ["192.0.2.1:5", "[2001:db8::1]:5"] {
            assert!(is_refused(WriteAccess::ThisMachine, peer, None), "{peer}");
        }
        let unknown = refusal(WriteAccess::ThisMachine, None, &HeaderMap::new());
        assert!(unknown.is_some());
    }
}
