//! How long a node that starts waits for a node that may use its admin path.

use std::time::Duration;

/// The time in which a live node answers. If a socket has not accepted a connection by then, its queue is full.
pub(super) const PROBE_LIMIT: Duration = Duration::from_secs(1);
