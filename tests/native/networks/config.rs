//! Opening a socket with a configuration that is invalid, its own or that of its network.

use std::time::Duration;

use gossip_transport::either::EitherTransport;
use gossip_transport::memory::{MemoryConfig, MemoryNetwork};
use gossip_transport::message::ChitchatMessage;
use gossip_transport::net::NetTransport;
use gossip_transport::tcp::{TcpConfig, TcpTransport};
use gossip_transport::udp::{PlaintextUdpTransport, UdpConfig};
use gossip_transport::{ConfigError, TransportLayerConfig, TransportLayerTransport};

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

#[tokio::test]
async fn opening_a_socket_reports_an_invalid_value_of_its_own_before_it_binds_the_address() {
    let config = TransportLayerConfig::default().with_silence_timeout(Duration::MAX);
    let network = TcpTransport::default();
    let transport = TransportLayerTransport::<_>::with_config(network, anyone(), config);
    let taken = std::net::TcpListener::bind(ANY_PORT).unwrap();
    let error = transport.open(taken.local_addr().unwrap()).await;
    let error: ConfigError = error.unwrap_err().downcast().unwrap();
    assert_eq!(error.field, "silence_timeout");
}
