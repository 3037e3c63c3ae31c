//! HTTP beside gossip: serves the requests for a `tower` service within limits, on the gossip port or on one of its own.
//!
//! Give an [`HttpService`] to [`TcpConfig::http`](crate::tcp::TcpConfig::http), and it answers the requests of the gossip port that
//! ask for no WebSocket; [`HttpService::serve`] answers those of another port. It makes no response itself, except to a
//! service that fails. Invariant: a connection without progress ends, none keeps a new one from being served, and none takes
//! anything that gossip needs.
//!
//! | file | contents |
//! |---|---|
//! | `service` | the service and its limits |
//! | `counts` | its counts |
//! | `handler` | a `tower` service of any type |
//! | `connection` | serving the requests of one stream |
//! | `client` | the client of a request |
//! | `connections` | which connections end when there are too many, or others need their memory |
//! | `progress` | whether a client reads and writes |
//! | `watched` | a stream whose progress is noted |

mod client;
mod connection;
mod connections;
mod counts;
mod handler;
mod progress;
mod service;
mod watched;

pub use client::HttpClient;
pub(crate) use connection::Upgrades;
pub use counts::HttpStats;
pub use progress::Holding;
pub use service::HttpService;
pub(crate) use service::HttpStream;
