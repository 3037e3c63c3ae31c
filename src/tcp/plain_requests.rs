//! The HTTP requests of a gossip port that ask for no WebSocket, on their way to the service that answers them.
//!
//! It answers only requests for WebSockets, which may follow on the same stream, since proxies keep connections open. It
//! hands those streams back to the listener.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Incoming;

use super::accepted_streams::{AcceptedStreams, Contents, Pushed, StreamReceiver, StreamsInUse};
use super::http::{self, Refusal, Request};
use super::request_stream::RequestStream;
use super::responses::{accepted, refused};
use super::stream::Stream;
use crate::http_service::{HttpService, HttpStream, Upgrades};
use crate::secure::Endpoints;

/// The service of a listener for requests that ask for no WebSocket.
#[derive(Debug, Clone)]
pub(super) struct PlainRequests {
    service: HttpService,
    to_listener: AcceptedStreams,
}

impl PlainRequests {
    /// Also returns the end that the listener takes, for WebSockets that are requested after other requests.
    pub(super) fn new(service: HttpService) -> Result<(Self, StreamReceiver), StreamsInUse> {
        let to_listener = AcceptedStreams::new();
        let upgraded = to_listener.take()?;
        let requests = Self {
            service,
            to_listener,
        };
        Ok((requests, upgraded))
    }

    /// Serves the requests of a stream, of which `received` has been read.
    pub(super) fn serve(&self, stream: Stream, received: BytesMut, endpoints: Endpoints) {
        let is_encrypted = matches!(stream, Stream::Tls(_));
        let stream = HttpStream {
            stream: RequestStream::new(stream, received),
            remote: endpoints.remote,
            local: endpoints.local,
            is_encrypted,
        };
        let upgrades = ToListener {
            to_listener: self.to_listener.clone(),
            remote: endpoints.remote,
        };
        self.service.serve_stream(stream, upgrades);
    }
}

/// Hands WebSockets to a listener.
struct ToListener {
    to_listener: AcceptedStreams,
    remote: SocketAddr,
}

impl Upgrades<RequestStream> for ToListener {
    fn answer(&self, request: &hyper::Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        let (method, fields) = (request.method(), request.headers());
        if !http::has_to_do_with_websockets(fields) {
            return None;
        }
        Some(match &http::meaning(method, request.version(), fields) {
            Request::Upgrade { .. } if !self.to_listener.has_room() => {
                refused(Refusal::NO_LISTENER)
            }
            Request::Upgrade { accept } => accepted(accept),
            other => refused(Refusal::of(other)),
        })
    }

    fn take_over(&self, stream: RequestStream, read: &[u8]) {
        let (stream, mut received) = stream.into_parts();
        if received.is_empty() {
            received = BytesMut::from(read);
        } else {
            // What hyper has read came before.
            let mut all = BytesMut::from(read);
            all.extend_from_slice(&received);
            received = all;
        }
        let pushed = self.to_listener.push_stream(Pushed {
            stream,
            received,
            remote: self.remote,
            contents: Contents::WebSocket,
        });
        if let Err(error) = pushed {
            let addr = self.remote;
            tracing::debug!(%error, %addr, "closed a WebSocket");
        }
    }
}
