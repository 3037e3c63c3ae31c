//! The HTTP side: routes, and who may use them.
//!
//! What is answered is made in [`crate::status`], [`crate::metrics`] and [`crate::page`].
//! Invariant: nothing is changed over HTTP unless `--http-write` was given, the peer is this
//! machine, and the request does not come from a web page.

use std::net::SocketAddr;
use std::path::Path;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path as Segment, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use gossip_transport::gossip::{DeleteError, SetError};
use gossip_transport::rt;
use tower_http::services::ServeDir;

use crate::metrics;
use crate::node::Node;
use crate::page::{self, PageConfig};
use crate::status::Status;

#[derive(Clone)]
struct App {
    node: Node,
    write: WriteAccess,
}

#[derive(Clone, Copy)]
enum WriteAccess {
    Denied,
    ThisMachine,
}

/// Serves until the returned task is dropped.
pub(crate) fn serve(
    listener: tokio::net::TcpListener,
    node: Node,
    web_root: Option<&Path>,
    http_write: bool,
) -> rt::Task {
    let write = if http_write {
        WriteAccess::ThisMachine
    } else {
        WriteAccess::Denied
    };
    let app =
        router(App { node, write }, web_root).into_make_service_with_connect_info::<SocketAddr>();
    rt::Task::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!("the HTTP server has ended: {error}");
        }
    })
}

fn router(app: App, web_root: Option<&Path>) -> Router {
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
    router.layer(from_fn(with_headers))
}

async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in page::HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

async fn status(State(app): State<App>) -> Response {
    let node = &app.node;
    answer(node.with(|participant| Json(Status::new(participant, &node.identity, &node.cluster))))
}

async fn prometheus(State(app): State<App>) -> Response {
    answer(app.node.with(|participant| {
        let text = metrics::render(&participant.members(), &participant.stats());
        ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
    }))
}

async fn page_config(State(app): State<App>) -> Response {
    answer(PageConfig::new(&app.node).map(Json))
}

async fn no_page() -> &'static str {
    "A gossip node. See /status and /metrics; --web-root DIR serves a page here.\n"
}

async fn set_key(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Segment(key): Segment<String>,
    value: Bytes,
) -> Response {
    if let Err(refusal) = may_write(app.write, peer, &headers) {
        return refusal.into_response();
    }
    let Ok(value) = std::str::from_utf8(&value) else {
        return (StatusCode::BAD_REQUEST, "the value has to be UTF-8\n").into_response();
    };
    let Some(result) = app.node.with(|participant| participant.set(&key, value)) else {
        return left();
    };
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(SetError::Left) => left(),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")).into_response(),
    }
}

async fn delete_key(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Segment(key): Segment<String>,
) -> Response {
    if let Err(refusal) = may_write(app.write, peer, &headers) {
        return refusal.into_response();
    }
    let Some(result) = app.node.with(|participant| participant.delete(&key)) else {
        return left();
    };
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error @ DeleteError::NoSuchKey { .. }) => {
            (StatusCode::NOT_FOUND, format!("{error}\n")).into_response()
        }
        Err(_) => left(),
    }
}

/// A browser sends an `Origin` with every POST and DELETE, so a page somewhere on the web cannot
/// write through the user's own loopback; curl and scripts send none.
fn may_write(
    write: WriteAccess,
    peer: SocketAddr,
    headers: &HeaderMap,
) -> Result<(), (StatusCode, &'static str)> {
    let refusal = match write {
        WriteAccess::Denied => "keys are read-only here: start the node with --http-write\n",
        WriteAccess::ThisMachine if !peer.ip().to_canonical().is_loopback() => {
            "keys are written from this machine only\n"
        }
        WriteAccess::ThisMachine if headers.contains_key(header::ORIGIN) => {
            "keys are not written from web pages\n"
        }
        WriteAccess::ThisMachine => return Ok(()),
    };
    Err((StatusCode::FORBIDDEN, refusal))
}

fn answer(body: Option<impl IntoResponse>) -> Response {
    match body {
        Some(body) => body.into_response(),
        None => left(),
    }
}

fn left() -> Response {
    let text = "this node is leaving the cluster\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(write: WriteAccess, peer: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        may_write(write, peer.parse().unwrap(), &headers).is_err()
    }

    #[test]
    fn only_this_machine_writes_and_no_web_page_and_only_if_asked_for() {
        let here = ["127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5"];
        for peer in here {
            assert!(!refused(WriteAccess::ThisMachine, peer, None), "{peer}");
            assert!(refused(WriteAccess::Denied, peer, None), "{peer}");
            let page = Some("http://127.0.0.1:5");
            assert!(refused(WriteAccess::ThisMachine, peer, page), "{peer}");
        }
        for peer in ["192.0.2.1:5", "[2001:db8::1]:5"] {
            assert!(refused(WriteAccess::ThisMachine, peer, None), "{peer}");
        }
    }
}
