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
    /// Whether there would be more of them if more files could be open.
    are_scarce: bool,
}

/// The numbers of connections that were asked for. The others depend on what is free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) http: Option<usize>,
    pub(crate) handshakes: Option<usize>,
    pub(crate) connections: Option<usize>,
}

/// Too few files may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooFew {
    limit: usize,
    needed: usize,
    /// Whether numbers of connections were asked for.
    for_wanted: bool,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            limit,
            needed,
            for_wanted,
        } = self;
        write!(
            f,
            "this process may have {limit} files open, and needs {needed}: raise the limit (ulimit -n)"
        )?;
        if *for_wanted {
            f.write_str(", or lower --max-connections and the like")?;
        }
        Ok(())
    }
}

impl std::error::Error for TooFew {}

impl Shares {
    /// Raises the limit of open files as far as the system lets this process, and shares it out. The
    /// admin port gets `admin` descriptors, which come first.
    ///
    /// # Errors
    ///
    /// Fails if the limit is too low for a node, or for what is wanted.
    pub(crate) fn of_this_process(admin: usize, wanted: Wanted) -> Result<Self, TooFew> {
        let Some(limit) = raise_limit() else {
            return Ok(Self::unlimited(wanted));
        };
        let open = open().saturating_add(PORTS).saturating_add(admin);
        let shares = Self::of(limit, open, wanted)?;
        if shares.are_scarce {
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
        let handshakes = if self.are_scarce {
            (self.handshakes / 2).max(1)
        } else {
            self.handshakes
        };
        Self { handshakes, ..self }
    }

    /// Returns the most HTTP connections of `--http` and of the gossip port. If both have HTTP, a quarter is for `--http`,
    /// of which strangers take nothing. Each has one at least.
    pub(crate) fn http_of_ports(self, has_both: bool) -> [usize; 2] {
        if !has_both {
            return [self.http; 2];
        }
        let own = (self.http / 4).max(1);
        [own, self.http.saturating_sub(own).max(1)]
    }

    /// Returns the shares of a process that may have any number of files open.
    pub(crate) fn unlimited(wanted: Wanted) -> Self {
        Self {
            http: wanted.http.unwrap_or(MAX_HTTP),
            handshakes: wanted.handshakes.unwrap_or(MAX_HANDSHAKES),
            connections: wanted.connections.unwrap_or(MAX_CONNECTIONS),
            are_scarce: false,
        }
    }

    /// Shares out `limit` descriptors of which `open` are taken.
    fn of(limit: usize, open: usize, wanted: Wanted) -> Result<Self, TooFew> {
        let taken = open.saturating_add(RESERVE);
        let least = Self {
            http: wanted.http.unwrap_or(MIN_HTTP),
            handshakes: wanted.handshakes.unwrap_or(MIN_HANDSHAKES),
            connections: wanted.connections.unwrap_or(MIN_CONNECTIONS),
            are_scarce: true,
        };
        let free = limit.saturating_sub(taken);
        let Some(spare) = free.checked_sub(least.descriptors()) else {
            let needed = taken.saturating_add(least.descriptors());
            return Err(TooFew {
                limit,
                needed,
                for_wanted: wanted != Wanted::default(),
            });
        };
        let http = (free / 10).clamp(MIN_HTTP, MAX_HTTP);
        let handshakes = (free / 6).clamp(MIN_HANDSHAKES, MAX_HANDSHAKES);
        let mut shares = Self {
            // What is wanted of the others comes first.
            http: wanted.http.unwrap_or(http.min(MIN_HTTP + spare / 4)),
            handshakes: wanted
                .handshakes
                .unwrap_or(handshakes.min(MIN_HANDSHAKES + spare / 4)),
            ..least
        };
        if wanted.connections.is_none() {
            let others = shares.descriptors().saturating_sub(shares.connections);
            let rest = free.saturating_sub(others);
            shares.connections = rest.min(MAX_CONNECTIONS);
            shares.are_scarce = rest < MAX_CONNECTIONS;
        }
        Ok(shares)
    }

    /// Returns the number of descriptors that all of these connections take.
    fn descriptors(&self) -> usize {
        let http = self.http.saturating_mul(PER_HTTP_CONNECTION);
        http.saturating_add(self.handshakes)
            .saturating_add(self.connections)
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
    fn strangers_on_the_gossip_port_leave_a_quarter_of_the_http_connections_to_the_port_of_the_operator()
     {
        let shares = |http| {
            Shares::unlimited(Wanted {
                http: Some(http),
                ..Wanted::default()
            })
        };
        assert_eq!(shares(64).http_of_ports(false), [64, 64]);
        for (http, expected) in [(64, [16, 48]), (5, [1, 4]), (1, [1, 1])] {
            assert_eq!(shares(http).http_of_ports(true), expected);
        }
    }

    #[test]
    fn the_shares_are_no_more_than_what_is_free() {
        for limit in 40..3000 {
            let Ok(shares) = Shares::of(limit, 14, Wanted::default()) else {
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
            are_scarce: false,
        };
        assert_eq!(Shares::of(4096, 20, Wanted::default()), Ok(most));
        assert_eq!(Shares::unlimited(Wanted::default()), most);
    }

    #[test]
    fn a_limit_that_is_too_low_says_what_is_needed() {
        let error = Shares::of(32, 14, Wanted::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this process may have 32 files open, and needs 44: raise the limit (ulimit -n)"
        );
    }

    #[test]
    fn what_is_wanted_is_granted_or_refused_and_the_others_share_the_rest() {
        let all = [None, Some(1), Some(50), Some(3000)];
        for limit in (40..6000).step_by(13) {
            for (http, handshakes) in all
                .into_iter()
                .flat_map(|http| all.map(|other| (http, other)))
            {
                for connections in all {
                    let wanted = Wanted {
                        http,
                        handshakes,
                        connections,
                    };
                    let Ok(shares) = Shares::of(limit, 14, wanted) else {
                        continue;
                    };
                    assert!(
                        14 + RESERVE + shares.descriptors() <= limit,
                        "{limit}: {shares:?}"
                    );
                    assert_eq!(http.unwrap_or(shares.http), shares.http);
                    assert_eq!(handshakes.unwrap_or(shares.handshakes), shares.handshakes);
                    assert_eq!(
                        connections.unwrap_or(shares.connections),
                        shares.connections
                    );
                }
            }
        }
        let wanted = Wanted {
            connections: Some(3000),
            ..Wanted::default()
        };
        assert_eq!(
            Shares::of(1024, 14, wanted),
            Err(TooFew {
                limit: 1024,
                needed: 3036,
                for_wanted: true
            })
        );
        assert_eq!(
            Shares::of(3036, 14, wanted).map(|shares| shares.connections),
            Ok(3000)
        );
    }
}
