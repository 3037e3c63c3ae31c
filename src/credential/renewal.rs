//! Renewing the invite of a leaf before it expires.
//!
//! Where a new invite comes from is the caller's business. Invariant: an invite is asked for at most once in
//! [`RETRY_AFTER`], whatever the answers and the clock are.

use std::future::Future;
use std::time::Duration;

use super::invite::Invite;
use super::trust::Trust;
use crate::rt::{self, unix_time};

/// The least time between two questions.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// The clock is looked at again after this time, since it can be set, and timers of a browser may be late.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Replaces the invite of `trust` by one that `renew` returns, each time before it expires: after four fifths of the
/// time that was left when it was received.
///
/// `renew` is called again after a while, of at least 10 s, if it fails, if its invite expires no later than the one
/// that is held, or if the held one has expired. Connections that are open stay so: see [`Trust::set_invite`]. Completes
/// when `trust` holds no invite any more, and may be dropped at any time.
pub async fn renew_invites<F, R>(trust: &Trust, mut renew: F)
where
    F: FnMut() -> R,
    R: Future<Output = anyhow::Result<Invite>>,
{
    while let Some(held) = trust.held_invite() {
        let is_held = || trust.held_invite().as_ref() == Some(&held);
        let expires = held.claims().expires_at();
        let due = renewal_due(unix_time(), expires);
        let mut left = due.saturating_sub(unix_time());
        while !left.is_zero() && is_held() {
            rt::sleep(left.min(LOOK_EVERY)).await;
            left = due.saturating_sub(unix_time());
        }
        if !is_held() {
            // Someone else has replaced it.
            continue;
        }
        match renew().await {
            Ok(invite) if invite.claims().expires_at() > expires => {
                let id = invite.claims().id();
                if trust.set_invite(invite).is_ok() {
                    let id = id.to_string();
                    tracing::info!(id, "the invite was renewed");
                }
            }
            Ok(_) => tracing::warn!("the new invite expires no later than the old one"),
            Err(error) => tracing::warn!("the invite was not renewed: {error:#}"),
        }
        rt::sleep(RETRY_AFTER).await;
    }
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
}
