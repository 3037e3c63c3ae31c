//! Notices that the trust of the socket has changed, and has its connections judged.
//!
//! The check of [`Trust::refusing`](crate::Trust::refusing) is code of the user, so it runs outside the lock of the
//! core. Invariant: a connection that comes into service is judged after that, or by the next change, so that
//! none slips through whose handshake has ended before a change and which was entered after it.

use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use crate::credential::{Grounds, Identity, Standing};
use crate::message::Message;
use crate::net::NetTransport;
use crate::rt::{self, Instant};
use crate::transport_layer::core::Judged;

/// Changes that come faster than this are applied together.
const APPLY_EVERY: Duration = Duration::from_millis(50);

/// Starts a task that has all connections judged after each change.
pub(in crate::transport_layer) fn watch_trust<T: NetTransport, M: Message>(
    shared: &Arc<Shared<T, M>>,
) {
    let socket = Arc::clone(shared);
    let mut seen = shared.credential.trust().changes();
    shared.tasks.spawn((), async move {
        let trust = socket.credential.trust();
        loop {
            trust.changed_since(seen).await;
            seen = trust.changes();
            let judged = judge(&socket, None);
            if judged != Judged::default() {
                log(judged);
            }
            rt::sleep(APPLY_EVERY).await;
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
        judge(shared, Some(identity));
    }
}

/// Judges all connections, or those of one identity.
fn judge<T: NetTransport, M: Message>(shared: &Arc<Shared<T, M>>, of: Option<Identity>) -> Judged {
    let trust = shared.credential.trust();
    let links = shared.with(|peers, _| peers.to_judge(of));
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
