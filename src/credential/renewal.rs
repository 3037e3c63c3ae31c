//! Renewing the invite of a leaf before it expires.
//!
//! Where a new invite comes from is the caller's business. Invariant: an invite is asked for at most once in
//! [`RETRY_AFTER`], whatever the answers and the clock are.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::future::select;

use super::invite::{Invite, InviteId};
use super::trust::Trust;
use crate::rt::{self, Instant, unix_time};

/// The least time between two questions.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// The most times that the time between two questions doubles, if each new invite is refused as expired.
const MAX_DOUBLINGS: u32 = 6;
/// The clock is looked at again after this time, since it can be set, and timers of a browser may be late.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// An invite that is refused within this time after it was received suggests that the next one will be, too.
const SOON: Duration = Duration::from_secs(60);

/// Replaces the invite of `trust` by one that `renew` returns, each time before it expires: after four fifths of the
/// time that was left when it was received, by the clock of this side; or at once when a core member says that it has expired,
/// since the clock of its issuer may be ahead of this one.
///
/// `renew` is called again after a while, of at least 10 s, if it fails, if its invite expires no later than the one
/// that is held, or if the held one has expired: 10 s after a failure, if the held one was refused. It is called less and
/// less often, up to every 640 s, if new invites are refused one after the other, each within a minute; but never later than
/// the invite that is held is to be renewed. Connections that are open stay so: see [`Trust::set_invite`]. Completes
/// when `trust` holds no invite any more, and may be dropped at any time.
pub async fn renew_invites<F, R>(trust: &Trust, mut renew: F)
where
    F: FnMut() -> R,
    R: Future<Output = anyhow::Result<Invite>>,
{
    let mut refusals = Refusals::default();
    // The invite that is held, and since when.
    let mut known: Option<(InviteId, Instant)> = None;
    let mut not_before = Instant::now();
    while let Some(held) = trust.held_invite() {
        let is_held = || trust.held_invite().as_ref() == Some(&held);
        let (id, expires) = (held.claims().id(), held.claims().expires_at());
        let same = known.filter(|(known, _)| *known == id);
        let (_, since) = *known.insert(same.unwrap_or_else(|| (id, Instant::now())));
        let due = renewal_due(unix_time(), expires);
        loop {
            let seen = trust.expirations();
            let left = due.saturating_sub(unix_time());
            if trust.was_expired(id) || left.is_zero() || !is_held() {
                break;
            }
            let pause = pin!(rt::sleep(left.min(LOOK_EVERY)));
            select(pause, pin!(trust.expired_since(seen))).await;
        }
        let held_for = since.elapsed();
        if is_held() {
            rt::sleep(not_before.saturating_duration_since(Instant::now())).await;
        }
        if !is_held() {
            // Someone else has replaced it.
            continue;
        }
        // It may have been refused during the pause only.
        let is_refused = trust.was_expired(id);
        if is_refused {
            refusals.note(id, held_for);
        } else {
            refusals = Refusals::default();
        }
        let mut pause = RETRY_AFTER;
        match renew().await {
            // If this one was refused, its time says nothing.
            Ok(invite) if is_refused || invite.claims().expires_at() > expires => {
                let (id, expires) = (invite.claims().id(), invite.claims().expires_at());
                if trust.set_invite(invite).is_ok() {
                    pause = pause_after(refusals.in_a_row, unix_time(), expires);
                    let id = id.to_string();
                    tracing::info!(id, "the invite was renewed");
                }
            }
            Ok(_) => tracing::warn!("the new invite expires no later than the old one"),
            Err(error) => tracing::warn!("the invite was not renewed: {error:#}"),
        }
        not_before = Instant::now() + pause;
    }
}

/// The invites that were refused as expired one after the other.
#[derive(Debug, Default)]
struct Refusals {
    in_a_row: u32,
    last: Option<InviteId>,
}

impl Refusals {
    /// Notes that this invite was refused when it had been held for `held_for`. The same one may be noted again, while there
    /// is no other one.
    fn note(&mut self, id: InviteId, held_for: Duration) {
        if self.last == Some(id) {
            return;
        }
        self.last = Some(id);
        let before = if held_for <= SOON { self.in_a_row } else { 0 };
        self.in_a_row = before.saturating_add(1);
    }
}

