//! The peers that are measured.

mod chitchat;
mod floor;
mod framed;
mod noise;
mod our_websocket;
mod ours;
mod quic;
mod stream;
mod tls;
mod websocket;

pub use self::chitchat::{Chitchat, OurTcp, PlainUdp};
pub use floor::Floor;
pub use framed::Framed;
pub use noise::Noise;
pub use our_websocket::OurWebSocket;
pub use ours::{OurSocket, Ours, config, keep_alive_every, network, secret};
pub use quic::Quic;
pub use tls::Tls;
pub use websocket::WebSocket;
