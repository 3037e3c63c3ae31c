//! The service, its limits and counts.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

use super::client::HttpClient;
use super::connection::{Connection, NoUpgrades, Upgrades};
use super::connections::Connections;
use super::counts::{Counts, HttpStats};
use super::handler::{Cloned, Handler};
use super::progress::Progress;
use crate::net::canonical;
use crate::rt::sync::Mutex;
use crate::rt::{self, Task};

/// The most connections at a time, unless another limit is set. Each takes a file descriptor.
const DEFAULT_MAX_CONNECTIONS: usize = 128;
/// The wait before accepting again when the system is short of resources.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// A `tower` service that answers HTTP requests, within limits. Clones share connections, limits and counts.
///
/// At most [`with_max_connections`](Self::with_max_connections) connections are open at a time: one more ends the one
/// without progress for the longest time, of the host that has the most; of IPv6, of the site with the most, which is a
/// network of 48 bits. The head of a request may have 16 KiB and must
/// arrive within 5 s, after which an idle connection ends as well; a connection on which nothing is read or written for
/// 10 s ends. Requests have an [`HttpClient`] among their extensions.
#[derive(Clone)]
pub struct HttpService(Arc<Inner>);

struct Inner {
    handler: Arc<dyn Handler>,
    connections: Arc<Mutex<Connections>>,
    counts: Arc<Counts>,
}

/// A stream with requests, and where it has come from.
#[derive(Debug)]
pub(crate) struct HttpStream<S> {
    pub(crate) stream: S,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    /// Whether TLS is around it.
    pub(crate) is_encrypted: bool,
}

impl HttpService {
    /// Returns a service that answers each request with a clone of `service`, an [`axum::Router`] for example.
    ///
    /// A request whose service fails is answered with the status 500.
    ///
    /// [`axum::Router`]: https://docs.rs/axum/latest/axum/struct.Router.html
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self(Arc::new(Inner {
            handler: Arc::new(Cloned(service)),
            connections: Arc::new(Mutex::new(Connections::new(DEFAULT_MAX_CONNECTIONS))),
            counts: Arc::default(),
        }))
    }

    /// Returns a service that answers with `service` and has connections and limits of its own, and the counts of this one: for
    /// another port, whose clients take no connection from those of this one.
    #[must_use]
    pub fn sharing_counts<S, B>(&self, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self(Arc::new(Inner {
            handler: Arc::new(Cloned(service)),
            connections: Arc::new(Mutex::new(Connections::new(DEFAULT_MAX_CONNECTIONS))),
            counts: Arc::clone(&self.0.counts),
        }))
    }

    /// Sets the most connections at a time, at least 1. Default 128. Each takes a file descriptor.
    #[must_use]
    pub fn with_max_connections(self, max: usize) -> Self {
        self.0.connections.lock().set_max(max.max(1));
        self
    }

    /// Returns the present counts.
    pub fn stats(&self) -> HttpStats {
        self.0.counts.stats()
    }

    /// Serves what `listener` accepts, until the returned task is dropped. Connections end with the last clone of the
    /// service.
    pub fn serve(&self, listener: TcpListener) -> Task {
        let service = self.clone();
        Task::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => service.start(stream, peer),
                    Err(error) if is_about_one_stream(&error) => {}
                    Err(error) => service.wait_for_resources(&error).await,
                }
            }
        })
    }

    fn start(&self, stream: TcpStream, remote: SocketAddr) {
        // It has ended already otherwise.
        if let Ok(local) = stream.local_addr() {
            let stream = HttpStream {
                stream,
                remote,
                local,
                is_encrypted: false,
            };
            self.serve_stream(stream, NoUpgrades);
        }
    }

    /// Serves the requests of one stream, in a task of its own. A request for a WebSocket goes to `upgrades` first.
    pub(crate) fn serve_stream<S, U>(&self, stream: HttpStream<S>, upgrades: U)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        U: Upgrades<S>,
    {
        let HttpStream {
            stream,
            remote,
            local,
            is_encrypted,
        } = stream;
        let (remote, local) = (canonical(remote), canonical(local));
        let client = HttpClient {
            remote,
            local,
            is_encrypted,
            is_reached_by_tls: is_encrypted,
            progress: Progress::new(),
            connections: Arc::downgrade(&self.0.connections),
            counts: Arc::clone(&self.0.counts),
        };
        let progress = client.progress.clone();
        let connection = Connection::new(client, Arc::clone(&self.0.handler), upgrades);
        // Under one lock, so that there is never one more than there may be.
        let mut connections = self.0.connections.lock();
        let ended = connections.make_room(remote.ip());
        let task = Task::spawn(connection.serve(stream));
        connections.add(remote.ip(), progress, task);
        drop(connections);
        if !ended.is_empty() {
            let newcomer = remote;
            let evicted = self
                .0
                .counts
                .add(|counts| &counts.evicted, ended.len() as u64);
            if evicted.is_power_of_two() {
                tracing::warn!(%newcomer, evicted, "ended an HTTP connection, there are too many");
            }
        }
    }

    async fn wait_for_resources(&self, error: &io::Error) {
        let shortages = self.0.counts.add(|counts| &counts.shortages, 1);
        if shortages.is_power_of_two() {
            tracing::warn!(%error, shortages, "cannot accept an HTTP connection, retrying");
        }
        self.0.connections.lock().forget_ended();
        rt::sleep(SHORTAGE_PAUSE).await;
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

impl fmt::Debug for HttpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpService")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
