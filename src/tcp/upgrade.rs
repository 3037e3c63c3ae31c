//! WebSockets that a hyper or axum server of the user hands over.
//!
//! It answers the request as the listener's own port does, and reads nothing of the WebSocket.

use std::net::SocketAddr;

#[cfg(feature = "axum")]
use axum_core::extract::FromRequestParts;
#[cfg(feature = "axum")]
use axum_core::response::{IntoResponse, Response};
use bytes::BytesMut;
use hyper::http::Extensions;
#[cfg(feature = "axum")]
use hyper::http::request::Parts;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
#[cfg(feature = "axum")]
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use super::accepted_streams::{AcceptedStreams, Contents, Pushed};
use super::http::{self, Refusal, Request};
use super::losses::Loss;
use super::responses::{accepted, refused};
use super::stream::Stream;
use crate::net::canonical;

/// A request for a WebSocket, which a server of yours hands to a listener of this crate.
///
/// With hyper, [`from_request`](Self::from_request) returns it; the connection must be served `with_upgrades()`. With the
/// feature `axum` it is an extractor. Use it in a `GET` route, behind whatever middleware you like:
///
#[cfg_attr(feature = "axum", doc = "```")]
#[cfg_attr(not(feature = "axum"), doc = "```ignore")]
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
///
/// `examples/embed_axum.rs` and `examples/embed_hyper.rs` are complete servers.
#[derive(Debug)]
pub struct GossipUpgrade {
    accept: String,
    upgrade: OnUpgrade,
}

/// The reason for which [`GossipUpgrade`] refuses a request. [`response`](Self::response) says so to the client.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.body.trim_end())]
pub struct UpgradeRejection(Refusal);

impl GossipUpgrade {
    /// Takes the WebSocket that a request asks for out of the request.
    ///
    /// # Errors
    ///
    /// Fails if the request is no valid one for a WebSocket, or if its connection is not served `with_upgrades()`. The
    /// server that answers it counts it; a listener does not know of it.
    pub fn from_request<B>(request: &mut hyper::Request<B>) -> Result<Self, UpgradeRejection> {
        let meaning = http::meaning(request.method(), request.version(), request.headers());
        Self::new(meaning, request.extensions_mut())
    }

    fn new(request: Request, extensions: &mut Extensions) -> Result<Self, UpgradeRejection> {
        let Request::Upgrade { accept } = request else {
            return Err(UpgradeRejection(Refusal::of(&request)));
        };
        // There is none if the server does not serve upgrades.
        let upgrade = extensions.remove::<OnUpgrade>();
        let upgrade = upgrade.ok_or(UpgradeRejection(Refusal::NO_UPGRADES))?;
        Ok(Self { accept, upgrade })
    }

    /// Hands the WebSocket to the listener that takes `streams`, and returns the response to the request. `client` is the
    /// address of the client, by which its host is counted: see [`AcceptedStreams::push`].
    ///
    /// The response is 503 if no listener takes the streams, or too many wait. If the listener is too busy once the response
    /// is written, the WebSocket is closed. The listener counts both, and a client that has gone when the response is written.
    pub fn push_to<B>(self, streams: &AcceptedStreams, client: SocketAddr) -> hyper::Response<B>
    where
        B: Default + From<&'static str>,
    {
        let Self { accept, upgrade } = self;
        let addr = canonical(client);
        if streams.check_room(addr).is_err() {
            return refused(Refusal::NO_LISTENER);
        }
        let streams = streams.clone();
        let opening = async move {
            match upgrade.await {
                Ok(upgraded) => push(&streams, upgraded, addr),
                Err(error) => {
                    streams.lose(Loss::Gone, addr);
                    tracing::debug!(%error, %addr, "a WebSocket was not opened");
                }
            }
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "nobody can own it: it goes on after the handler, and ends with the connection of the client"
        )]
        drop(tokio::spawn(opening));
        accepted(&accept)
    }
}

fn push(streams: &AcceptedStreams, upgraded: Upgraded, addr: SocketAddr) {
    let (stream, received) = known(upgraded)
        .unwrap_or_else(|upgraded| (Stream::of(TokioIo::new(upgraded)), BytesMut::new()));
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

/// Returns the stream if it is a TCP stream, which the listener reads without a copy, and what was read of it already.
fn known(upgraded: Upgraded) -> Result<(Stream, BytesMut), Upgraded> {
    // axum serves with hyper-util's `auto`, which wraps the stream.
    #[cfg(feature = "axum")]
    let upgraded = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => {
            let stream = parts.io.into_inner().into();
            return Ok((stream, BytesMut::from(&*parts.read_buf)));
        }
        Err(upgraded) => upgraded,
    };
    let parts = upgraded.downcast::<TokioIo<TcpStream>>()?;
    let stream = parts.io.into_inner().into();
    Ok((stream, BytesMut::from(&*parts.read_buf)))
}

impl UpgradeRejection {
    /// Returns the response, which says what is wrong with the request.
    pub fn response<B: From<&'static str>>(&self) -> hyper::Response<B> {
        refused(self.0)
    }
}

#[cfg(feature = "axum")]
impl<S: Send + Sync> FromRequestParts<S> for GossipUpgrade {
    type Rejection = UpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, UpgradeRejection> {
        let request = http::meaning(&parts.method, parts.version, &parts.headers);
        Self::new(request, &mut parts.extensions)
    }
}

#[cfg(feature = "axum")]
impl IntoResponse for UpgradeRejection {
    fn into_response(self) -> Response {
        self.response()
    }
}
