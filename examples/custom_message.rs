//! Sockets that carry a message type of your own instead of the messages of the gossip protocol.
//!
//! ```sh
//! cargo run --example custom_message
//! ```

use std::net::{Ipv4Addr, SocketAddr};

use bytes::{BufMut as _, Bytes, BytesMut};
use gossip_transport::message::{DecodeError, EncodeError};
use gossip_transport::net::Alpn;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{ClusterSecret, Message, NetCredential, TransportLayerTransport, Trust};

/// A line of a conversation. On the wire: a room number as a big-endian `u16`, then the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) room: u16,
    pub(crate) text: String,
}

impl Message for Line {
    /// Both ends of a connection must name the same protocol. Change it when the format changes.
    const ALPN: Alpn = Alpn::from_static(b"example-lines/1");

    fn encode(&self, buffer: &mut BytesMut) -> Result<(), EncodeError> {
        if self.room == 0 {
            return Err(EncodeError::custom("the rooms are counted from 1"));
        }
        buffer.put_u16(self.room);
        buffer.put_slice(self.text.as_bytes());
        Ok(())
    }

    /// `bytes` come from the network and may be anything. After an error the message is dropped and
    /// counted, and the connection stays open.
    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let Some((room, text)) = bytes.split_first_chunk() else {
            return Err(DecodeError::Truncated {
                field: "the room",
                missing: 2 - bytes.len(),
            });
        };
        let room = u16::from_be_bytes(*room);
        if room == 0 {
            return Err(DecodeError::custom("the rooms are counted from 1"));
        }
        let text = std::str::from_utf8(text).map_err(|error| DecodeError::NotUtf8 {
            field: "the text",
            valid_up_to: error.valid_up_to(),
        })?;
        Ok(Self {
            room,
            text: text.to_owned(),
        })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    run(|line| println!("{line}")).await
}

/// Sends a line from one socket to another, and the answer back over the same connection.
pub(crate) async fn run(mut print: impl FnMut(String)) -> anyhow::Result<()> {
    let secret = ClusterSecret::generate();
    let open = async || {
        let credential = NetCredential::generate(Trust::secret(secret.clone()));
        let transport = TransportLayerTransport::new(TcpTransport::default(), credential);
        transport
            .open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .await
    };
    let (ada, bob) = (open().await?, open().await?);

    let (room, text) = (7, "Is anyone here?".to_owned());
    ada.send(bob.local_addr(), Line { room, text }).await?;
    let (from, line): (SocketAddr, Line) = bob.recv().await?;
    print(format!("bob reads in room {}: {}", line.room, line.text));

    let text = "Yes, I am.".to_owned();
    bob.send(from, Line { room, text }).await?;
    let (_, line) = ada.recv().await?;
    print(format!("ada reads in room {}: {}", line.room, line.text));
    Ok(())
}
