//! The id of an invite, which begins with the time at which the invite expires.
//!
//! A revocation names an id and nothing else, so the id alone says how long the revocation matters. Invariant: ids
//! are ordered by the time at which they expire.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::error::IssueError;
use crate::credential::base32;
use crate::credential::error::CredentialError;
use crate::credential::random::random_32;

/// The id of an invite: the second in which it expires, then 64 random bits. Printed as 26 characters of lower-case
/// base32. It is public.
///
/// All times are since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InviteId([u8; Self::LEN]);

impl InviteId {
    /// Length of an id, in bytes.
    pub(super) const LEN: usize = 16;
    /// Length of the printed form, in bytes.
    pub(crate) const TEXT_LEN: usize = (Self::LEN * 8).div_ceil(5);
    /// The longest time for which an invite is valid. Revocations are kept for as long.
    pub const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
    /// The shortest time for which an invite is valid: times in ids are whole seconds.
    const MIN_LIFETIME: Duration = Duration::from_secs(1);
    /// The difference between the clocks of two members that is allowed for.
    pub const CLOCK_SKEW: Duration = Duration::from_secs(2 * 60);

    /// Returns a new id, which expires `lifetime` after `now`, rounded down to a second.
    ///
    /// # Errors
    ///
    /// Fails if `lifetime` is shorter than a second or longer than 30 days.
    ///
    /// # Panics
    ///
    /// Panics if the system has no source of randomness.
    pub fn generate(now: Duration, lifetime: Duration) -> Result<Self, IssueError> {
        if !(Self::MIN_LIFETIME..=Self::MAX_LIFETIME).contains(&lifetime) {
            return Err(IssueError::Lifetime {
                lifetime,
                max: Self::MAX_LIFETIME,
            });
        }
        let expires = now.saturating_add(lifetime).as_secs();
        let mut id = *random_32().first_chunk().unwrap_or(&[0; Self::LEN]);
        for (byte, time) in id.iter_mut().zip(expires.to_be_bytes()) {
            *byte = time;
        }
        Ok(Self(id))
    }

    /// Returns the time at which the invite expires.
    pub fn expires_at(&self) -> Duration {
        let seconds = self.0.first_chunk().copied().map_or(0, u64::from_be_bytes);
        Duration::from_secs(seconds)
    }

    /// Returns whether the invite has expired. It is accepted for two minutes longer than it says, since the clock
    /// of this machine may be ahead of its issuer's.
    pub fn is_expired(&self, now: Duration) -> bool {
        now >= self.expires_at().saturating_add(Self::CLOCK_SKEW)
    }

    /// Returns whether the invite expires later than any that was issued by now. No member issues such an invite
    /// unless its clock is wrong by more than two minutes, and its revocation would have to be kept for too long.
    pub fn is_too_far_ahead(&self, now: Duration) -> bool {
        let latest = now.saturating_add(Self::MAX_LIFETIME);
        self.expires_at() > latest.saturating_add(Self::CLOCK_SKEW)
    }

    /// Returns a byte that is random, and by which ids can be spread over places.
    pub(crate) fn random_byte(&self) -> u8 {
        self.0.last().copied().unwrap_or_default()
    }

    pub(super) fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for InviteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32::encode(&self.0))
    }
}

impl fmt::Debug for InviteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InviteId({self})")
    }
}

