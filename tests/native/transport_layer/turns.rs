//! The turns in which messages that take long are decoded, while peers connect and move.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gossip_transport::message::{DecodeError, EncodeError, Message};
use gossip_transport::net::Alpn;
use gossip_transport::transport_layer::{TransportLayerConfig, TransportLayerTransport};

use crate::support::layer::{World, addr, config, ip, ms, secs};

/// How long each message takes to decode. Its reader pauses for twice as long.
const DECODING: Duration = Duration::from_millis(30);
const MARK: &[u8] = b"honest";

/// A message whose decoding takes long.
#[derive(Debug)]
struct Costly(Bytes);

impl Message for Costly {
    const ALPN: Alpn = Alpn::from_static(b"costly");

    fn encode(&self, buffer: &mut BytesMut) -> Result<(), EncodeError> {
        buffer.extend_from_slice(&self.0);
        Ok(())
    }

    fn decoding_work(_: &[u8]) -> usize {
        1 << 20
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        std::thread::sleep(DECODING);
        Ok(Self(bytes))
    }
}

/// Readers look at their peer again whenever a peer moves to another address or loses one of its connections.
/// The one that moves all the time here must not cost others their turn.
#[tokio::test]
async fn a_peer_that_moves_again_and_again_costs_no_other_its_turn() {
    let world = World::new();
    let open = |n: u8, config| {
        let network = world.network.host(ip(n));
        let transport =
            TransportLayerTransport::<_, Costly>::with_config(network, world.credential(), config);
        async move { transport.open(addr(n)).await.unwrap() }
    };
    let node = open(1, config()).await;
    // It always has many messages to decode.
    let flooder = open(2, config()).await;
    for _ in 0..1_000 {
        let message = Costly(Bytes::from_static(b"flood"));
        flooder.send(addr(1), message).await.unwrap();
    }
    // One identity that states another address each time.
    let credential = world.credential();
    let moves = AtomicU32::new(0);
    let moving = async {
        for n in 0_u16.. {
            let stated = (ip(3), 8000 + n % 2).into();
            let config = TransportLayerConfig::default().with_advertise_addr(Some(stated));
            let network = world.network.host(ip(3));
            let transport = TransportLayerTransport::<_, Costly>::with_config(
                network,
                credential.clone(),
                config,
            );
            let socket = transport.open((ip(3), 0).into()).await.unwrap();
            let connection = socket.get_or_create_outgoing_connection(addr(1));
            if connection.unwrap().connected(secs(1)).await.is_ok() {
                moves.fetch_add(1, Ordering::Relaxed);
            }
            socket.shutdown(secs(1)).await;
            // A few times in each turn.
            tokio::time::sleep(ms(20)).await;
        }
    };
    let honest = open(4, config()).await;
    let received = async {
        while moves.load(Ordering::Relaxed) < 3 {
            node.recv().await.unwrap();
        }
        let message = Costly(Bytes::from_static(MARK));
        honest.send(addr(1), message).await.unwrap();
        let mut others = 0;
        while node.recv().await.unwrap().1.0 != MARK {
            others += 1;
        }
        others
    };
    let others = tokio::select! {
        others = received => others,
        () = moving => unreachable!(),
    };
    let moves = moves.into_inner();
    // The message whose turn it was, and one more if that has just ended.
    assert!(others <= 3, "{others} messages before it, {moves} moves");
}
