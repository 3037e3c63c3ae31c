//! Accepts HTTP connections and serves each in a task of its own, within limits.
//!
//! The responses are made elsewhere. Invariant: a connection that makes no progress ends, and none
//! keeps a new one from being served.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use gossip_transport::rt::{self, Task};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use super::bodies::Client;
use super::connections::Connections;
use super::hosts::LocalIp;
use super::progress::Progress;
use crate::http_stats::HttpStats;

/// The time in which the head of a request must arrive, and after which an idle connection ends.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// The longest head of a request, in bytes, and the size of its connection's buffer.
const MAX_HEAD_LEN: usize = 32 << 10;
/// The wait before accepting again when the system is short of resources.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// Counts of HTTP connections. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct HttpCounters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    evicted: AtomicU64,
    timed_out: AtomicU64,
    refused: AtomicU64,
    shortages: AtomicU64,
}

impl HttpCounters {
    /// Returns the present counts.
    pub(crate) fn stats(&self) -> HttpStats {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HttpStats {
            connections: load(&self.0.open),
            evicted: load(&self.0.evicted),
            timed_out: load(&self.0.timed_out),
            refused: load(&self.0.refused),
            shortages: load(&self.0.shortages),
        }
    }

    /// Counts connections that have ended because their clients did not read, and others waited for room.
    pub(super) fn note_stalled(&self, ended: usize) {
        self.0.evicted.fetch_add(ended as u64, Ordering::Relaxed);
    }

    /// Counts a request that was refused.
    pub(super) fn note_refused(&self) {
        self.count(|counts| &counts.refused);
    }

    fn count(&self, count: impl FnOnce(&Counts) -> &AtomicU64) -> u64 {
        count(&self.0).fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Serves `router` on `listener`, with at most `max_connections` at a time, until the returned task is
/// dropped. One more ends the one without progress for the longest time, of the host that has the most.
pub(super) fn serve(
    listener: TcpListener,
    router: Router,
    max_connections: usize,
    counters: HttpCounters,
) -> Task {
    let server = Acceptor {
        listener,
        router,
        counters,
        connections: Arc::new(Mutex::new(Connections::new(max_connections))),
    };
    Task::spawn(server.run())
}

struct Acceptor {
    listener: TcpListener,
    router: Router,
    counters: HttpCounters,
    /// Only the acceptor keeps them open.
    connections: Arc<Mutex<Connections>>,
}

impl Acceptor {
    async fn run(mut self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => self.start(stream, peer),
                Err(error) if is_about_one_stream(&error) => {}
                Err(error) => {
                    let shortages = self.counters.count(|counts| &counts.shortages);
                    if shortages.is_power_of_two() {
                        tracing::warn!(%error, shortages, "cannot accept an HTTP connection, retrying");
                    }
                    self.connections().forget_ended();
                    rt::sleep(SHORTAGE_PAUSE).await;
                }
            }
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&mut self, stream: TcpStream, peer: SocketAddr) {
        let made_room = self.connections().make_room(peer.ip());
        if made_room {
            let evicted = self.counters.count(|counts| &counts.evicted);
            if evicted.is_power_of_two() {
                tracing::warn!(%peer, evicted, "ended an HTTP connection, there are too many");
            }
        }
        let progress = Progress::new();
        let connection = Connection {
            open: Open::new(&self.counters),
            counters: self.counters.clone(),
            local: stream.local_addr().ok().map(LocalIp::from),
            client: Client {
                progress: progress.clone(),
                connections: Arc::downgrade(&self.connections),
            },
        };
        let router = self.router.clone();
        let task = Task::spawn(connection.serve(stream, router));
        self.connections().add(peer.ip(), progress, task);
    }
}

/// Returns whether the connection failed before it was accepted, while the listener still works.
fn is_about_one_stream(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Counts an open connection for as long as it exists.
struct Open(HttpCounters);

impl Open {
    fn new(counters: &HttpCounters) -> Self {
        counters.count(|counts| &counts.open);
        Self(counters.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Connection {
    open: Open,
    counters: HttpCounters,
    local: Option<LocalIp>,
    client: Client,
}

impl Connection {
    async fn serve(self, stream: TcpStream, router: Router) {
        let local = self.local;
        let client = self.client.clone();
        let service =
            service_fn(move |request| respond(router.clone(), local, client.clone(), request));
        let stream = Watched {
            stream,
            progress: self.client.progress.clone(),
        };
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(MAX_HEAD_LEN)
            .serve_connection(TokioIo::new(stream), service);
        let timed_out = tokio::select! {
            served = pin!(serving) => served.is_err_and(|error| error.is_timeout()),
            () = self.no_progress() => true,
        };
        if timed_out {
            self.counters.count(|counts| &counts.timed_out);
        }
        drop(self.open);
    }

    /// Completes when nothing has been read or written for too long, or a response was not taken in time.
    async fn no_progress(&self) {
        loop {
            let left = self.client.progress.left();
            if left.is_zero() {
                return;
            }
            rt::sleep(left).await;
        }
    }
}

async fn respond(
    router: Router,
    local: Option<LocalIp>,
    client: Client,
    request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    let mut request: Request = request.map(Body::new);
    request.extensions_mut().insert(client);
    if let Some(local) = local {
        request.extensions_mut().insert(local);
    }
    router.oneshot(request).await
}

/// A stream whose progress is noted.
struct Watched {
    stream: TcpStream,
    progress: Progress,
}

impl Watched {
    fn note_written(&self, polled: &Poll<io::Result<usize>>) {
        if matches!(polled, Poll::Ready(Ok(_))) {
            self.progress.note_written();
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if matches!(read, Poll::Ready(Ok(()))) {
            self.progress.note_read();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
