//! The options for limits: of connections, queues, messages and memory.

use std::sync::LazyLock;

use gossip_transport::TransportLayerConfig;
use gossip_transport::gossip::GossipConfig;
use gossip_transport::secure::SecureConfig;
use gossip_transport::tcp::TcpConfig;
use gossip_transport::transport_layer::{IncomingConfig, QueueConfig};
use gossip_transport::udp::UdpConfig;

use crate::units::Size;

/// The number of members that a bridge remembers, and so tells upstream nodes of. With names of 40
/// bytes and IPv6 addresses, an upstream node survives 703.
const MAX_BRIDGED_MEMBERS: usize = 700;
/// The peers that are remembered for each connection that there may be, as in the defaults of both.
const PEERS_PER_CONNECTION: usize = 4;

static TRANSPORT: LazyLock<TransportLayerConfig> = LazyLock::new(TransportLayerConfig::default);
static TCP: LazyLock<TcpConfig> = LazyLock::new(TcpConfig::default);
static UDP: LazyLock<UdpConfig> = LazyLock::new(UdpConfig::default);
static GOSSIP: LazyLock<GossipConfig> = LazyLock::new(|| GossipConfig::new("", ""));

/// Limits of connections, queues, messages and memory. Each is at least 1 unless its text says otherwise.
#[derive(Debug, Clone, clap::Args)]
#[command(
    next_help_heading = "Limits (COUNT and SIZE are at least 1 where nothing else is said; \
    a SIZE is in bytes: 65507, 64KiB, 4MiB, 1GiB)"
)]
pub(crate) struct Limits {
    /// Most gossip connections, dials included [default: 1024, or fewer if few files may be open]
    ///
    /// The node does not start if so many files cannot be open.
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_connections: Option<usize>,

    /// Most peers over plaintext UDP, which take no place of the others
    #[arg(long, value_name = "COUNT", default_value_t = TRANSPORT.max_unauthenticated_connections)]
    pub(crate) max_unauthenticated_connections: usize,

    /// Most connections of one identity
    #[arg(long, value_name = "COUNT", default_value_t = TRANSPORT.max_connections_per_identity)]
    pub(crate) max_connections_per_identity: usize,

    /// Most connections of one host, an IPv4 address or an IPv6 /64 [default: that of --max-connections]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_connections_per_host: Option<usize>,

    /// Most incoming handshakes at a time [default: 64, or fewer if few files may be open]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_pending_handshakes: Option<usize>,

    /// Most incoming handshakes of one host at a time
    #[arg(long, value_name = "COUNT", default_value_t = TCP.max_unauthenticated_per_ip)]
    pub(crate) max_pending_handshakes_per_host: usize,

    /// Most HTTP connections [default: 64, or fewer if few files may be open]
    #[arg(long, value_name = "COUNT", requires = "any_http")]
    pub(crate) max_http_connections: Option<usize>,

    /// Most peers to remember, more than --max-connections [default: 4096, or 4 for each connection]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_peers: Option<usize>,

    /// Most messages that wait to be sent to one peer
    #[arg(long, value_name = "COUNT", default_value_t = TRANSPORT.outgoing.max_messages)]
    pub(crate) outgoing_max_messages: usize,

    /// Most bytes that wait to be sent to one peer
    #[arg(long, value_name = "SIZE", default_value_t = Size(TRANSPORT.outgoing.max_bytes))]
    pub(crate) outgoing_max_bytes: Size,

    /// Most bytes that wait to be sent to all peers together
    #[arg(long, value_name = "SIZE", default_value_t = Size(TRANSPORT.max_outgoing_bytes))]
    pub(crate) max_outgoing_bytes: Size,

    /// Most received messages of one peer that wait to be handled
    #[arg(long, value_name = "COUNT", default_value_t = TRANSPORT.incoming.max_messages_per_peer)]
    pub(crate) incoming_max_messages_per_peer: usize,

    /// Most received bytes of one peer that wait to be handled
    #[arg(long, value_name = "SIZE", default_value_t = Size(TRANSPORT.incoming.max_bytes_per_peer))]
    pub(crate) incoming_max_bytes_per_peer: Size,

    /// Most received messages of all peers that wait to be handled
    #[arg(long, value_name = "COUNT", default_value_t = TRANSPORT.incoming.max_messages)]
    pub(crate) incoming_max_messages: usize,

    /// Most received bytes of all peers that wait to be handled
    #[arg(long, value_name = "SIZE", default_value_t = Size(TRANSPORT.incoming.max_bytes))]
    pub(crate) incoming_max_bytes: Size,

    /// Longest message over TCP or WebSocket, less than 4GiB
    #[arg(long, value_name = "SIZE", default_value_t = Size(TCP.secure.max_message_len))]
    pub(crate) max_message_len: Size,

    /// Most memory for messages that have arrived in part, of all peers together, or --max-message-len if that is more
    #[arg(long, value_name = "SIZE", default_value_t = Size(TCP.secure.max_partial_bytes))]
    pub(crate) max_partial_bytes: Size,

    /// Most memory that received messages may share with their records; 0 copies all
    #[arg(long, value_name = "SIZE", default_value_t = Size(TCP.secure.max_shared_record_bytes))]
    pub(crate) max_shared_record_bytes: Size,

    /// Records that are sent under one key, before the next is derived
    #[arg(long, value_name = "COUNT", default_value_t = TCP.secure.rekey_after_records)]
    pub(crate) rekey_after_records: u64,

