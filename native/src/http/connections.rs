//! The connections of the HTTP server, and which one ends when there are too many.
//!
//! It decides and counts; the sockets belong to the tasks. Invariant: there are never more connections
//! than the limit, and one more costs the host that has the most.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gossip_transport::rt::{Instant, Task};

/// The connections of a server. Dropping them closes them.
#[derive(Debug)]
pub(super) struct Connections {
    max: usize,
    open: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    host: IpAddr,
    progress: Progress,
    task: Task,
}

/// The time of a connection's last read or write. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    since: Instant,
    /// Milliseconds after `since`.
    last: Arc<AtomicU64>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            last: Arc::default(),
        }
    }

    /// Notes that bytes were read or written.
    pub(super) fn note(&self) {
        let elapsed = u64::try_from(self.since.elapsed().as_millis());
        self.last
            .store(elapsed.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the time since bytes were last read or written.
    pub(super) fn pause(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.since.elapsed().saturating_sub(last)
    }
}

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            open: Vec::new(),
        }
    }

    /// Forgets the connections that have ended.
    pub(super) fn forget_ended(&mut self) {
        self.open
            .retain(|connection| !connection.task.is_finished());
    }

    /// If there is no room for one more connection from `ip`, ends the one without progress for the
    /// longest time, of the host that has the most. Returns whether it has ended one.
    pub(super) fn make_room(&mut self, ip: IpAddr) -> bool {
        self.forget_ended();
        if self.open.len() < self.max {
            return false;
        }
        let pauses: Vec<_> = self
            .open
            .iter()
            .map(|connection| (connection.host, connection.progress.pause()))
            .collect();
        if let Some(index) = to_end(&pauses, host_of(ip)) {
            drop(self.open.remove(index));
        }
        true
    }

    /// Adds a connection, for which there must be room.
    pub(super) fn add(&mut self, ip: IpAddr, progress: Progress, task: Task) {
        self.open.push(Connection {
            host: host_of(ip),
            progress,
            task,
        });
    }
}

/// Returns the index of the connection to end. `open` has the host of each, and the time for which it
/// has made no progress.
fn to_end(open: &[(IpAddr, Duration)], newcomer: IpAddr) -> Option<usize> {
    let count = |host: IpAddr| {
        let own = open.iter().filter(|(other, _)| *other == host).count();
        own + usize::from(host == newcomer)
    };
    let ranks = open.iter().map(|(host, pause)| (count(*host), *pause));
    let (index, _) = ranks.enumerate().max_by_key(|(_, rank)| *rank)?;
    Some(index)
}

/// Returns the address under which connections from `ip` are counted: an IPv4 address, or the first
/// 64 bits of an IPv6 address.
fn host_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_with_the_most_loses_the_connection_that_has_paused_for_longest() {
        let ended = |open: &[(u8, u64)], newcomer: u8| {
            let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
            let open = open.iter();
            let open = open.map(|(host, pause)| (ip(*host), Duration::from_secs(*pause)));
            to_end(&open.collect::<Vec<_>>(), ip(newcomer))
        };
        assert_eq!(ended(&[], 1), None);
        assert_eq!(ended(&[(1, 5), (2, 9), (3, 7)], 4), Some(1));
        assert_eq!(ended(&[(1, 9), (2, 3), (2, 5), (2, 4)], 1), Some(2));
        // The newcomer counts.
        assert_eq!(ended(&[(1, 9), (2, 1)], 2), Some(1));
    }
}
