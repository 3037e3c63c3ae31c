//! Opening a socket on a network whose configuration is invalid.

use gossip_transport::either::EitherTransport;
use gossip_transport::memory::{MemoryConfig, MemoryNetwork};
use gossip_transport::message::ChitchatMessage;
use gossip_transport::net::NetTransport;
use gossip_transport::tcp::{TcpConfig, TcpTransport};
use gossip_transport::udp::{PlaintextUdpTransport, UdpConfig};
use gossip_transport::{ConfigError, TransportLayerTransport};

use crate::support::{ANY_PORT, anyone};

async fn open_error<T: NetTransport>(network: T) -> ConfigError {
    let transport = TransportLayerTransport::<_, ChitchatMessage>::new(network, anyone());
    let error = transport.open(ANY_PORT).await.unwrap_err();
    let error = error.downcast_ref::<ConfigError>();
    error.expect("opening must fail with a ConfigError").clone()
}

#[tokio::test]
async fn opening_a_socket_reports_the_invalid_value_of_its_network() {
    let memory = MemoryConfig::default().with_max_message_len(0);
    let memory = MemoryNetwork::with_config(1, memory).host(ANY_PORT.ip());
    assert_eq!(open_error(memory).await.field, "max_message_len");

    let tcp = TcpTransport::new(TcpConfig::default().with_max_unauthenticated_per_ip(0));
    let error = open_error(tcp.clone()).await;
    assert_eq!(error.field, "max_unauthenticated_per_ip");

    let udp = PlaintextUdpTransport::new(UdpConfig::default().with_max_bytes_per_peer(1));
    assert_eq!(open_error(udp.clone()).await.field, "max_bytes_per_peer");

    let either = EitherTransport::new(TcpTransport::default(), udp);
    assert_eq!(open_error(either).await.field, "max_bytes_per_peer");
    let either = EitherTransport::new(tcp, PlaintextUdpTransport::default());
    let error = open_error(either).await;
    assert_eq!(error.field, "max_unauthenticated_per_ip");
}
