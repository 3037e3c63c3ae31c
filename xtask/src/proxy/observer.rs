//! A thread in the inner network that finds out when all nodes have a change.
//!
//! It asks one node at a time for news, and the others only once that one has some, so that it does
//! not load the machine that it measures.

use std::io;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};

use crate::proxy::namespaces::Namespace;
use crate::proxy::network::NodeAddress;
use crate::proxy::poll::Poll;
use crate::proxy::spread::{Breadth, Done, Spread};

/// Pause after an answer without news. Most of the measurement's uncertainty.
const PAUSE: Duration = Duration::from_millis(2);

/// The key that tabs change. Its values are the numbers of the changes.
pub(crate) const KEY: &str = "probe";

/// The thread. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Observer {
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    spread: Spread,
    stop: bool,
    /// The reason for which the thread has ended by itself.
    failure: Option<String>,
}

impl Observer {
    pub(crate) fn start(inner: &Arc<Namespace>, nodes: &[NodeAddress]) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            spread: Spread::new(nodes.len()),
            stop: false,
            failure: None,
        }));
        let watcher = Watcher {
            shared: Arc::clone(&shared),
            nodes: nodes.iter().map(|node| node.http).collect(),
        };
        let inner = Arc::clone(inner);
        let thread = thread::spawn(move || {
            let outcome = inner.run(|| watcher.run());
            if let Err(error) = outcome.and_then(|outcome| outcome) {
                lock(&watcher.shared).failure = Some(format!("{error:#}"));
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Watches for a change that is about to be made.
    pub(crate) fn expect(&self, number: u64) {
        lock(&self.shared).spread.expect(number);
    }

    /// Returns the changes that have become known to be everywhere, and how many are not yet.
    pub(crate) fn progress(&self) -> anyhow::Result<(Vec<Done>, usize)> {
        let mut shared = lock(&self.shared);
        if let Some(failure) = &shared.failure {
            bail!("the observer has ended: {failure}");
        }
        Ok((shared.spread.take_done(), shared.spread.open()))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        lock(&self.shared).stop = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Watcher {
    shared: Arc<Mutex<Shared>>,
    nodes: Vec<SocketAddrV4>,
}

impl Watcher {
    fn run(&self) -> anyhow::Result<()> {
        let connected: io::Result<Vec<_>> = self.nodes.iter().copied().map(Poll::connect).collect();
        let mut polls = connected.context("cannot reach a node's status")?;
        let mut breadth = Breadth::One;
        loop {
            let nodes = {
                let shared = lock(&self.shared);
                if shared.stop {
                    return Ok(());
                }
                shared.spread.to_ask(breadth)
            };
            let is_news = self.ask(&mut polls, &nodes)?;
            breadth = if is_news { Breadth::All } else { Breadth::One };
            if !is_news {
                thread::sleep(PAUSE);
            }
        }
    }

    /// Asks some nodes at once. Returns whether one of them had a new change.
    fn ask(&self, polls: &mut [Poll], nodes: &[usize]) -> anyhow::Result<bool> {
        let mut is_news = false;
        for &node in nodes {
            polls.get_mut(node).context("no such node")?.send()?;
        }
        for &node in nodes {
            let status = polls.get_mut(node).context("no such node")?.receive()?;
            let now = SystemTime::now();
            let number = number(&status);
            is_news |= lock(&self.shared).spread.answer(node, number, now);
        }
        Ok(is_news)
    }
}

/// Returns the highest value of [`KEY`] in a node's status, or 0 if no member has set it. No other
/// text of a status has this form, so there is no need to parse it.
fn number(status: &str) -> u64 {
    let name = format!("\"{KEY}\":\"");
    let values = status.split(&name).skip(1).filter_map(|rest| {
        let (value, _) = rest.split_once('"')?;
        value.parse().ok()
    });
    values.max().unwrap_or(0)
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn the_number_of_the_last_change_is_read_from_a_nodes_status() {
        let status = r#"[{"id":"tab-1","keys":{"kind":"tab","probe":"17"}},{"id":"tab-2","keys":{"probe":"16"}}]"#;
        assert_eq!(number(status), 17);
        assert_eq!(number(r#"{"members":[{"id":"tab-1","keys":{}}]}"#), 0);
    }
}
