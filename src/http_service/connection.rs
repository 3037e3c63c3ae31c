//! Serving the requests of one stream.
//!
//! The responses are made elsewhere. Invariant: the task ends when the stream makes no progress.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::client::HttpClient;
use super::counts::Counts;
use super::handler::{BoxBody, Handler};
use super::progress::Progress;
use super::watched::Watched;
use crate::net::MAX_REQUEST_HEAD_LEN;
use crate::rt;
use crate::rt::sync::Mutex;

/// The time in which the head of a request must arrive, and after which an idle connection ends.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// Takes over streams on which a WebSocket is requested.
pub(crate) trait Upgrades<S>: Send + Sync + 'static {
    /// Returns the response to a request for a WebSocket, or `None` if it is none. With the status 101,
    /// [`take_over`](Self::take_over) follows once the response is written.
    fn answer(&self, request: &Request<Incoming>) -> Option<Response<Full<Bytes>>>;

    /// Returns the client of a request, if it need not be that of the stream.
    fn client(&self, request: &Request<Incoming>) -> Option<SocketAddr>;

    /// Returns whether a trusted proxy states that the client of a request has used TLS.
    fn states_tls(&self, request: &Request<Incoming>) -> bool;

    /// Counts that a response with the status 101 was not written, so that there is nothing to take over.
    fn lose(&self);

    /// Takes over the stream. `read` has the bytes after the request that were read already.
    fn take_over(&self, stream: S, read: &[u8]);
}

/// Leaves all requests to the service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoUpgrades;

impl<S> Upgrades<S> for NoUpgrades {
    fn answer(&self, _request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        None
    }

    fn client(&self, _request: &Request<Incoming>) -> Option<SocketAddr> {
        None
    }

    fn states_tls(&self, _request: &Request<Incoming>) -> bool {
        false
    }

    fn lose(&self) {}

    fn take_over(&self, stream: S, _read: &[u8]) {
        drop(stream);
    }
}

/// A stream whose requests are served.
pub(super) struct Connection<U> {
    client: HttpClient,
    handler: Arc<dyn Handler>,
    upgrades: U,
    upgrading: Mutex<Option<OnUpgrade>>,
    _open: Open,
}

impl<U> Connection<U> {
    pub(super) fn new(client: HttpClient, handler: Arc<dyn Handler>, upgrades: U) -> Self {
        Self {
            _open: Open::new(&client.counts),
            client,
            handler,
            upgrades,
            upgrading: Mutex::new(None),
        }
    }

    pub(super) async fn serve<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        U: Upgrades<S>,
    {
        let this = Arc::new(self);
        let progress = &this.client.progress;
        let stream = Watched::new(stream, progress.clone());
        let responder = Arc::clone(&this);
        let service = service_fn(move |request| {
            let responder = Arc::clone(&responder);
            async move { Ok::<_, Infallible>(responder.respond(request).await) }
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(MAX_REQUEST_HEAD_LEN)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let timed_out = match select(pin!(serving), pin!(no_progress(progress))).await {
            Either::Left((served, _)) => served.is_err_and(|error| error.is_timeout()),
            Either::Right(((), _)) => true,
        };
        if timed_out {
            this.client.counts.add(|counts| &counts.timed_out, 1);
            return;
        }
        let Some(upgrading) = this.upgrading.lock().take() else {
            return;
        };
        let upgraded = upgrading.await.ok();
        match upgraded.and_then(|upgraded| upgraded.downcast::<TokioIo<Watched<S>>>().ok()) {
            Some(parts) => {
                let stream = parts.io.into_inner().into_inner();
                this.upgrades.take_over(stream, &parts.read_buf);
            }
            None => this.upgrades.lose(),
        }
    }

    async fn respond<S>(&self, mut request: Request<Incoming>) -> Response<BoxBody>
    where
        U: Upgrades<S>,
    {
        self.client.counts.add(|counts| &counts.requests, 1);
        if let Some(response) = self.upgrades.answer(&request) {
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                *self.upgrading.lock() = Some(hyper::upgrade::on(&mut request));
            }
            return response.map(boxed);
        }
        let mut client = self.client.clone();
        client.remote = self.upgrades.client(&request).unwrap_or(client.remote);
        client.is_reached_by_tls |= self.upgrades.states_tls(&request);
        request.extensions_mut().insert(client);
        match self.handler.handle(request).await {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(error, "the HTTP service failed");
                failed()
            }
        }
    }
}

/// Completes when nothing has been read or written for too long, or a response was not taken in time.
async fn no_progress(progress: &Progress) {
    loop {
        let left = progress.left();
        if left.is_zero() {
            return;
        }
        rt::sleep(left).await;
    }
}

fn failed() -> Response<BoxBody> {
    let body = Bytes::from_static(b"Internal Server Error\n");
    let mut response = Response::new(boxed(Full::new(body)));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    let text = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

fn boxed(body: Full<Bytes>) -> BoxBody {
    body.map_err(|never| match never {}).boxed_unsync()
}

/// Counts an open connection for as long as it exists.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.add(|counts| &counts.connections, 1);
        Self(Arc::clone(counts))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
