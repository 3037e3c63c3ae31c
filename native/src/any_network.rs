//! A socket and a participant on the network that the arguments ask for.
//!
//! The two types combine the library's types for TCP alone and for TCP with UDP, so that the rest of
//! the program does not depend on the network.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use gossip_transport::ChitchatMessage;
use gossip_transport::TransportLayerSocket;
use gossip_transport::either::{EitherCounts, EitherTransport};
use gossip_transport::gossip::{
    ConnectedError, DeleteError, EngineCounts, GossipConfig, LeaveError, Liveness, Member,
    MembershipWatch, Participant, PublicUrl, SeedStatus, SetError,
};
use gossip_transport::message::ChitchatId;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::SocketStats;
use gossip_transport::udp::{PlaintextUdpTransport, UdpCounts};

/// TCP, and the datagrams of the published chitchat crate on the same port.
pub(crate) type Bridge = EitherTransport<TcpTransport, PlaintextUdpTransport>;

/// The future of [`Participant::connected`] on either network.
pub(crate) type Connected = Pin<Box<dyn Future<Output = Result<(), ConnectedError>> + Send>>;

/// A bound socket on either network.
pub(crate) enum AnySocket {
    Tcp(TransportLayerSocket<TcpTransport, ChitchatMessage>),
    Bridge(TransportLayerSocket<Bridge, ChitchatMessage>),
}

/// A participant on either network. The methods are those of [`Participant`].
pub(crate) enum AnyParticipant {
    Tcp(Participant<TcpTransport>),
    Bridge(Participant<Bridge>, Bridge),
}

/// The counters of a bridge; all zero without `--udp`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BridgeCounts {
    pub(crate) either: EitherCounts,
    pub(crate) udp: UdpCounts,
}

/// Calls the same method of either variant.
macro_rules! of_either {
    ($self:ident, $inner:ident => $call:expr) => {
        match $self {
            Self::Tcp($inner) => $call,
            Self::Bridge($inner, ..) => $call,
        }
    };
}

impl AnySocket {
    pub(crate) fn local_addr(&self) -> SocketAddr {
        of_either!(self, socket => socket.local_addr())
    }

    pub(crate) fn advertised_addr(&self) -> SocketAddr {
        of_either!(self, socket => socket.advertised_addr())
    }

    pub(crate) async fn join(self, config: GossipConfig) -> anyhow::Result<AnyParticipant> {
        Ok(match self {
            Self::Tcp(socket) => AnyParticipant::Tcp(Participant::join(socket, config).await?),
            Self::Bridge(socket) => {
                let network = socket.transport().clone();
                AnyParticipant::Bridge(Participant::join(socket, config).await?, network)
            }
        })
    }
}

impl AnyParticipant {
    pub(crate) fn id(&self) -> ChitchatId {
        of_either!(self, participant => participant.id())
    }

    pub(crate) fn connected(&self) -> Connected {
        of_either!(self, participant => Box::pin(participant.connected()))
    }

    pub(crate) fn members(&self) -> Vec<Member> {
        of_either!(self, participant => participant.members())
    }

    pub(crate) fn liveness_of_members(&self) -> Vec<(ChitchatId, Liveness)> {
        of_either!(self, participant => participant.liveness_of_members())
    }

    pub(crate) fn seeds(&self) -> Vec<SeedStatus> {
        of_either!(self, participant => participant.seeds())
    }

    pub(crate) fn members_after(
        &self,
        after: Option<&ChitchatId>,
        max_bytes: usize,
    ) -> Vec<Member> {
        of_either!(self, participant => participant.members_after(after, max_bytes))
    }

    pub(crate) fn stats(&self) -> SocketStats {
        of_either!(self, participant => participant.stats())
    }

    pub(crate) fn engine_counts(&self) -> EngineCounts {
        of_either!(self, participant => participant.engine_counts())
    }

    pub(crate) fn bridge_counts(&self) -> BridgeCounts {
        match self {
            Self::Tcp(_) => BridgeCounts::default(),
            Self::Bridge(_, network) => BridgeCounts {
                either: network.counts(),
                udp: network.second().counts(),
            },
        }
    }

    pub(crate) fn watch(&self) -> MembershipWatch {
        of_either!(self, participant => participant.watch())
    }

    pub(crate) fn set(&self, key: &str, value: &str) -> Result<(), SetError> {
        of_either!(self, participant => participant.set(key, value))
    }

    pub(crate) fn set_with_ttl(&self, key: &str, value: &str) -> Result<(), SetError> {
        of_either!(self, participant => participant.set_with_ttl(key, value))
    }

    pub(crate) fn set_public_url(&self, url: Option<&PublicUrl>) -> Result<(), SetError> {
        of_either!(self, participant => participant.set_public_url(url))
    }

    pub(crate) fn public_urls(&self) -> Vec<(ChitchatId, PublicUrl)> {
        of_either!(self, participant => participant.public_urls())
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        of_either!(self, participant => participant.get(key))
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), DeleteError> {
        of_either!(self, participant => participant.delete(key))
    }

    pub(crate) async fn leave(self, deadline: Duration) -> Result<(), LeaveError> {
        of_either!(self, participant => participant.leave(deadline).await)
    }
}
