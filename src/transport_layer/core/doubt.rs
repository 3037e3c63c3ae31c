//! Doubt whether the peer of a connection is still there, and the probe that resolves it.
//!
//! This file decides when to probe and what the answer means; `peer` and `link` carry it out.
//! Invariant: a connection in doubt is heard, or closed, soon after its probe. A first late check (this
//! process was frozen once more) closes nothing before what has arrived can be read.

use std::time::Duration;

use super::silence::{GRACE, LATE};
use crate::rt::Instant;

/// A peer that is not heard within this time after a probe is gone. A lost packet is sent again within a
/// second, and a mobile network takes about as long to come up.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// The doubt about one connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    #[default]
    None,
    /// The connection is to be probed.
    Raised,
    Probed {
        at: Instant,
        /// When the connection is closed unless the peer is heard.
        end: Instant,
        in_grace: bool,
    },
}

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DoubtVerdict {
    /// The peer is gone.
    Gone,
    /// Nothing is wrong. Check again at this time; `None` is never.
    CheckAgain(Option<Instant>),
}

impl Doubt {
    /// Has the connection probed, unless a probe is on its way.
    pub(super) fn raise(&mut self) {
        if *self == Self::None {
            *self = Self::Raised;
        }
    }

    /// Returns whether the connection is to be probed now, which the caller must do.
    pub(super) fn take_probe(&mut self, now: Instant) -> bool {
        let is_due = *self == Self::Raised;
        if is_due {
            *self = Self::Probed {
                at: now,
                end: now + ANSWER_TIME,
                in_grace: false,
            };
        }
        is_due
    }

    /// Checks whether the peer, which was last heard at `last_heard`, has answered.
    pub(super) fn check(&mut self, last_heard: Instant, now: Instant) -> DoubtVerdict {
        let Self::Probed { at, end, in_grace } = self else {
            return DoubtVerdict::CheckAgain(None);
        };
        if last_heard > *at {
            *self = Self::None;
            return DoubtVerdict::CheckAgain(None);
        }
        if now >= *end {
            if *in_grace || now.saturating_duration_since(*end) <= LATE {
                return DoubtVerdict::Gone;
            }
            (*end, *in_grace) = (now + GRACE, true);
        }
        DoubtVerdict::CheckAgain(Some(*end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_probed_once_and_anything_that_is_heard_ends_the_doubt() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut doubt = Doubt::default();
        assert!(!doubt.take_probe(start));
        doubt.raise();
        assert_eq!(doubt.check(start, start), DoubtVerdict::CheckAgain(None));
        assert!(doubt.take_probe(start) && !doubt.take_probe(start));
        doubt.raise();
        assert!(!doubt.take_probe(after(1)), "a probe is on its way");
        let end = DoubtVerdict::CheckAgain(Some(after(3000)));
        assert_eq!(doubt.check(start, after(2999)), end);
        assert_eq!(
            doubt.check(after(2), after(2999)),
            DoubtVerdict::CheckAgain(None)
        );
        assert_eq!(doubt, Doubt::None);
        doubt.raise();
        assert!(doubt.take_probe(after(4000)), "a doubt of its own");
    }

    #[test]
    fn a_peer_is_gone_only_if_the_check_was_on_time_or_the_grace_has_passed() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let probed = || {
            let mut doubt = Doubt::Raised;
            doubt.take_probe(start);
            doubt
        };
        assert_eq!(probed().check(start, after(3000)), DoubtVerdict::Gone);
        assert_eq!(probed().check(start, after(3500)), DoubtVerdict::Gone);
        let mut frozen = probed();
        let again = DoubtVerdict::CheckAgain(Some(after(62_000)));
        assert_eq!(frozen.check(start, after(60_000)), again);
        let mut heard = frozen;
        let heard = heard.check(after(60_001), after(62_000));
        assert_eq!(heard, DoubtVerdict::CheckAgain(None));
        assert_eq!(frozen.check(start, after(99_000)), DoubtVerdict::Gone);
    }
}
