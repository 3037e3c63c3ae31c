//! What happens when the queues of all peers together are full.

use std::net::SocketAddr;

use super::Peers;
use crate::net::NetConnection;
use crate::transport_layer::core::step::Effects;

impl<C: NetConnection> Peers<C> {
    /// Drops messages of the peer that has the most until the bound is kept, and wakes senders that may
    /// find room. Ties go to `newcomer`, the peer that has got the last message.
    pub(super) fn relieve(&mut self, newcomer: Option<SocketAddr>, fx: &mut Effects<C>) {
        while self.backlog.excess() > 0 {
            let largest = self
                .map
                .iter_mut()
                .max_by_key(|(addr, peer)| (peer.queue.waiting_bytes(), Some(**addr) == newcomer));
            let Some((_, peer)) = largest else { break };
            let excess = self.backlog.excess();
            if !peer.queue.give_way(excess) {
                break;
            }
            self.backlog.settle(&mut peer.queue);
            // There may be nothing left to do for the peer.
            peer.signal.raise();
        }
        for key in self.backlog.ready() {
            if let Some(peer) = self.get(key) {
                fx.wakers.extend(peer.queue.ready_sender());
            }
        }
    }
}
