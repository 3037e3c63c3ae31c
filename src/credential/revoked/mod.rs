//! The invites that have been revoked.
//!
//! An id is kept until its invite has expired everywhere, and for a day longer, since a clock that was ahead may be set
//! back. Invariant: there are at most
//! [`MAX_REVOKED`], and none of them expires later than an invite can.

mod error;

use std::time::Duration;

use super::invite::InviteId;
pub use error::RevokeError;

/// The largest number of revoked invites. More of them say that the secret should be replaced.
pub(super) const MAX_REVOKED: usize = 4096;

/// How long an id is kept after its invite has expired, unless its place is needed.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// The ids of revoked invites, sorted, and so in the order in which they expire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Revoked(Vec<InviteId>);

impl Revoked {
    /// Adds an id. Returns false if it is there already, or its invite has expired: then it is kept if there is room
    /// and it has expired lately, for the case that the clock is ahead. `now` is the time since 1970-01-01 UTC.
    pub(super) fn add(&mut self, id: InviteId, now: Duration) -> Result<bool, RevokeError> {
        if id.is_too_far_ahead(now) {
            return Err(RevokeError::TooFarAhead { id });
        }
        self.forget_expired(now.saturating_sub(KEPT_FOR));
        let Err(place) = self.0.binary_search(&id) else {
            return Ok(false);
        };
        if id.is_expired(now) {
            let is_kept = !id.is_expired(now.saturating_sub(KEPT_FOR));
            if is_kept && self.0.len() < MAX_REVOKED {
                self.0.insert(place, id);
            }
            return Ok(false);
        }
        let known = self.0.len();
        if self.0.len() >= MAX_REVOKED {
            self.forget_expired(now);
        }
        if self.0.len() >= MAX_REVOKED {
            return Err(RevokeError::TooMany { max: MAX_REVOKED });
        }
        let place = place.saturating_sub(known.saturating_sub(self.0.len()));
        self.0.insert(place, id);
        Ok(true)
    }

    fn forget_expired(&mut self, now: Duration) {
        let expired = self.0.partition_point(|known| known.is_expired(now));
        self.0.drain(..expired);
    }

    pub(super) fn contains(&self, id: InviteId) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    /// Returns the ids in the order in which their invites expire, without those that have.
    pub(super) fn ids(&self, now: Duration) -> impl Iterator<Item = InviteId> {
        let ids = self.0.iter().copied();
        ids.skip_while(move |id| id.is_expired(now))
    }

    /// Returns all ids that are kept, in the order in which their invites expire.
    pub(super) fn kept(&self) -> &[InviteId] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn id(lifetime: Duration) -> InviteId {
        InviteId::generate(NOW, lifetime).unwrap()
    }

    #[test]
    fn an_id_is_kept_until_its_invite_has_expired_with_the_skew_allowed() {
        let mut revoked = Revoked::default();
        let (soon, later) = (id(HOUR), id(2 * HOUR));
        assert_eq!(revoked.add(later, NOW), Ok(true));
        assert_eq!(revoked.add(soon, NOW), Ok(true));
        assert_eq!(revoked.add(soon, NOW), Ok(false));
        assert!(revoked.contains(soon) && revoked.contains(later));
        assert!(revoked.ids(NOW).eq([soon, later]));
        let last = NOW + HOUR + InviteId::CLOCK_SKEW - Duration::from_secs(1);
        assert!(revoked.ids(last).eq([soon, later]));
        let after = last + Duration::from_secs(1);
        assert!(revoked.ids(after).eq([later]));
        // If the clock was ahead, and is set back, it is still there.
        assert_eq!(revoked.add(later, after), Ok(false));
        assert!(revoked.ids(NOW).eq([soon, later]));
        assert_eq!(revoked.add(later, after + KEPT_FOR), Ok(false));
        assert!(!revoked.contains(soon));
    }

    #[test]
    fn an_id_that_is_read_while_the_clock_is_ahead_counts_once_it_is_set_back() {
        let mut revoked = Revoked::default();
        let id = id(HOUR);
        let end = NOW + HOUR + InviteId::CLOCK_SKEW;
        assert_eq!(revoked.add(id, end + KEPT_FOR), Ok(false));
        assert_eq!(revoked.kept(), []);
        let ahead = end + KEPT_FOR - Duration::from_secs(1);
        for _ in 0..2 {
            assert_eq!(revoked.add(id, ahead), Ok(false));
            assert_eq!(revoked.kept(), [id]);
        }
        assert_eq!(revoked.ids(ahead).next(), None);
        assert!(revoked.ids(NOW).eq([id]));
        // It takes no place from one that has not expired, nor one beyond the limit.
        let mut full = Revoked::default();
        for _ in 0..MAX_REVOKED {
            assert_eq!(full.add(self::id(3 * HOUR), NOW), Ok(true));
        }
        assert_eq!(full.add(id, end), Ok(false));
        assert_eq!(full.kept().len(), MAX_REVOKED);
        assert!(!full.contains(id));
    }

    #[test]
    fn as_many_as_the_limit_are_kept_and_those_that_have_expired_make_room() {
        let mut revoked = Revoked::default();
        for n in 0..MAX_REVOKED {
            let lifetime = if n == 0 { HOUR } else { 2 * HOUR };
            assert_eq!(revoked.add(id(lifetime), NOW), Ok(true));
        }
        let max = MAX_REVOKED;
        let more = id(2 * HOUR);
        assert_eq!(revoked.add(more, NOW), Err(RevokeError::TooMany { max }));
        let after = NOW + HOUR + InviteId::CLOCK_SKEW;
        assert_eq!(revoked.add(more, after), Ok(true));
        let another = id(2 * HOUR);
        assert_eq!(
            revoked.add(another, after),
            Err(RevokeError::TooMany { max })
        );
    }

    #[test]
    fn an_id_for_which_others_make_room_is_found_and_all_stay_in_order() {
        let mut revoked = Revoked::default();
        for n in 0..MAX_REVOKED {
            let lifetime = if n < 2 { HOUR } else { 3 * HOUR };
            assert_eq!(revoked.add(id(lifetime), NOW), Ok(true));
        }
        let after = NOW + HOUR + InviteId::CLOCK_SKEW;
        // It would be the third one if those that have expired were still there.
        let more = id(2 * HOUR);
        assert_eq!(revoked.add(more, after), Ok(true));
        assert!(revoked.contains(more));
        assert!(revoked.kept().is_sorted());
    }

    #[test]
    fn an_id_that_no_invite_has_by_now_is_refused() {
        let mut revoked = Revoked::default();
        let latest = InviteId::MAX_LIFETIME;
        let skewed = NOW - InviteId::CLOCK_SKEW;
        let id = InviteId::generate(NOW, latest).unwrap();
        assert_eq!(revoked.add(id, skewed), Ok(true));
        let earlier = skewed - Duration::from_secs(1);
        let refused = Err(RevokeError::TooFarAhead { id });
        assert_eq!(Revoked::default().add(id, earlier), refused);
    }
}
