//! Sending a message to several peers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use gossip_transport::Identity;
use gossip_transport::message::{DecodeError, EncodeError, Message};
use gossip_transport::net::Alpn;
use gossip_transport::transport_layer::{DropReason, TransportLayerTransport};

use crate::support::layer::{World, addr, config, ip, secs, until};
use crate::support::soon;

/// A message that counts how often it is encoded.
#[derive(Debug, Default)]
struct Counted(Arc<AtomicU32>);

impl Message for Counted {
    const ALPN: Alpn = Alpn::from_static(b"counted");

    fn encode(&self, buffer: &mut BytesMut) -> Result<(), EncodeError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        buffer.extend_from_slice(b"counted");
        Ok(())
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        assert_eq!(bytes, "counted");
        Ok(Self::default())
    }
}

#[tokio::test]
async fn a_message_to_many_is_encoded_once_and_reaches_those_that_can_be_reached() {
    let world = World::new();
    let open = |n: u8| {
        let network = world.network.host(ip(n));
        let transport = TransportLayerTransport::<_, Counted>::with_config(
            network,
            world.credential(),
            config(),
        );
        async move { transport.open(addr(n)).await.unwrap() }
    };
    let node = open(1).await;
    let mut peers = Vec::new();
    for n in 2..=4 {
        peers.push(open(n).await);
    }
    let mut to: Vec<_> = (2..=4).map(addr).collect();
    // A tab that is not connected.
    to.push(Identity::from_bytes([7; 32]).address());
    let encoded = Arc::new(AtomicU32::new(0));
    node.send_to_all(&to, Counted(Arc::clone(&encoded)))
        .unwrap();
    for peer in &peers {
        let (from, _) = soon(peer.recv()).await.unwrap();
        assert_eq!(from, addr(1));
    }
    assert_eq!(encoded.load(Ordering::Relaxed), 1);
    let stats = until(&node, |stats| stats.total.sent == 3).await;
    assert_eq!(stats.total.submitted, 4);
    assert_eq!(stats.total.dropped.count(DropReason::Unroutable), 1);
    node.shutdown(secs(1)).await;
    let message = Counted(Arc::clone(&encoded));
    assert!(node.send_to_all(&to, message).is_err());
    assert_eq!(encoded.load(Ordering::Relaxed), 1);
}
