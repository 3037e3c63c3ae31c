//! The counts of the HTTP server, which `/status` and `/metrics` report.

use gossip_transport::http_service;

/// A snapshot of the counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct HttpStats {
    /// Open connections.
    pub(crate) connections: u64,
    /// Requests for which a response was made.
    pub(crate) requests: u64,
    /// Connections that ended because there were too many, or because they held the memory that another
    /// response needed and their clients did not read.
    pub(crate) evicted: u64,
    /// Connections that ended because nothing was read or written for too long, or a response was not taken
    /// in time.
    pub(crate) timed_out: u64,
    /// Requests that were refused because the responses that were being sent took too much memory.
    pub(crate) refused: u64,
    /// Times at which no connection could be accepted because the system was short of resources.
    pub(crate) shortages: u64,
    /// Requests of pages for an invite that were refused because too many had asked, or because the node does not know the
    /// host in their link.
    pub(crate) visitors_refused: u64,
}

impl HttpStats {
    /// Adds `refused` and `visitors_refused` to the counts of the service.
    pub(crate) fn new(stats: http_service::HttpStats, refused: u64, visitors_refused: u64) -> Self {
        Self {
            connections: stats.connections,
            requests: stats.requests,
            evicted: stats.evicted,
            timed_out: stats.timed_out,
            refused,
            shortages: stats.shortages,
            visitors_refused,
        }
    }
}
