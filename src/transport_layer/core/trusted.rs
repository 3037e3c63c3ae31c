//! Deadlines of a connection whose secret was removed.
//!
//! This file only knows the times. `peers::trusted` applies a change to all connections, and the side that has dialled
//! one renews it (`peer`). Invariant: a connection whose secret was removed ends within [`END_TIME`].

use std::time::Duration;

use crate::rt::Instant;

/// After a secret was removed, the side that has dialled may replace a connection for this long. Then whoever has
/// noticed says goodbye on it, and the peer dials again.
const RENEW_TIME: Duration = Duration::from_millis(1000);
/// After this time, a connection whose secret was removed is closed, whatever the peer does. A change is noticed some
/// milliseconds late, and must have taken effect after 2 s.
pub(super) const END_TIME: Duration = Duration::from_millis(1800);

/// Whether a connection is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Trusted {
    /// The connection is trusted, and a new one would use the same secret or invite, if any.
    #[default]
    Current,
    /// The connection is trusted, but a new one would use another secret or invite.
    Outdated,
    /// Its secret was removed at this time.
    Removed(Instant),
}

impl Trusted {
    /// Returns when to say goodbye, if the connection is not trusted any more.
    pub(super) fn leave_at(self) -> Option<Instant> {
        self.removed().map(|removed| removed + RENEW_TIME)
    }

    /// Returns when to close it, if it is not trusted any more.
    pub(super) fn end(self) -> Option<Instant> {
        self.removed().map(|removed| removed + END_TIME)
    }

    fn removed(self) -> Option<Instant> {
        match self {
            Self::Removed(removed) => Some(removed),
            Self::Current | Self::Outdated => None,
        }
    }
}
