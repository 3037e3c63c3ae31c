//! How many files this process may have open, and how they are shared out.
//!
//! Each connection takes a descriptor. Gossip, HTTP, admin commands and everything else have shares of their own, so
//! that a flood of one kind leaves the others theirs. Invariant: the shares together are no more than
//! what the system allows.

use std::fmt;

/// Descriptors that a node opens besides connections: resolving names, the files of its credential,
/// goodbyes on connections that were evicted.
const RESERVE: usize = 10;
/// Descriptors of this process before it has any connection, if the system does not say.
const OPEN_AT_START: usize = 20;
/// Descriptors that are opened between the count and the start of the node: its ports.
const PORTS: usize = 3;
/// A request for a file of `--web-root` opens that file, too.
const PER_HTTP_CONNECTION: usize = 2;

/// The largest number of HTTP connections, however many descriptors there are.
const MAX_HTTP: usize = 64;
/// The largest number of handshakes of incoming connections, and the library's default.
const MAX_HANDSHAKES: usize = 64;
/// The largest number of gossip connections, and the library's default.
const MAX_CONNECTIONS: usize = 1024;
/// The fewest of each with which a node is of use.
const MIN_HTTP: usize = 4;
const MIN_HANDSHAKES: usize = 4;
const MIN_CONNECTIONS: usize = 8;

/// The largest numbers of connections of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// HTTP connections.
    pub(crate) http: usize,
    /// Gossip connections whose handshake is running.
    pub(crate) handshakes: usize,
    /// Gossip connections, dials included.
    pub(crate) connections: usize,
}

/// Too few files may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooFew {
    limit: usize,
    needed: usize,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, needed } = self;
        write!(
            f,
            "this process may have {limit} files open, and needs {needed}: raise the limit (ulimit -n)"
        )
    }
}

impl std::error::Error for TooFew {}

impl Shares {
    /// Raises the limit of open files as far as the system lets this process, and shares it out. The
    /// admin port gets `admin` descriptors, which come first.
    ///
    /// # Errors
    ///
    /// Fails if the limit is too low for a node.
    pub(crate) fn of_this_process(admin: usize) -> Result<Self, TooFew> {
        let Some(limit) = raise_limit() else {
            return Self::of(usize::MAX, 0);
        };
        let shares = Self::of(limit, open().saturating_add(PORTS).saturating_add(admin))?;
        if shares.connections < MAX_CONNECTIONS {
            tracing::warn!(
                limit,
                connections = shares.connections,
                "few files may be open, so there can be few connections; raise the limit (ulimit -n)"
            );
        }
        Ok(shares)
    }

    /// Returns the shares of a node with trusted proxies, whose connections take descriptors before their
    /// handshakes, too: until the proxy has stated its client. If there are enough for all, nothing changes.
    pub(crate) fn behind_proxies(self) -> Self {
        let are_scarce = self.connections < MAX_CONNECTIONS;
        let handshakes = if are_scarce {
            self.handshakes / 2
        } else {
            self.handshakes
        };
        Self { handshakes, ..self }
    }

    /// Shares out `limit` descriptors of which `open` are taken.
    fn of(limit: usize, open: usize) -> Result<Self, TooFew> {
        let taken = open.saturating_add(RESERVE);
        let least = MIN_HTTP * PER_HTTP_CONNECTION + MIN_HANDSHAKES + MIN_CONNECTIONS;
        let free = limit.saturating_sub(taken);
        if free < least {
            let needed = taken.saturating_add(least);
            return Err(TooFew { limit, needed });
        }
        let http = (free / 10).clamp(MIN_HTTP, MAX_HTTP);
        let handshakes = (free / 6).clamp(MIN_HANDSHAKES, MAX_HANDSHAKES);
        let rest = free - http * PER_HTTP_CONNECTION - handshakes;
        Ok(Self {
            http,
            handshakes,
            connections: rest.min(MAX_CONNECTIONS),
        })
    }
}

/// Raises the limit of open files as far as possible. Returns the limit, or `None` if there is none.
#[cfg(unix)]
fn raise_limit() -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        // Some systems allow less than they state.
        Err(_) => current,
    };
    usize::try_from(limit?).ok()
}

/// Other systems have no such limit.
#[cfg(not(unix))]
fn raise_limit() -> Option<usize> {
    None
}

/// Returns the number of open descriptors.
fn open() -> usize {
    let listed = std::fs::read_dir("/proc/self/fd").or_else(|_| std::fs::read_dir("/dev/fd"));
    listed.map_or(OPEN_AT_START, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_no_more_than_what_is_free() {
        for limit in 40..3000 {
            let Ok(shares) = Shares::of(limit, 14) else {
                assert!(limit < 44, "{limit}");
                continue;
            };
            let taken = 14 + RESERVE + shares.http * PER_HTTP_CONNECTION + shares.handshakes;
            assert!(taken + shares.connections <= limit, "{limit}: {shares:?}");
            assert!(shares.connections >= MIN_CONNECTIONS, "{limit}: {shares:?}");
        }
    }

    #[test]
    fn with_enough_descriptors_the_shares_are_the_defaults() {
        let most = Shares {
            http: MAX_HTTP,
            handshakes: MAX_HANDSHAKES,
            connections: MAX_CONNECTIONS,
        };
        assert_eq!(Shares::of(4096, 20), Ok(most));
        assert_eq!(Shares::of(usize::MAX, 0), Ok(most));
    }

    #[test]
    fn a_limit_that_is_too_low_says_what_is_needed() {
        let error = Shares::of(32, 14).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this process may have 32 files open, and needs 44: raise the limit (ulimit -n)"
        );
    }
}
