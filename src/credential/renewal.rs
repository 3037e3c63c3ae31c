//! Renewing the invite of a leaf before it expires.
//!
//! Where a new invite comes from is the caller's business. Invariant: an invite is asked for at most once in
//! [`RETRY_AFTER`], whatever the answers and the clock are.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::future::select;

use super::invite::Invite;
use super::trust::Trust;
use crate::rt::{self, unix_time};

/// The least time between two questions.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// The most times that the time between two questions doubles, if each new invite is refused as expired.
const MAX_DOUBLINGS: u32 = 6;
/// The clock is looked at again after this time, since it can be set, and timers of a browser may be late.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Replaces the invite of `trust` by one that `renew` returns, each time before it expires: after four fifths of the
/// time that was left when it was received, by the clock of this side; or at once when a core member says that it has expired,
/// since the clock of its issuer may be ahead of this one.
///
/// `renew` is called again after a while, of at least 10 s, if it fails, if its invite expires no later than the one
/// that is held, or if the held one has expired; less and less often, if one after the other is refused. Connections that are open stay so: see [`Trust::set_invite`]. Completes
/// when `trust` holds no invite any more, and may be dropped at any time.
pub async fn renew_invites<F, R>(trust: &Trust, mut renew: F)
where
    F: FnMut() -> R,
    R: Future<Output = anyhow::Result<Invite>>,
{
    let mut refused_in_a_row = 0_u32;
    while let Some(held) = trust.held_invite() {
        let is_held = || trust.held_invite().as_ref() == Some(&held);
        let (id, expires) = (held.claims().id(), held.claims().expires_at());
        let due = renewal_due(unix_time(), expires);
        let is_refused = loop {
            let seen = trust.expirations();
            let left = due.saturating_sub(unix_time());
            let is_refused = trust.was_expired(id);
            if is_refused || left.is_zero() || !is_held() {
                break is_refused;
            }
            let pause = pin!(rt::sleep(left.min(LOOK_EVERY)));
            select(pause, pin!(trust.expired_since(seen))).await;
        };
        if !is_held() {
            // Someone else has replaced it.
            continue;
        }
        refused_in_a_row = match is_refused {
            true => refused_in_a_row.saturating_add(1),
            false => 0,
        };
        match renew().await {
            // If this one was refused, its time says nothing.
            Ok(invite) if is_refused || invite.claims().expires_at() > expires => {
                let id = invite.claims().id();
                if trust.set_invite(invite).is_ok() {
                    let id = id.to_string();
                    tracing::info!(id, "the invite was renewed");
                }
            }
            Ok(_) => tracing::warn!("the new invite expires no later than the old one"),
            Err(error) => tracing::warn!("the invite was not renewed: {error:#}"),
        }
        rt::sleep(pause_after(refused_in_a_row)).await;
    }
}

/// Returns the time between two questions after so many invites in a row were refused as expired.
fn pause_after(refused_in_a_row: u32) -> Duration {
    let doublings = refused_in_a_row.saturating_sub(1).min(MAX_DOUBLINGS);
    RETRY_AFTER * (1 << doublings)
}

/// Returns when an invite that was received at `now` is to be renewed: when a fifth of its time is left.
fn renewal_due(now: Duration, expires: Duration) -> Duration {
    let left = expires.saturating_sub(now);
    now.saturating_add(left / 5 * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let pauses = [0, 1, 2, 3, 7, 8, u32::MAX].map(|refused| pause_after(refused).as_secs());
        assert_eq!(pauses, [10, 10, 20, 40, 640, 640, 640]);
    }
}
