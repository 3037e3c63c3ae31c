//! The log of members that join, leave, die and come back. One line for each change; keys are not logged.
//!
//! A message can name thousands of members. Invariant: there are at most [`BURST`] lines of changes at once, and
//! [`PER_SECOND`] in the long run; changes beyond that are counted, and their number is logged at most once in
//! [`REPORTED_EVERY`].

use std::collections::BTreeMap;
use std::time::Duration;

use gossip_transport::gossip::{Liveness, MembershipWatch};
use gossip_transport::message::ChitchatId;
use gossip_transport::rt;

use crate::node::Node;

/// The most changes that are logged at once: those of a cluster that starts, or loses a network.
const BURST: u32 = 1000;
/// The number of changes that are logged in a second in the long run.
const PER_SECOND: u32 = 10;

/// The shortest time between two lines that say how many changes were not logged.
const REPORTED_EVERY: Duration = Duration::from_secs(10);

/// Logs changes until the returned task is dropped or the node leaves.
pub(crate) fn start(node: Node, mut watch: MembershipWatch) -> rt::Task {
    let start = rt::Instant::now();
    rt::Task::spawn(async move {
        let mut known = BTreeMap::new();
        let mut log = Log::default();
        while let Some(members) = node.with(|participant| participant.liveness_of_members()) {
            for change in changes(&mut known, &members) {
                log.write(&change, start.elapsed());
            }
            if !watch.changed().await {
                break;
            }
        }
    })
}

/// The lines that were written, and the changes that were not.
#[derive(Debug, Default)]
struct Log {
    /// The time from which on all lines will have had theirs.
    due: Duration,
    skipped: u64,
    /// When it was last said that changes are not logged, or how many.
    reported: Option<Duration>,
}

/// What is logged of changes that are not.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    /// There are too many from now on.
    TooMany,
    /// There were so many.
    Skipped(u64),
}

impl Log {
    /// Logs a change, unless there were too many.
    fn write(&mut self, change: &Change, now: Duration) {
        let (is_admitted, report) = self.judge(now);
        match report {
            Some(Report::TooMany) => {
                tracing::warn!("too many changes of members, not logging all of them");
            }
            Some(Report::Skipped(skipped)) => {
                tracing::info!(skipped, "changes of members that were not logged");
            }
            None => {}
        }
        if is_admitted {
            change.log();
        }
    }

    /// Returns whether a change may be logged now, and what is logged of those that were not.
    fn judge(&mut self, now: Duration) -> (bool, Option<Report>) {
        let is_admitted = self.admit(now);
        let may_report = self.reported.is_none_or(|at| now >= at + REPORTED_EVERY);
        let report = match (is_admitted, self.skipped) {
            _ if !may_report => None,
            (true, 0) => None,
            (false, 0) => Some(Report::TooMany),
            _ => Some(Report::Skipped(std::mem::take(&mut self.skipped))),
        };
        if report.is_some() {
            self.reported = Some(now);
        }
        self.skipped += u64::from(!is_admitted);
        (is_admitted, report)
    }