impl FromStr for InviteId {
    type Err = CredentialError;
    /// Parses the form that [`Display`](fmt::Display) prints.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = base32::decode_after(text, "");
        let bytes = bytes.and_then(|bytes| bytes.as_slice().try_into().ok());
        bytes.map(Self).ok_or(CredentialError::Malformed {
            what: "the id of an invite",
            expected: "26 characters of base32 (a-z, 2-7)",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_millis(1_800_000_000_900);
    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);
    const MONTH: Duration = Duration::from_secs(2_592_000);
    const SKEW: Duration = Duration::from_secs(120);

    #[test]
    fn an_id_has_a_lifetime_of_a_second_to_thirty_days() {
        for lifetime in [SECOND, HOUR, MONTH] {
            let id = InviteId::generate(NOW, lifetime).unwrap();
            let expires = Duration::from_secs((NOW + lifetime).as_secs());
            assert_eq!(id.expires_at(), expires);
            assert!(!id.is_expired(NOW) && !id.is_too_far_ahead(NOW));
        }
        let nano = Duration::from_nanos(1);
        for lifetime in [Duration::ZERO, SECOND - nano, MONTH + nano, Duration::MAX] {
            let refused = InviteId::generate(NOW, lifetime).unwrap_err();
            let max = MONTH;
            assert_eq!(refused, IssueError::Lifetime { lifetime, max });
            assert!(refused.to_string().ends_with("1 s to 2592000 s"));
        }
    }

    #[test]
    fn two_minutes_of_clock_skew_are_allowed_in_both_directions() {
        let id = InviteId::generate(NOW, HOUR).unwrap();
        let end = id.expires_at() + SKEW;
        assert!(!id.is_expired(end - Duration::from_nanos(1)));
        assert!(id.is_expired(end) && id.is_expired(Duration::MAX));

        let id = InviteId::generate(NOW, MONTH).unwrap();
        let issued = id.expires_at() - MONTH;
        assert!(!id.is_too_far_ahead(issued - SKEW));
        assert!(id.is_too_far_ahead(issued - SKEW - Duration::from_nanos(1)));
        assert!(!id.is_too_far_ahead(Duration::MAX));
    }

    #[test]
    fn times_that_no_clock_shows_do_not_overflow() {
        let last = InviteId::from_bytes([0xFF; 16]);
        assert_eq!(last.expires_at(), Duration::from_secs(u64::MAX));
        assert!(!last.is_expired(NOW) && last.is_too_far_ahead(NOW));
        let first = InviteId::from_bytes([0; 16]);
        assert!(first.is_expired(NOW) && !first.is_too_far_ahead(Duration::ZERO));
        assert!(!first.is_expired(Duration::ZERO));
        assert!(InviteId::generate(Duration::MAX, HOUR).is_ok());
    }

    #[test]
    fn ids_that_are_made_at_the_same_time_differ() {
        let [a, b] = [(); 2].map(|()| InviteId::generate(NOW, HOUR).unwrap());
        assert_eq!(a.expires_at(), b.expires_at());
        assert_ne!(a, b);
    }

    #[test]
    fn an_id_is_the_time_in_big_endian_and_random_bytes_in_base32() {
        // base64.b32encode((1_800_003_600).to_bytes(8, "big") + bytes(8 * [7])).decode().lower().rstrip("=")
        let mut bytes = [7; 16];
        bytes[..8].copy_from_slice(&1_800_003_600_u64.to_be_bytes());
        let id = InviteId::from_bytes(bytes);
        assert_eq!(id.to_string(), "aaaaaadljhqbabyha4dqobyha4");
        assert_eq!(id.expires_at(), Duration::from_secs(1_800_003_600));
        assert_eq!(format!("{id:?}"), format!("InviteId({id})"));
    }

    #[test]
    fn text_that_is_not_an_id_is_refused() {
        let id = InviteId::generate(NOW, HOUR).unwrap().to_string();
        for bad in [
            "",
            &id[1..],
            &format!("{id}a"),
            "1aaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert!(bad.parse::<InviteId>().is_err(), "{bad:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn an_id_parses_as_printed_and_ids_are_ordered_by_time(a: [u8; 16], b: [u8; 16]) {
            let [a, b] = [a, b].map(InviteId::from_bytes);
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            prop_assert_eq!(a.to_string().to_uppercase().parse(), Ok(a));
            if a.expires_at() < b.expires_at() {
                prop_assert!(a < b);
            }
        }
    }
}
