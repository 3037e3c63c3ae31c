//! When a certificate is ordered, renewed, and tried again.
//!
//! Plain values: times are since 1970-01-01 UTC, and chance is an argument, a fraction from 0 to 1. Invariant: whatever an
//! authority answers, there is a pause between two orders, and a renewal is due before the certificate has expired.

use std::time::Duration;

/// The longest wait for which an authority can ask: the longest window of the limits of public authorities is a week.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// The shortest and the longest time between two questions for the window of renewal (RFC 9773, section 4.3.2).
const WINDOW_ASKED: (Duration, Duration) =
    (Duration::from_secs(60), Duration::from_secs(24 * 3600));
/// The doublings of a pause after which it stays the same, whatever its limit is.
const MAX_DOUBLINGS: u32 = 20;

/// The time for which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) from: Duration,
    pub(super) until: Duration,
}

/// The time in which the authority wants a certificate to be renewed (ARI, RFC 9773).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: Duration,
    pub(super) end: Duration,
}

/// What a failure says about the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The order has not reached the authority, so an attempt costs nobody anything.
    Unreached,
    /// The authority has worked on it, and counts it.
    Refused,
    /// The authority limits its clients.
    Limited,
}

/// Returns when a certificate is renewed.
///
/// That is at a random time of the window, if the authority has one that leaves room for failures (9/10 of the lifetime), and
/// else at two thirds of the lifetime, or up to a thirtieth of it earlier, so that the certificates of many nodes are not
/// renewed at once.
pub(super) fn renewal(lifetime: Lifetime, window: Option<Window>, chance: f64) -> Duration {
    let Lifetime { from, until } = lifetime;
    let whole = until.saturating_sub(from);
    if let Some(Window { start, end }) = window
        && let Some(len) = end.checked_sub(start)
    {
        return (start + len.mul_f64(fraction(chance))).min(from + whole * 9 / 10);
    }
    from + whole * 2 / 3 - whole.mul_f64(fraction(chance)) / 30
}

/// Returns the wait after `failures` failures in a row, of which the last one was of `class`. The authority has asked to wait
/// for `asked`, if it has.
///
/// `retry` is the wait after the first order that was refused. It doubles up to 72 times itself. Waits for an authority that
/// is not reached begin at a thirtieth and end at 12 times of it, since nobody counts them. An authority that limits its
/// clients is left alone for 12 times of it at least. Up to a quarter is added by chance. No wait is shorter than the authority asks, up
/// to a week; by chance, `retry` is added to that at most, or as much again.
pub(super) fn pause(
    class: Class,
    asked: Option<Duration>,
    failures: u32,
    retry: Duration,
    chance: f64,
) -> Duration {
    let doublings = failures.saturating_sub(1).min(MAX_DOUBLINGS);
    let doubled = |first: Duration, most: Duration| first.saturating_mul(1 << doublings).min(most);
    let (hour, most) = (retry * 12, retry * 72);
    let pause = match class {
        Class::Unreached => doubled(retry / 30, hour),
        Class::Refused => doubled(retry, most),
        Class::Limited => doubled(hour, most),
    };
    let asked = asked.unwrap_or_default().min(MAX_RETRY_AFTER);
    let pause = pause + pause.mul_f64(fraction(chance)) / 4;
    pause.max(asked + asked.min(retry).mul_f64(fraction(chance)))
}

/// Returns the wait until the window is asked for again, if the authority wants `asked`.
pub(super) fn window_asked_after(asked: Duration) -> Duration {
    asked.clamp(WINDOW_ASKED.0, WINDOW_ASKED.1)
}

/// Returns when the next order may begin: not before `not_before`, which an earlier process may have written, unless that is
/// so far away that the clock was wrong.
pub(super) fn due(renewal: Option<Duration>, not_before: Duration, now: Duration) -> Duration {
    // The longest wait, and the quarter by chance.
    let is_plausible = not_before <= now + MAX_RETRY_AFTER * 5 / 4;
    let not_before = if is_plausible { not_before } else { now };
    renewal.unwrap_or_default().max(not_before)
}

/// Returns whether a certificate has been good enough that the orders before it do not count any more: if the last one was
/// begun a third of its lifetime ago.
pub(super) fn has_lasted(lifetime: Lifetime, begun: Duration, now: Duration) -> bool {
    let whole = lifetime.until.saturating_sub(lifetime.from);
    now.checked_sub(begun).is_some_and(|ago| ago >= whole / 3)
}

