//! The steps and effects that the core asks of the driver.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::credential::Identity;
use crate::net::CloseCode;
use crate::rt::Instant;
use crate::rt::sync::Signal;
use crate::transport_layer::stats::Direction;

/// Names the entry of a peer: its address at first, and its id. An address that was forgotten and is
/// used again gets a new entry with another id, so that a task of the old entry finds nothing. An entry
/// that moves to another address keeps its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport_layer) struct PeerKey {
    pub(in crate::transport_layer) addr: SocketAddr,
    pub(in crate::transport_layer) id: u64,
}

/// The next action of a peer's task.
#[derive(Debug)]
pub(in crate::transport_layer) enum Step<C> {
    /// The peer is forgotten: the task ends.
    Gone,
    /// Wait until the signal of the peer is raised, or until this time.
    Wait(Option<Instant>),
    /// Start a dial, which has already been counted.
    Dial(NewDial),
    /// Hand the batch, which has this many bytes, to the connection.
    Write { link: u64, conn: C, bytes: usize },
    /// Send a keepalive.
    Keepalive { link: u64, conn: C },
    /// Probe a connection.
    Probe { link: u64, conn: C },
}

/// A dial to start. It runs beside the task of the peer, since the peer may connect in the meantime.
#[derive(Debug, Clone)]
pub(in crate::transport_layer) struct NewDial {
    pub(in crate::transport_layer) key: DialKey,
    pub(in crate::transport_layer) to: SocketAddr,
    /// Raised when the dial is given up.
    pub(in crate::transport_layer) given_up: Arc<Signal>,
}

/// Names a dial of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport_layer) struct DialKey {
    pub(in crate::transport_layer) peer: PeerKey,
    pub(in crate::transport_layer) id: u64,
}

/// A peer that has just been created. The driver starts its task.
#[derive(Debug)]
pub(in crate::transport_layer) struct NewPeer {
    pub(in crate::transport_layer) key: PeerKey,
    pub(in crate::transport_layer) signal: Arc<Signal>,
}

/// A connection that has come into service. The driver starts to read it.
#[derive(Debug)]
pub(in crate::transport_layer) struct NewReader<C> {
    pub(in crate::transport_layer) key: PeerKey,
    pub(in crate::transport_layer) link: u64,
    pub(in crate::transport_layer) conn: C,
    pub(in crate::transport_layer) direction: Direction,
}

/// A connection that the core has ended, for the log.
#[derive(Debug)]
pub(in crate::transport_layer) struct EndedLink {
    pub(in crate::transport_layer) addr: SocketAddr,
    pub(in crate::transport_layer) why: &'static str,
    pub(in crate::transport_layer) life: LinkLife,
}

/// A connection that is out of service.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport_layer) struct LinkLife {
    pub(in crate::transport_layer) identity: Identity,
    /// The time for which it was in service.
    pub(in crate::transport_layer) age: Duration,
}

/// The work that the driver must do after a call into the core.
#[derive(Debug)]
pub(in crate::transport_layer) struct Effects<C> {
    /// Tasks to wake, once the lock is released.
    pub(in crate::transport_layer) wakers: Vec<Waker>,
    /// Connections to close, once the lock is released.
    pub(in crate::transport_layer) close: Vec<(C, CloseCode)>,
    /// Connections on which to say goodbye, and which are read until the peer has, too.
    pub(in crate::transport_layer) leave: Vec<(C, CloseCode)>,
    /// Peers whose counters the inbox need not keep. Done under the lock.
    pub(in crate::transport_layer) forgotten: Vec<SocketAddr>,
    /// Peers whose counters the inbox must keep, and whose tasks must be started.
    pub(in crate::transport_layer) new_peers: Vec<NewPeer>,
    /// Addresses to which a peer has moved, whose counters the inbox must keep.
    pub(in crate::transport_layer) moved_to: Vec<SocketAddr>,
    /// Connections to read.
    pub(in crate::transport_layer) readers: Vec<NewReader<C>>,
    /// Connections that were ended because of a limit or a timeout.
    pub(in crate::transport_layer) ended: Vec<EndedLink>,
    /// Addresses of identities that connections without authentication have taken over, for the log.
    pub(in crate::transport_layer) downgraded: Vec<SocketAddr>,
}

impl<C> Effects<C> {
    /// Returns whether there is nothing to do.
    pub(in crate::transport_layer) fn is_empty(&self) -> bool {
        self.wakers.is_empty()
            && self.close.is_empty()
            && self.leave.is_empty()
            && self.forgotten.is_empty()
            && self.new_peers.is_empty()
            && self.moved_to.is_empty()
            && self.readers.is_empty()
            && self.ended.is_empty()
            && self.downgraded.is_empty()
    }
}

impl<C> Default for Effects<C> {
    fn default() -> Self {
        Self {
            wakers: Vec::new(),
            close: Vec::new(),
            leave: Vec::new(),
            forgotten: Vec::new(),
            new_peers: Vec::new(),
            moved_to: Vec::new(),
            readers: Vec::new(),
            ended: Vec::new(),
            downgraded: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_empty_only_if_there_is_nothing_of_any_kind() {
        assert!(Effects::<()>::default().is_empty());
        let addr = SocketAddr::from(([10, 0, 0, 1], 1));
        let adds: [fn(&mut Effects<()>, SocketAddr); 6] = [
            |fx, _| fx.wakers.push(Waker::noop().clone()),
            |fx, _| fx.close.push(((), CloseCode::GOING_AWAY)),
            |fx, _| fx.leave.push(((), CloseCode::RENEWED)),
            |fx, addr| fx.forgotten.push(addr),
            |fx, addr| fx.moved_to.push(addr),
            |fx, addr| fx.downgraded.push(addr),
        ];
        for add in adds {
            let mut fx = Effects::default();
            add(&mut fx, addr);
            assert!(!fx.is_empty());
        }
    }
}
