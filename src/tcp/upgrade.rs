//! WebSockets that an axum server of the user hands over.
//!
//! It answers the request as the listener's own port does, and reads nothing of the WebSocket.

use std::net::SocketAddr;

use axum_core::body::Body;
use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use bytes::BytesMut;
use hyper::http::request::Parts;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use super::accepted_streams::{AcceptedStreams, Contents, Pushed};
use super::http::{self, Refusal, Request};
use super::responses::{accepted, refused};
use super::stream::Stream;
use crate::net::canonical;

/// An extractor that takes a request for a WebSocket, for a listener of this crate.
///
/// Use it in a `GET` route, behind whatever middleware you like:
///
/// ```
/// use std::net::SocketAddr;
///
/// use axum::Router;
/// use axum::extract::{ConnectInfo, State};
/// use axum::response::Response;
/// use axum::routing::get;
/// use gossip_transport::tcp::{AcceptedStreams, GossipUpgrade};
///
/// async fn gossip(
///     State(streams): State<AcceptedStreams>,
///     ConnectInfo(client): ConnectInfo<SocketAddr>,
///     upgrade: GossipUpgrade,
/// ) -> Response {
///     upgrade.push_to(&streams, client)
/// }
///
/// let streams = AcceptedStreams::new();
/// let app: Router = Router::new().route("/gossip", get(gossip)).with_state(streams.clone());
/// // Serve it with `app.into_make_service_with_connect_info::<SocketAddr>()`, and give `streams` to
/// // `TcpConfig::accepted_streams`. Tabs join at `wss://your.site/gossip`.
/// ```
#[derive(Debug)]
pub struct GossipUpgrade {
    accept: String,
    upgrade: OnUpgrade,
}

/// The reason for which [`GossipUpgrade`] refuses a request. It says so to the client.
#[derive(Debug)]
pub struct UpgradeRejection(Refusal);

impl<S: Send + Sync> FromRequestParts<S> for GossipUpgrade {
    type Rejection = UpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, UpgradeRejection> {
        let request = http::meaning(&parts.method, parts.version, &parts.headers);
        let Request::Upgrade { accept } = request else {
            return Err(UpgradeRejection(Refusal::of(&request)));
        };
        // There is none if the server does not serve upgrades.
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let upgrade = upgrade.ok_or(UpgradeRejection(Refusal::NO_UPGRADES))?;
        Ok(Self { accept, upgrade })
    }
}

impl GossipUpgrade {
    /// Hands the WebSocket to the listener that takes `streams`, and returns the response of the handler. `client` is the
    /// address of the client, by which its host is counted: see [`AcceptedStreams::push`].
    ///
    /// The response is 503 if no listener takes the streams, or too many wait. If the listener is too busy once the response is written, the
    /// WebSocket is closed.
    pub fn push_to(self, streams: &AcceptedStreams, client: SocketAddr) -> Response {
        let Self { accept, upgrade } = self;
        if !streams.has_room() {
            return refused(Refusal::NO_LISTENER).map(Body::new);
        }
        let streams = streams.clone();
        let addr = canonical(client);
        let opening = async move {
            match upgrade.await {
                Ok(upgraded) => push(&streams, upgraded, addr),
                Err(error) => tracing::debug!(%error, %addr, "a WebSocket was not opened"),
            }
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "nobody can own it: it goes on after the handler, and ends with the connection of the client"
        )]
        drop(tokio::spawn(opening));
        accepted(&accept).map(Body::new)
    }
}

fn push(streams: &AcceptedStreams, upgraded: Upgraded, addr: SocketAddr) {
    // The listener reads a TCP stream without a copy. axum serves with hyper-util's `auto`.
    let (stream, received) = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => {
            let received = BytesMut::from(&*parts.read_buf);
            (parts.io.into_inner().into(), received)
        }
        Err(upgraded) => (Stream::of(TokioIo::new(upgraded)), BytesMut::new()),
    };
    let pushed = streams.push_stream(Pushed {
        stream,
        received,
        remote: addr,
        contents: Contents::WebSocket,
    });
    if let Err(error) = pushed {
        tracing::debug!(%error, %addr, "closed a WebSocket");
    }
}

impl IntoResponse for UpgradeRejection {
    fn into_response(self) -> Response {
        refused(self.0).map(Body::new)
    }
}