fn fraction(chance: f64) -> f64 {
    if chance.is_finite() {
        chance.clamp(0.0, 1.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn days(days: f64) -> Duration {
        Duration::from_secs_f64(days * DAY as f64)
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_lifetime_or_when_the_authority_wants() {
        let lifetime = |len: f64| Lifetime {
            from: days(100.0),
            until: days(100.0 + len),
        };
        let window = |start: f64, end: f64| {
            let (start, end) = (days(100.0 + start), days(100.0 + end));
            Some(Window { start, end })
        };
        for (len, window, chance, expected) in [
            (90.0, None, 0.0, 60.0),
            (90.0, None, 1.0, 57.0),
            (6.0, None, 0.0, 4.0),
            (6.0, None, 0.5, 3.9),
            (0.0, None, 1.0, 0.0),
            (90.0, window(58.0, 62.0), 0.0, 58.0),
            (90.0, window(58.0, 62.0), 0.25, 59.0),
            // It was revoked, or is about to be.
            (90.0, window(-3.0, -2.0), 0.5, -2.5),
            // There must be room for failures.
            (90.0, window(85.0, 89.0), 0.5, 81.0),
            (90.0, window(400.0, 500.0), 0.0, 81.0),
            // Not a window.
            (90.0, window(62.0, 58.0), 0.0, 60.0),
            (90.0, None, f64::NAN, 60.0),
        ] {
            let renewal = renewal(lifetime(len), window, chance);
            let error = renewal.abs_diff(days(100.0 + expected));
            assert!(
                error < Duration::from_secs(1),
                "{len} {window:?} {renewal:?}"
            );
        }
        // From a clock that was never set.
        let broken = Lifetime {
            from: days(2.0),
            until: days(1.0),
        };
        assert_eq!(renewal(broken, None, 1.0), days(2.0));
    }

    #[test]
    fn pauses_grow_up_to_a_limit_and_are_no_shorter_than_the_authority_asks() {
        use Class::{Limited, Refused, Unreached};
        const RETRY: Duration = Duration::from_secs(300);
        for (class, asked, failures, chance, expected) in [
            (Unreached, None, 1, 0.0, 10),
            (Unreached, None, 2, 0.0, 20),
            (Unreached, None, 20, 0.0, 3600),
            (Refused, None, 0, 0.0, 300),
            (Refused, None, 1, 0.0, 300),
            (Refused, None, 1, 1.0, 375),
            (Refused, None, 2, 0.0, 600),
            (Refused, None, 3, 0.0, 1200),
            (Refused, None, 8, 0.0, 21_600),
            (Refused, None, u32::MAX, 0.0, 21_600),
            (Limited, None, 1, 0.0, 3600),
            (Limited, None, 9, 0.0, 21_600),
            (Limited, Some(1), 1, 0.0, 3600),
            (Limited, Some(100_000), 1, 0.0, 100_000),
            (Limited, Some(100_000), 1, 1.0, 100_300),
            (Limited, Some(u64::MAX), 1, 0.0, 7 * DAY),
            // One that is away for a moment.
            (Unreached, Some(5), 1, 0.0, 10),
            (Unreached, Some(60), 1, 0.0, 60),
            (Unreached, Some(60), 1, 1.0, 120),
            (Refused, Some(600), 1, 0.0, 600),
        ] {
            let asked = asked.map(Duration::from_secs);
            let pause = pause(class, asked, failures, RETRY, chance);
            assert_eq!(pause.as_secs(), expected, "{class:?} {asked:?} {failures}");
        }
    }

    #[test]
    fn an_order_waits_for_what_was_written_before_unless_the_clock_was_wrong() {
        let now = days(1000.0);
        for (renewal, not_before, expected) in [
            (None, 0.0, 0.0),
            (None, 1001.0, 1001.0),
            (Some(1060.0), 1001.0, 1060.0),
            (Some(990.0), 1001.0, 1001.0),
            (None, 1008.0, 1008.0),
            (None, 1009.0, 1000.0),
            (Some(1060.0), 9999.0, 1060.0),
        ] {
            let due = due(renewal.map(days), days(not_before), now);
            assert_eq!(due, days(expected), "{renewal:?} {not_before}");
        }
    }

    #[test]
    fn a_certificate_that_is_replaced_at_once_has_not_lasted() {
        let lifetime = Lifetime {
            from: days(100.0),
            until: days(190.0),
        };
        let has_lasted = |begun, now| has_lasted(lifetime, days(begun), days(now));
        assert!(!has_lasted(100.0, 100.0));
        assert!(!has_lasted(100.0, 129.9));
        assert!(has_lasted(100.0, 130.0));
        // The clock was set back.
        assert!(!has_lasted(131.0, 130.0));
    }

    #[test]
    fn the_window_is_asked_for_once_a_minute_at_most_and_once_a_day_at_least() {
        let after = |secs| window_asked_after(Duration::from_secs(secs)).as_secs();
        assert_eq!(
            [0, 59, 6 * 3600, 1 << 40].map(after),
            [60, 60, 6 * 3600, DAY]
        );
    }
}