/// Returns the least time between a question, after so many invites in a row were refused as expired, and the next one, if the
/// answer came at `now` and is valid until `expires`.
fn pause_after(refused_in_a_row: u32, now: Duration, expires: Duration) -> Duration {
    let doublings = refused_in_a_row.saturating_sub(1).min(MAX_DOUBLINGS);
    let pause = RETRY_AFTER * (1 << doublings);
    let left = renewal_due(now, expires).saturating_sub(now);
    pause.min(left).max(RETRY_AFTER)
}

/// Returns when an invite that was received at `now` is to be renewed: when a fifth of its time is left.
fn renewal_due(now: Duration, expires: Duration) -> Duration {
    let left = expires.saturating_sub(now);
    now.saturating_add(left / 5 * 4)
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::credential::{Claims, ClusterSecret};

    #[test]
    fn an_invite_is_renewed_when_a_fifth_of_its_time_is_left() {
        let secs = Duration::from_secs;
        assert_eq!(renewal_due(secs(100), secs(150)), secs(140));
        assert_eq!(renewal_due(secs(100), secs(100)), secs(100));
        assert_eq!(renewal_due(secs(100), secs(50)), secs(100));
        assert_eq!(
            renewal_due(secs(1), Duration::MAX),
            secs(1) + (Duration::MAX - secs(1)) / 5 * 4
        );
    }

    #[test]
    fn invites_that_are_refused_one_after_the_other_are_asked_for_less_and_less_often() {
        let (now, expires) = (Duration::from_secs(100), Duration::from_secs(10_000));
        let pause = |refused| pause_after(refused, now, expires).as_secs();
        let pauses = [0, 1, 2, 3, 7, 8, u32::MAX].map(pause);
        assert_eq!(pauses, [10, 10, 20, 40, 640, 640, 640]);
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn invite(secret: &ClusterSecret, lifetime: Duration) -> Invite {
        let id = InviteId::generate(unix_time(), lifetime).unwrap();
        Invite::issue(secret, Claims::new(id), "cluster".to_owned(), Vec::new()).unwrap()
    }

    /// Returns the seconds between the first questions of one whose invites, which are valid for `lifetime`, are refused
    /// after they were held for `held_for`. Of the questions, those in `failing` fail.
    async fn gaps(lifetime: Duration, held_for: Duration, failing: Range<usize>) -> Vec<u64> {
        let secret = ClusterSecret::generate();
        let trust = Trust::invite(invite(&secret, lifetime));
        let mut asked = Vec::new();
        let renewing = renew_invites(&trust, || {
            let fails = failing.contains(&asked.len());
            asked.push(Instant::now());
            let renewed = (!fails).then(|| invite(&secret, lifetime));
            async move { renewed.ok_or_else(|| anyhow::anyhow!("not now")) }
        });
        let refusing = async {
            for _ in 0.. {
                let seen = trust.changes();
                rt::sleep(held_for).await;
                trust.note_expired(trust.held_invite().unwrap().claims().id());
                trust.changed_since(seen).await;
            }
        };
        let both = futures::future::join(renewing, refusing);
        let _ = tokio::time::timeout(HOUR, both).await;
        let gaps = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_secs());
        gaps.take(9).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_a_refused_invite_is_asked_for_every_ten_seconds() {
        let held_for = Duration::from_secs(1);
        let gaps = gaps(2 * HOUR, held_for, 0..6).await;
        // From then on others are refused.
        assert_eq!(gaps, [10, 10, 10, 10, 10, 10, 10, 20, 40]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_invite_that_is_refused_when_it_was_held_for_minutes_is_renewed_at_once() {
        let held_for = Duration::from_secs(300);
        let gaps = gaps(2 * HOUR, held_for, 0..0).await;
        assert_eq!(gaps, [300; 9]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_ends_when_the_new_invite_is_to_be_renewed() {
        let held_for = Duration::from_secs(1);
        let gaps = gaps(Duration::from_secs(250), held_for, 0..0).await;
        let expected = [10, 20, 40, 80, 160, 200, 200, 200, 200];
        // The invites have less than their lifetime left by some milliseconds.
        let is_near = |(gap, expected): (&u64, u64)| *gap == expected || *gap + 1 == expected;
        assert!(gaps.iter().zip(expected).all(is_near), "{gaps:?}");
        assert_eq!(gaps.len(), expected.len());
    }
}
