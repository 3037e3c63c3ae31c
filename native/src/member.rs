//! The participant, on whichever network the arguments ask for.
//!
//! Two types of the library behind one: the rest of the program does not know about networks.

use std::time::Duration;

use gossip_transport::ChitchatMessage;
use gossip_transport::TransportLayerSocket;
use gossip_transport::either::EitherTransport;
use gossip_transport::gossip::{
    DeleteError, GossipConfig, Member as Known, MembershipWatch, Participant, SetError,
};
use gossip_transport::message::ChitchatId;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::SocketStats;
use gossip_transport::udp::PlaintextUdpTransport;

/// TCP, and upstream's datagrams on the same port.
pub(crate) type Bridge = EitherTransport<TcpTransport, PlaintextUdpTransport>;

/// A bound socket.
pub(crate) enum Socket {
    Tcp(TransportLayerSocket<TcpTransport, ChitchatMessage>),
    Bridge(TransportLayerSocket<Bridge, ChitchatMessage>),
}

/// A member of the cluster.
pub(crate) enum Member {
    Tcp(Participant<TcpTransport>),
    Bridge(Participant<Bridge>),
}

/// The same call of whichever it is.
macro_rules! of_either {
    ($self:ident, $member:ident => $call:expr) => {
        match $self {
            Self::Tcp($member) => $call,
            Self::Bridge($member) => $call,
        }
    };
}

impl Socket {
    pub(crate) fn local_addr(&self) -> std::net::SocketAddr {
        of_either!(self, socket => socket.local_addr())
    }

    pub(crate) async fn join(self, config: GossipConfig) -> anyhow::Result<Member> {
        Ok(match self {
            Self::Tcp(socket) => Member::Tcp(Participant::join(socket, config).await?),
            Self::Bridge(socket) => Member::Bridge(Participant::join(socket, config).await?),
        })
    }
}

impl Member {
    pub(crate) fn id(&self) -> &ChitchatId {
        of_either!(self, member => member.id())
    }

    pub(crate) fn members(&self) -> Vec<Known> {
        of_either!(self, member => member.members())
    }

    pub(crate) fn stats(&self) -> SocketStats {
        of_either!(self, member => member.stats())
    }

    pub(crate) fn watch(&self) -> MembershipWatch {
        of_either!(self, member => member.watch())
    }

    pub(crate) fn set(&self, key: &str, value: &str) -> Result<(), SetError> {
        of_either!(self, member => member.set(key, value))
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), DeleteError> {
        of_either!(self, member => member.delete(key))
    }

    pub(crate) async fn leave(self, deadline: Duration) {
        of_either!(self, member => member.leave(deadline).await);
    }
}
