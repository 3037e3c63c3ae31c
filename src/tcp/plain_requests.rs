//! The HTTP requests of a gossip port that ask for no WebSocket, on their way to the service that answers them.
//!
//! It answers only requests for WebSockets, which may follow on the same stream, since proxies keep connections open. It
//! hands those streams back to the listener.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::HeaderValue;

use super::accepted_streams::{AcceptedStreams, Contents, Pushed, StreamReceiver, StreamsInUse};
use super::http::{self, Refusal, Request};
use super::losses::Loss;
use super::opening::Requests;
use super::proxy::Proxies;
use super::request_stream::RequestStream;
use super::responses::{accepted, refused};
use super::stream::Stream;
use crate::http_service::{HttpService, HttpStream, Upgrades};
use crate::rt::sync::Mutex;
use crate::secure::Endpoints;

/// The service of a listener for requests that ask for no WebSocket.
#[derive(Debug, Clone)]
pub(super) struct PlainRequests {
    service: HttpService,
    to_listener: AcceptedStreams,
    proxies: Proxies,
}

impl PlainRequests {
    /// Also returns the end that the listener takes, for WebSockets that are requested after other requests.
    pub(super) fn new(
        service: HttpService,
        proxies: Proxies,
    ) -> Result<(Self, StreamReceiver), StreamsInUse> {
        let to_listener = AcceptedStreams::new();
        let upgraded = to_listener.take()?;
        let requests = Self {
            service,
            to_listener,
            proxies,
        };
        Ok((requests, upgraded))
    }

    /// Serves the requests of a stream.
    pub(super) fn serve(&self, requests: Requests, endpoints: Endpoints) {
        let Requests {
            stream,
            received,
            via,
        } = requests;
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
            via: via.map(|via| (via, self.proxies.clone())),
            upgrade_of: Mutex::new(endpoints.remote),
        };
        self.service.serve_stream(stream, upgrades);
    }
}

/// Hands WebSockets to a listener.
struct ToListener {
    to_listener: AcceptedStreams,
    remote: SocketAddr,
    /// A trusted proxy, which may send the requests of several clients on one stream.
    via: Option<(SocketAddr, Proxies)>,
    /// The client of the last request for a WebSocket.
    upgrade_of: Mutex<SocketAddr>,
}

impl Upgrades<RequestStream> for ToListener {
    fn client(&self, request: &hyper::Request<Incoming>) -> Option<SocketAddr> {
        let (via, proxies) = self.via.as_ref()?;
        let values = request.headers().get_all("x-forwarded-for");
        let values: Vec<_> = values.iter().map(HeaderValue::as_bytes).collect();
        Some((proxies.client(via.ip(), &values), via.port()).into())
    }

    fn states_tls(&self, request: &hyper::Request<Incoming>) -> bool {
        let values = request.headers().get_all("x-forwarded-proto");
        // The last one is that of the proxy that is connected.
        let last = values
            .iter()
            .next_back()
            .and_then(|last| last.to_str().ok());
        let last = last.and_then(|last| last.rsplit(',').next());
        self.via.is_some() && last.is_some_and(|last| last.trim().eq_ignore_ascii_case("https"))
    }

    fn answer(&self, request: &hyper::Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        let (method, fields) = (request.method(), request.headers());
        if !http::has_to_do_with_websockets(fields) {
            return None;
        }
        let client = self.client(request).unwrap_or(self.remote);
        Some(match &http::meaning(method, request.version(), fields) {
            Request::Upgrade { accept } => match self.to_listener.check_room(client) {
                Ok(()) => {
                    *self.upgrade_of.lock() = client;
                    accepted(accept)
                }
                Err(_) => refused(Refusal::NO_LISTENER),
            },
            other => {
                self.to_listener.lose(http::loss(other), client);
                refused(Refusal::of(other))
            }
        })
    }

    fn lose(&self) {
        self.to_listener.lose(Loss::Gone, *self.upgrade_of.lock());
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
        let remote = *self.upgrade_of.lock();
        let pushed = self.to_listener.push_stream(Pushed {
            stream,
            received,
            remote,
            contents: Contents::WebSocket,
        });
        if let Err(error) = pushed {
            let addr = remote;
            tracing::debug!(%error, %addr, "closed a WebSocket");
        }
    }
}
