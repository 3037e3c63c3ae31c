//! A handle to the running node, shared by the HTTP server, the admin port and the log of members.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gossip_transport::credential::Trust;
use gossip_transport::gossip::LeaveError;

use crate::any_network::AnyParticipant;
use crate::tls_status::Tls;

/// The participant until it leaves, and the facts that stay the same while it is a member. Clones
/// share it.
#[derive(Clone)]
pub(crate) struct Node {
    participant: Arc<Mutex<Option<AnyParticipant>>>,
    /// The public key in its printed form.
    pub(crate) identity: Arc<str>,
    /// The cluster's name.
    pub(crate) cluster: Arc<str>,
    /// Time between gossip rounds.
    pub(crate) gossip_interval: Duration,
    /// Which peers may connect, and which invites are revoked.
    pub(crate) trust: Trust,
    /// The certificate of the gossip port.
    pub(crate) tls: Tls,
}

impl Node {
    /// Returns a handle to a participant that has joined.
    pub(crate) fn new(
        participant: AnyParticipant,
        identity: &str,
        cluster: &str,
        gossip_interval: Duration,
        trust: Trust,
        tls: Tls,
    ) -> Self {
        Self {
            participant: Arc::new(Mutex::new(Some(participant))),
            identity: identity.into(),
            cluster: cluster.into(),
            gossip_interval,
            trust,
            tls,
        }
    }

    /// Calls `f` with the participant, or returns `None` if the node has left.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&AnyParticipant) -> R) -> Option<R> {
        self.lock().as_ref().map(f)
    }

    /// Leaves the cluster. Sends queued messages for at most `deadline`. Does nothing if the
    /// node has already left.
    ///
    /// # Errors
    ///
    /// Fails if the participant had stopped by itself.
    pub(crate) async fn leave(&self, deadline: Duration) -> Result<(), LeaveError> {
        let participant = self.lock().take();
        match participant {
            Some(participant) => participant.leave(deadline).await,
            None => Ok(()),
        }
    }

    /// Ignores poisoning: a panic under the lock cannot leave an `Option` in an invalid state.
    fn lock(&self) -> MutexGuard<'_, Option<AnyParticipant>> {
        self.participant
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
