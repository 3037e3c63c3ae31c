//! The counts of the HTTP server, which `/status` and `/metrics` report.

/// A snapshot of the counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct HttpStats {
    /// Open connections.
    pub(crate) connections: u64,
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
}
