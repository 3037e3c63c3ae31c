//! The peers that are measured.

mod chitchat;
mod floor;
mod framed;
mod noise;
mod our_tls;
mod our_websocket;
mod ours;
mod quic;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod tls_frames;
mod tls_settings;
mod tls_websocket;
mod websocket;

pub use self::chitchat::{Chitchat, OurTcp, PlainUdp};
pub use floor::Floor;
pub use framed::Framed;
pub use noise::Noise;
pub use our_tls::OurTls;
pub use our_websocket::{OurWebSocket, OurWss, OurWssAes};
pub use ours::{OurSocket, Ours, config, keep_alive_every, network, secret};
pub use quic::Quic;
pub use tls::Tls;
pub use tls_frames::TlsFrames;
pub use tls_settings::{Negotiated, negotiated};
pub use tls_websocket::TlsWebSocket;
pub use websocket::WebSocket;