    /// Returns whether there may be a line now, and counts it.
    fn admit(&mut self, now: Duration) -> bool {
        let spacing = Duration::from_secs(1) / PER_SECOND;
        let due = self.due.max(now);
        let is_admitted = due < now + spacing * BURST;
        if is_admitted {
            self.due = due + spacing;
        }
        is_admitted
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Discovered(ChitchatId),
    Live(ChitchatId),
    Left(ChitchatId),
    Dead(ChitchatId),
    Forgotten(ChitchatId),
}

impl Change {
    fn log(&self) {
        let (id, change) = match self {
            Self::Discovered(id) => (id, "discovered"),
            Self::Live(id) => (id, Liveness::Live.as_str()),
            Self::Left(id) => (id, Liveness::Left.as_str()),
            Self::Dead(id) => (id, Liveness::Dead.as_str()),
            Self::Forgotten(id) => (id, "forgotten"),
        };
        // The name is chosen by another node. Quoted, it cannot end the line.
        tracing::info!(member = ?&*id.node_id, addr = %id.gossip_advertise_addr,
            generation = id.generation_id, "{change}");
    }
}

/// Returns the differences between `known` and the members `now`, which must be sorted by id, and makes
/// `known` equal to the others among them.
///
/// `known` changes in place. A new map for each change would leave holes between what stays allocated: with
/// a thousand dead members, and pages that come and go, a node took three times its memory.
fn changes(
    known: &mut BTreeMap<ChitchatId, Liveness>,
    now: &[(ChitchatId, Liveness)],
) -> Vec<Change> {
    let mut changes = Vec::new();
    let others = now
        .iter()
        .filter(|(_, liveness)| *liveness != Liveness::Myself);
    for (id, liveness) in others {
        let before = known.get_mut(id);
        match (before.as_deref(), liveness) {
            (before, Liveness::Live) if before != Some(&Liveness::Live) => {
                changes.push(Change::Live(id.clone()));
            }
            (Some(Liveness::Live), Liveness::Dead) => changes.push(Change::Dead(id.clone())),
            (Some(Liveness::Live | Liveness::Dead), Liveness::Left) => {
                changes.push(Change::Left(id.clone()));
            }
            // A member counts as dead until its first heartbeats, but it has not died.
            (None, _) => changes.push(Change::Discovered(id.clone())),
            _ => {}
        }
        match before {
            Some(before) => *before = *liveness,
            None => {
                known.insert(id.clone(), *liveness);
            }
        }
    }
    known.retain(|id, _| {
        let place = now.binary_search_by(|(other, _)| other.cmp(id));
        let is_known =
            place.is_ok_and(|place| now.get(place).is_some_and(|(_, l)| *l != Liveness::Myself));
        if !is_known {
            changes.push(Change::Forgotten(id.clone()));
        }
        is_known
    });
    changes
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn each_change_of_a_member_is_reported_once() {
        let id = ChitchatId::new("a", 1, ([127, 0, 0, 1], 1).into());
        let mut known = BTreeMap::new();
        let mut step = |now: Option<Liveness>| {
            let now = now.map(|liveness| (id.clone(), liveness));
            changes(&mut known, &now.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(step(Some(Liveness::Dead)), [Change::Discovered(id.clone())]);
        assert_eq!(step(Some(Liveness::Live)), [Change::Live(id.clone())]);
        assert_eq!(step(Some(Liveness::Live)), []);
        assert_eq!(step(Some(Liveness::Dead)), [Change::Dead(id.clone())]);
        assert_eq!(step(Some(Liveness::Dead)), []);
        assert_eq!(step(Some(Liveness::Live)), [Change::Live(id.clone())]);
        assert_eq!(step(Some(Liveness::Left)), [Change::Left(id.clone())]);
        assert_eq!(step(Some(Liveness::Left)), []);
        assert_eq!(step(Some(Liveness::Live)), [Change::Live(id.clone())]);
        assert_eq!(step(None), [Change::Forgotten(id.clone())]);
        assert_eq!(step(None), []);
    }

    #[test]
    fn thousands_of_changes_are_logged_in_part() {
        let mut log = Log::default();
        let mut lines = |seconds| {
            let now = Duration::from_secs(seconds);
            (0..50_000).filter(|_| log.admit(now)).count()
        };
        assert_eq!([0, 1, 3, 1000].map(&mut lines), [1000, 10, 20, 1000]);
    }

    #[test]
    fn changes_that_are_not_logged_are_reported_now_and_then_and_all_of_them() {
        let mut log = Log::default();
        let (mut logged, mut reported, mut lines) = (0, 0, 0);
        // 50 in a second, after as many as are logged at once.
        for n in 0..4_000_u32 {
            let now = Duration::from_millis(20) * n.saturating_sub(BURST);
            let (is_admitted, report) = log.judge(now);
            logged += u64::from(is_admitted);
            lines += u32::from(report.is_some());
            match report {
                Some(Report::Skipped(skipped)) => reported += skipped,
                Some(Report::TooMany) => assert_eq!((lines, reported), (1, 0)),
                None => {}
            }
        }
        assert_eq!(logged + reported + log.skipped, 4_000);
        assert!((1_600..1_620).contains(&logged), "{logged}");
        assert!((5..=7).contains(&lines), "{lines}");
    }

    #[test]
    fn a_name_with_control_characters_is_logged_on_one_line() {
        #[derive(Clone, Default)]
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Log {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let name = "a\n2026-01-01T00:00:00Z  INFO forged\r\u{1b}[2K";
        let id = ChitchatId::new(name, 1, ([127, 0, 0, 1], 1).into());
        tracing::subscriber::with_default(subscriber, || {
            Change::Live(id.clone()).log();
            tracing::info!(?id, "all of it");
        });
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 2, "{log}");
        let text = log.replace('\n', "");
        assert!(!text.contains(char::is_control), "{log}");
    }
}
