//! The connections of an HTTP service, and which one ends when there are too many.
//!
//! It decides and counts; the sockets belong to the tasks. Invariant: there are never more connections
//! than the limit, and one more costs the host that has the most.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::time::Duration;

use super::progress::Progress;
use crate::host::{Host, one_to_end};
use crate::rt::Task;

/// The time for which a client has read nothing when its connection may end for the sake of others.
const STALL: Duration = Duration::from_secs(1);

/// The connections of a service. Dropping them closes them.
#[derive(Debug)]
pub(super) struct Connections {
    max: usize,
    open: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    host: Host,
    progress: Progress,
    task: Task,
}

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            open: Vec::new(),
        }
    }

    /// Sets the most connections. Those that are open stay.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Forgets the connections that have ended.
    pub(super) fn forget_ended(&mut self) {
        self.open
            .retain(|connection| !connection.task.is_finished());
    }

    /// If there is no room for one more connection from `ip`, ends those without progress for the longest time, of the host
    /// that has the most: drop their tasks. It is one, unless the limit was lowered.
    pub(super) fn make_room(&mut self, ip: IpAddr) -> Vec<Task> {
        self.forget_ended();
        let mut ended = Vec::new();
        while self.open.len() >= self.max {
            match self.end_one(ip) {
                Some(task) => ended.push(task),
                None => break,
            }
        }
        ended
    }

    fn end_one(&mut self, ip: IpAddr) -> Option<Task> {
        let pauses: Vec<_> = self
            .open
            .iter()
            .map(|connection| (connection.host, connection.progress.pause()))
            .collect();
        let index = to_end(&pauses, Host::of(ip))?;
        Some(self.open.remove(index).task)
    }

    /// Ends the connections whose clients do not read their responses, of the host for which the most bytes
    /// of these are in memory: drop their tasks.
    pub(super) fn end_stalled(&mut self) -> Vec<Task> {
        self.forget_ended();
        let open: Vec<_> = self
            .open
            .iter()
            .map(|connection| {
                let progress = &connection.progress;
                (connection.host, progress.held(), progress.pause())
            })
            .collect();
        let Some(host) = host_that_stalls(&open) else {
            return Vec::new();
        };
        let ended = self.open.extract_if(.., |connection| {
            let progress = &connection.progress;
            connection.host == host && is_stalled(progress.held(), progress.pause())
        });
        ended.map(|connection| connection.task).collect()
    }

    /// Adds a connection, for which there must be room.
    pub(super) fn add(&mut self, ip: IpAddr, progress: Progress, task: Task) {
        self.open.push(Connection {
            host: Host::of(ip),
            progress,
            task,
        });
    }
}

/// Returns the index of the connection to end. `open` has the host of each, and the time for which it
/// has made no progress.
fn to_end(open: &[(Host, Duration)], newcomer: Host) -> Option<usize> {
    let mut order: Vec<_> = open.iter().enumerate().collect();
    // The first of equals pays.
    order.sort_by_key(|(_, (_, pause))| Reverse(*pause));
    let hosts: Vec<_> = order.iter().map(|(_, (host, _))| *host).collect();
    let first = one_to_end(&hosts, newcomer)?;
    order.get(first).map(|(index, _)| *index)
}

/// Returns whether a client that has yet to read `held` bytes reads nothing.
fn is_stalled(held: usize, pause: Duration) -> bool {
    held > 0 && pause >= STALL
}

/// Returns the host that has the most bytes in memory among those with a client that does not read.
/// `open` has the host of each connection, the bytes of its responses, and the time without progress.
fn host_that_stalls(open: &[(Host, usize, Duration)]) -> Option<Host> {
    let bytes = |host: Host| -> usize {
        let own = open.iter().filter(|(other, ..)| *other == host);
        own.map(|(_, held, _)| *held).sum()
    };
    let stalled = open
        .iter()
        .filter(|(_, held, pause)| is_stalled(*held, *pause));
    let hosts = stalled.map(|(host, ..)| *host);
    hosts.max_by_key(|host| bytes(*host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_with_the_most_loses_the_connection_that_has_paused_for_longest() {
        let ended = |open: &[(u8, u64)], newcomer: u8| {
            let ip = |n: u8| Host::of(IpAddr::from([10, 0, 0, n]));
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

    #[test]
    fn a_site_that_uses_many_of_its_hosts_costs_no_other_host_its_connections() {
        let host = |text: &str| Host::of(text.parse().unwrap());
        let of_site = |n: usize| host(&format!("2001:db8:0:{n:x}::1"));
        let mut open: Vec<_> = (0..62).map(|n| (of_site(n), Duration::ZERO)).collect();
        let honest = host("192.0.2.1");
        open.extend([(honest, Duration::from_secs(9)); 2]);
        for n in 62..1_000 {
            let ended = to_end(&open, of_site(n)).unwrap();
            open.remove(ended);
            open.push((of_site(n), Duration::ZERO));
        }
        assert_eq!(open.iter().filter(|(host, _)| *host == honest).count(), 2);
    }

    #[test]
    fn the_host_with_the_most_unread_bytes_loses_its_stalled_connections() {
        let ip = |n: u8| Host::of(IpAddr::from([10, 0, 0, n]));
        let host = |open: &[(u8, usize, u64)]| {
            let open = open.iter();
            let open =
                open.map(|(host, held, millis)| (ip(*host), *held, Duration::from_millis(*millis)));
            host_that_stalls(&open.collect::<Vec<_>>())
        };
        assert_eq!(host(&[]), None);
        // Nobody stalls: one reads, one is idle.
        assert_eq!(host(&[(1, 500, 999), (2, 0, 5_000)]), None);
        // A host that reads is not asked for room, however much it is sent.
        assert_eq!(host(&[(1, 900, 10), (2, 5, 1_000)]), Some(ip(2)));
        let open = [(1, 60, 2_000), (2, 50, 1_000), (2, 50, 10), (3, 90, 9_000)];
        assert_eq!(host(&open), Some(ip(2)));
    }
}
