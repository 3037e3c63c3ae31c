//! Notices that the trust of the socket has changed, or that invites may have expired, and has connections judged.
//!
//! The check of [`Trust::refusing`](crate::Trust::refusing) is code of the user, so it runs outside the lock of the
//! core. Invariant: a connection that comes into service is judged after that, or by the next change, so that
//! none slips through whose handshake has ended before a change and which was entered after it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use crate::credential::{Grounds, Identity, Standing};
use crate::message::Message;
use crate::net::NetTransport;
use crate::rt::{self, Instant};
use crate::transport_layer::core::{Judged, Of};

/// Changes that come faster than this are applied together.
const APPLY_EVERY: Duration = Duration::from_millis(50);

/// Connections of peers with invites are judged so often, since an invite expires without a change.
const EXPIRY_EVERY: Duration = Duration::from_secs(1);

/// Starts a task that has all connections judged after each change.
pub(in crate::transport_layer) fn watch_trust<T: NetTransport, M: Message>(
    shared: &Arc<Shared<T, M>>,
) {
    let socket = Arc::clone(shared);
    let mut seen = shared.credential.trust().changes();
    shared.tasks.spawn((), async move {
        let trust = socket.credential.trust();
        loop {
            let changed = pin!(trust.changed_since(seen));
            let of = if trust.accepts_invites() {
                match rt::timeout(EXPIRY_EVERY, changed).await {
                    Ok(()) => Of::All,
                    Err(rt::Elapsed(_)) => Of::Leaves,
                }
            } else {
                changed.await;
                Of::All
            };
            seen = trust.changes();
            let judged = judge(&socket, of);
            if judged != Judged::default() {
                log(judged);
            }
            if of == Of::All {
                rt::sleep(APPLY_EVERY).await;
            }
        }
    });
}

/// Judges a connection that has just come into service.
pub(super) fn judge_new<T: NetTransport, M: Message>(
    shared: &Arc<Shared<T, M>>,
    identity: Identity,
    grounds: Grounds,
) {
    let standing = shared.credential.trust().judge(&identity, grounds);
    if standing != Standing::Current {
        judge(shared, Of::Identity(identity));
    }
}

/// Judges some of the connections.
fn judge<T: NetTransport, M: Message>(shared: &Arc<Shared<T, M>>, of: Of) -> Judged {
    let trust = shared.credential.trust();
    let links = shared.with(|peers, _| peers.to_judge(of));
    if links.is_empty() {
        return Judged::default();
    }
    let standings = links.iter();
    let standings = standings.map(|link| (link.link, trust.judge(&link.identity, link.grounds)));
    let mut standings: Vec<_> = standings.collect();
    standings.sort_unstable_by_key(|(link, _)| *link);
    shared.with(|peers, fx| peers.judged(&standings, Instant::now(), fx))
}

fn log(judged: Judged) {
    let Judged {
        outdated,
        removed,
        refused,
        reason,
    } = judged;
    let reason = reason.map(|reason| reason.as_str());
    tracing::info!(outdated, removed, refused, reason, "the trust has changed");
}
