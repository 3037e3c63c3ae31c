//! Processes that are stopped for a while, as by a computer that sleeps.

use std::collections::BTreeSet;

use crate::host::process::{Signal, signal};

/// Processes that run no instruction. Dropping it lets them go on.
#[derive(Debug)]
pub(crate) struct Frozen(BTreeSet<u32>);

impl Frozen {
    /// Stops all descendants of a process, but not the process itself. Linux only.
    pub(crate) fn descendants_of(id: u32) -> Self {
        let mut frozen = Self(BTreeSet::new());
        loop {
            let found = descendants(id, &parents());
            let new: Vec<_> = found.difference(&frozen.0).copied().collect();
            if new.is_empty() {
                return frozen;
            }
            // Until it is stopped, each may start others.
            for id in new {
                signal(id, Signal::Stop);
                frozen.0.insert(id);
            }
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for id in &self.0 {
            signal(*id, Signal::Continue);
        }
    }
}

/// Returns the processes of this machine, each with its parent.
fn parents() -> Vec<(u32, u32)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents = ids.filter_map(|id: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        Some((id, parent(&stat)?))
    });
    parents.collect()
}

/// Returns the parent in a line of `/proc/ID/stat`. The second field may have any text, in brackets.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn descendants(id: u32, parents: &[(u32, u32)]) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut next = vec![id];
    while let Some(id) = next.pop() {
        let children = parents.iter().filter(|(_, parent)| *parent == id);
        next.extend(
            children
                .map(|(child, _)| *child)
                .filter(|child| found.insert(*child)),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_children_are_descendants_and_the_process_itself_is_not() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 2)];
        assert_eq!(descendants(2, &parents), [3, 4, 6].into());
        assert_eq!(descendants(4, &parents), [].into());
    }

    #[test]
    fn the_parent_is_read_after_a_name_with_brackets_and_spaces() {
        assert_eq!(parent("12 (a) R 7 (b)) S 34 5 6"), Some(34));
        assert_eq!(parent("12 (a"), None);
    }
}
