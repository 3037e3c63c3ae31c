//! Two connections of one peer at the same time, of which one will stay.
//!
//! The older one is probed. What happens to the two depends on the answer, and on why there are two:
//! see [`Kind`]. This file decides when to ask and what an answer means; `peers` carries it out.
//! Invariant: a conflict in which one is probed is settled within [`PROBE_TIME`] of its probe.

use std::time::Duration;

use crate::rt::Instant;

/// A peer that does not answer a probe within this time has lost its connection.
const PROBE_TIME: Duration = Duration::from_secs(1);
/// The time after a probe at which its answer is looked for first. It doubles with each look.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// The longest time between two looks.
const LONGEST_LOOK: Duration = Duration::from_millis(100);

/// Why a peer has two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Both were dialled by the same side, or they state different addresses. The newer one waits. If the older
    /// one answers, it stays: another program uses the same key, or this side has dialled one peer by two
    /// addresses.
    Duplicate,
    /// The sides have dialled each other, and the older one stays if it answers. The newer one is read
    /// until then.
    KeepOlder,
    /// The sides have dialled each other, and the newer one stays. So that messages arrive in order,
    /// nothing is written to it until the peer has received what was written to the older one, and it is
    /// not read until the older one has answered or ended.
    KeepNewer,
    /// This side has dialled both, the newer one with another secret. The newer one takes the place of the older
    /// one once the peer has said goodbye there. Nothing is probed.
    Renewal,
}

/// Two connections of one peer of which one will stay.
#[derive(Debug)]
pub(super) struct Conflict {
    pub(super) kind: Kind,
    pub(super) older: u64,
    pub(super) newer: u64,
    probed: Option<Instant>,
    look_after: Duration,
}

/// Next step of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConflictStep {
    /// Probe the older connection.
    Probe,
    /// Look again at this time.
    LookAgain(Instant),
    /// The conflict is settled: whether the older connection has answered.
    Settled { answered: bool },
}

impl Conflict {
    pub(super) fn new(kind: Kind, older: u64, newer: u64) -> Self {
        Self {
            kind,
            older,
            newer,
            probed: None,
            look_after: FIRST_LOOK,
        }
    }

    /// Decides what to do next. `last_answer` is when the older connection last answered a probe, and
    /// `last_heard` when anything was last received on it.
    pub(super) fn next(
        &mut self,
        last_answer: Option<Instant>,
        last_heard: Instant,
        now: Instant,
    ) -> ConflictStep {
        let Some(probed) = self.probed else {
            self.probed = Some(now);
            return ConflictStep::Probe;
        };
        // Only an answer says that earlier messages have been received; anything says that the peer
        // is alive.
        let heard = self.kind != Kind::KeepNewer && last_heard > probed;
        if heard || last_answer.is_some_and(|at| at >= probed) {
            return ConflictStep::Settled { answered: true };
        }
        let end = probed + PROBE_TIME;
        if now >= end {
            return ConflictStep::Settled { answered: false };
        }
        let look = end.min(now + self.look_after);
        self.look_after = (self.look_after * 2).min(LONGEST_LOOK);
        ConflictStep::LookAgain(look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_sent_once_and_its_answer_settles_the_conflict() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        for (kind, heard_is_enough) in [
            (Kind::Duplicate, true),
            (Kind::KeepOlder, true),
            (Kind::KeepNewer, false),
        ] {
            let mut conflict = Conflict::new(kind, 1, 2);
            assert_eq!(conflict.next(None, start, start), ConflictStep::Probe);
            for (now, look) in [(0, 1), (1, 3), (3, 7), (900, 908)] {
                let next = conflict.next(None, start, after(now));
                assert_eq!(next, ConflictStep::LookAgain(after(look)), "{now}");
            }
            let heard = conflict.next(None, after(901), after(901));
            assert_eq!(
                heard == ConflictStep::Settled { answered: true },
                heard_is_enough
            );
            let answered = conflict.next(Some(after(901)), after(901), after(902));
            assert_eq!(answered, ConflictStep::Settled { answered: true });
            let silent = conflict.next(None, start, after(1000));
            assert_eq!(silent, ConflictStep::Settled { answered: false });
        }
    }
}
