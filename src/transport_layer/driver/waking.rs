//! Notices that the machine or the page has woken up, and tells the core.

use std::sync::Arc;

use super::shared::Shared;
use crate::message::Message;
use crate::net::NetTransport;
use crate::rt::{Instant, Wakings};

/// Starts a task that watches for it, where the target can notice it.
pub(in crate::transport_layer) fn watch_wakings<T: NetTransport, M: Message>(
    shared: &Arc<Shared<T, M>>,
) {
    let Some(mut wakings) = Wakings::new() else {
        return;
    };
    let socket = Arc::clone(shared);
    shared.tasks.spawn((), async move {
        loop {
            wakings.next().await;
            socket.with(|peers, _| peers.woken(Instant::now()));
        }
    });
}
