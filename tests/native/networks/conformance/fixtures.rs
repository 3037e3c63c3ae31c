//! The networks that the suite runs over, and the capabilities that they lack.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use gossip_transport::either::EitherTransport;
use gossip_transport::memory::{DialFault, Faults, MemoryNetwork, MemoryTransport};
use gossip_transport::message::{ChitchatMessage, Message as _, ProtocolVersion};
use gossip_transport::net::{Alpn, NetTransport};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::udp::{PlaintextUdpTransport, UdpConfig};

#[cfg(unix)]
use crate::examples::custom_network::UnixTransport;
use crate::support::ANY_PORT;

/// A capability that secure connections have, and that a network of datagrams may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capability {
    /// A dial waits for the acceptor, and fails if there is none.
    Handshake,
    /// Both sides prove their identities, and refuse those that they do not trust.
    Authentication,
    /// Both sides agree on one of several protocols.
    Negotiation,
    /// A sender waits for a slow receiver, and no message is lost.
    FlowControl,
    /// The peer is notified of the end of a connection, and can distinguish it from a loss.
    Goodbye,
    /// A sign of life that is not a message.
    Keepalive,
}

/// Two hosts of a network of their own for each test.
pub(crate) trait Fixture {
    type Transport: NetTransport;

    /// Capabilities that the network does not have, with the reason.
    const LACKS: &'static [(Capability, &'static str)] = &[];

    fn hosts() -> (Self::Transport, Self::Transport);

    /// The address that the first host binds.
    fn bind_addr() -> SocketAddr;

    /// An address in the same network that has no listener.
    fn dead_addr() -> SocketAddr;

    /// Returns the protocol that the suite uses where any will do, as a list of one.
    fn ours() -> &'static [Alpn] {
        static OURS: [Alpn; 1] = [Alpn::from_static(b"conformance/1")];
        &OURS
    }

    /// Returns a message that the network carries: `len` times `fill` or as close to that as it can.
    fn message(fill: u8, len: usize) -> Bytes {
        vec![fill; len].into()
    }

    /// Returns the address of the acceptor of a dial, which was bound to `addr`, as the dialler sees it.
    async fn dialled(addr: SocketAddr) -> SocketAddr {
        addr
    }

    fn has(capability: Capability) -> bool {
        Self::LACKS.iter().all(|(lacks, _)| *lacks != capability)
    }
}

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

pub(crate) struct Memory;

impl Fixture for Memory {
    type Transport = MemoryTransport;

    fn hosts() -> (MemoryTransport, MemoryTransport) {
        let network = MemoryNetwork::new(1);
        (network.host(ip(1)), network.host(ip(2)))
    }

    fn bind_addr() -> SocketAddr {
        (ip(1), 0).into()
    }

    fn dead_addr() -> SocketAddr {
        (ip(1), 9).into()
    }
}

pub(crate) struct Tcp;

impl Fixture for Tcp {
    type Transport = TcpTransport;

    fn hosts() -> (TcpTransport, TcpTransport) {
        (TcpTransport::default(), TcpTransport::default())
    }

    fn bind_addr() -> SocketAddr {
        ANY_PORT
    }

    fn dead_addr() -> SocketAddr {
        // The port was free a moment ago, and the system does not assign it again at once.
        let socket = std::net::TcpListener::bind(ANY_PORT).unwrap();
        socket.local_addr().unwrap()
    }
}

/// Plaintext datagrams: most of what a connection promises does not apply to them.
pub(crate) struct Udp;

impl Fixture for Udp {
    type Transport = PlaintextUdpTransport;

    const LACKS: &'static [(Capability, &'static str)] = &[
        (
            Capability::Handshake,
            "a dial sends nothing: the acceptor learns of it by the first message",
        ),
        (
            Capability::Authentication,
            "a datagram carries no proof of its sender",
        ),
        (
            Capability::Negotiation,
            "it carries chitchat's own messages and no other protocol",
        ),
        (
            Capability::FlowControl,
            "a datagram that finds a full queue is dropped and counted",
        ),
        (
            Capability::Goodbye,
            "upstream nodes know no message that says that a peer has left",
        ),
        (
            Capability::Keepalive,
            "upstream nodes know no message without content",
        ),
    ];

    fn hosts() -> (PlaintextUdpTransport, PlaintextUdpTransport) {
        // The messages of the suite have no digests that would show where the hosts are.
        let config = UdpConfig::default().with_max_unechoed_bytes_per_second(1 << 30);
        let host = || PlaintextUdpTransport::new(config.clone());
        (host(), host())
    }

    fn bind_addr() -> SocketAddr {
        ANY_PORT
    }

    fn dead_addr() -> SocketAddr {
        let socket = std::net::UdpSocket::bind(ANY_PORT).unwrap();
        socket.local_addr().unwrap()
    }

    fn ours() -> &'static [Alpn] {
        static OURS: [Alpn; 1] = [ChitchatMessage::ALPN];
        &OURS
    }

    /// Returns a message that begins as messages of chitchat do, since everything else is dropped
    /// on this network, and that is not longer than a datagram.
    fn message(fill: u8, len: usize) -> Bytes {
        let version = ProtocolVersion::V0;
        let mut bytes = Vec::from(
            ChitchatMessage::BadCluster { version }
                .into_bytes()
                .unwrap(),
        );
        let most = PlaintextUdpTransport::default().max_message_len();
        bytes.resize(len.clamp(bytes.len(), most), fill);
        bytes.into()
    }
}

/// The network of `examples/custom_network.rs`.
#[cfg(unix)]
pub(crate) struct Custom;

#[cfg(unix)]
impl Fixture for Custom {
    type Transport = UnixTransport;

    fn hosts() -> (UnixTransport, UnixTransport) {
        thread_local! {
            // Removed at the end of the test, which has a thread of its own.
            static FOLDER: tempfile::TempDir = tempfile::tempdir().unwrap();
        }
        let network = FOLDER.with(|folder| UnixTransport::new(folder.path()));
        (network.clone(), network)
    }

    fn bind_addr() -> SocketAddr {
        ANY_PORT
    }

    fn dead_addr() -> SocketAddr {
        ([127, 0, 0, 1], 9).into()
    }
}

type EitherMemory = EitherTransport<MemoryTransport, MemoryTransport>;

/// Two networks of which the first one, which is preferred, is used.
pub(crate) struct EitherFirst;

impl Fixture for EitherFirst {
    type Transport = EitherMemory;

    fn hosts() -> (EitherMemory, EitherMemory) {
        either(Faults::default())
    }

    fn bind_addr() -> SocketAddr {
        Memory::bind_addr()
    }

    fn dead_addr() -> SocketAddr {
        Memory::dead_addr()
    }
}

/// Two networks of which the first one refuses every dial, so that the second one is used.
pub(crate) struct EitherSecond;

impl Fixture for EitherSecond {
    type Transport = EitherMemory;

    fn hosts() -> (EitherMemory, EitherMemory) {
        either(Faults::dialing(DialFault::Refused))
    }

    fn bind_addr() -> SocketAddr {
        Memory::bind_addr()
    }

    fn dead_addr() -> SocketAddr {
        Memory::dead_addr()
    }
}

/// Returns two hosts, with `faults` on the first of their networks.
fn either(faults: Faults) -> (EitherMemory, EitherMemory) {
    let [first, second] = [1, 2].map(MemoryNetwork::new);
    first.set_faults_between(ip(1), ip(2), faults);
    let host = |n| EitherTransport::new(first.host(ip(n)), second.host(ip(n)));
    (host(1), host(2))
}