    /// Most members to remember, this node and dead ones included [default: 10000, with --udp 700]
    ///
    /// With --udp, chitchat nodes learn of all of them. Such a node panics when it knows more members
    /// than a datagram can list: 65403 bytes, of which each takes 53 and the length of its name.
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_members: Option<usize>,

    /// Most bytes of the keys and values of one member, counting 64 more for each key
    #[arg(long, value_name = "SIZE", default_value_t = Size(GOSSIP.max_bytes_per_member))]
    pub(crate) max_bytes_per_member: Size,

    /// Most bytes of the keys and values of all other members together, counted in the same way
    #[arg(long, value_name = "SIZE", default_value_t = Size(GOSSIP.max_bytes))]
    pub(crate) max_bytes: Size,

    /// With --udp: most members of which chitchat nodes are told in a day; 0 tells them of no tab
    ///
    /// Tabs beyond it stay hidden from them, and are counted. All other members are always told of.
    #[arg(long, value_name = "COUNT", requires = "udp", default_value_t = GOSSIP.max_udp_members)]
    pub(crate) max_udp_members: usize,

    /// With --udp: most new addresses that wait to be accepted
    #[arg(long, value_name = "COUNT", requires = "udp", default_value_t = UDP.max_pending_flows)]
    pub(crate) udp_max_pending_flows: usize,

    /// With --udp: most messages of one address that wait to be read
    #[arg(long, value_name = "COUNT", requires = "udp", default_value_t = UDP.max_messages_per_peer)]
    pub(crate) udp_max_messages_per_peer: usize,

    /// With --udp: most bytes of one address that wait to be read, at least 65507
    #[arg(long, value_name = "SIZE", requires = "udp",
        default_value_t = Size(UDP.max_bytes_per_peer))]
    pub(crate) udp_max_bytes_per_peer: Size,

    /// With --udp: bytes in a second to addresses that may be forged, besides three times what they send; or 0
    #[arg(long, value_name = "SIZE", requires = "udp",
        default_value_t = Size(UDP.max_unechoed_bytes_per_second))]
    pub(crate) udp_max_unechoed_bytes_per_second: Size,

    /// With --udp: bytes into which the messages of a second may decompress, at least 8MiB
    #[arg(long, value_name = "SIZE", requires = "udp",
        default_value_t = Size(UDP.max_decompressed_bytes_per_second))]
    pub(crate) udp_max_decompressed_bytes_per_second: Size,
}

impl Limits {
    /// Sets the limits of a socket, with these shares of connections and handshakes.
    pub(super) fn apply_to_socket(
        &self,
        config: TransportLayerConfig,
        connections: usize,
        handshakes: usize,
    ) -> TransportLayerConfig {
        let of_connections = connections.saturating_mul(PEERS_PER_CONNECTION);
        let max_peers = self
            .max_peers
            .unwrap_or(TRANSPORT.max_peers.max(of_connections));
        let ttl = config.outgoing.ttl;
        config
            .with_max_connections(connections)
            .with_max_connections_per_host(self.max_connections_per_host.unwrap_or(connections))
            .with_max_pending_handshakes(handshakes)
            .with_max_unauthenticated_connections(self.max_unauthenticated_connections)
            .with_max_connections_per_identity(self.max_connections_per_identity)
            .with_max_peers(max_peers)
            .with_max_outgoing_bytes(self.max_outgoing_bytes.0)
            .with_outgoing(
                QueueConfig::default()
                    .with_max_messages(self.outgoing_max_messages)
                    .with_max_bytes(self.outgoing_max_bytes.0)
                    .with_ttl(ttl),
            )
            .with_incoming(
                IncomingConfig::default()
                    .with_max_messages_per_peer(self.incoming_max_messages_per_peer)
                    .with_max_bytes_per_peer(self.incoming_max_bytes_per_peer.0)
                    .with_max_messages(self.incoming_max_messages)
                    .with_max_bytes(self.incoming_max_bytes.0),
            )
    }

    /// Sets the limits of the secure channel.
    pub(super) fn apply_to_channel(&self, config: SecureConfig) -> SecureConfig {
        config
            .with_max_message_len(self.max_message_len.0)
            .with_max_partial_bytes(self.max_partial_bytes.0)
            .with_max_shared_record_bytes(self.max_shared_record_bytes.0)
            .with_rekey_after_records(self.rekey_after_records)
    }

    /// Sets the limits of a participant, which is a `bridge` or not.
    pub(super) fn apply_to_gossip(&self, config: GossipConfig, bridge: bool) -> GossipConfig {
        let default = if bridge {
            MAX_BRIDGED_MEMBERS
        } else {
            config.max_members
        };
        config
            .with_max_members(self.max_members.unwrap_or(default))
            .with_max_bytes_per_member(self.max_bytes_per_member.0)
            .with_max_bytes(self.max_bytes.0)
            .with_max_udp_members(self.max_udp_members)
    }

    /// Returns the limits of plaintext UDP.
    pub(super) fn udp(&self) -> UdpConfig {
        UdpConfig::default()
            .with_max_pending_flows(self.udp_max_pending_flows)
            .with_max_messages_per_peer(self.udp_max_messages_per_peer)
            .with_max_bytes_per_peer(self.udp_max_bytes_per_peer.0)
            .with_max_unechoed_bytes_per_second(self.udp_max_unechoed_bytes_per_second.0)
            .with_max_decompressed_bytes_per_second(self.udp_max_decompressed_bytes_per_second.0)
    }
}
