//! Encrypted and authenticated connections over any carrier of frames.
//!
//! [`dial`] and [`accept`] run a Noise handshake over the two halves of a carrier ([`FrameReader`],
//! [`FrameWriter`]) and return a [`SecureConnection`]. The bytes are the same over TCP, WebSocket
//! and memory, so identity and encryption hold end to end, through proxies and relays, with or
//! without TLS outside.
//!
//! This module opens no sockets and has no plaintext mode. Invariant: nothing that a peer sends is
//! handed to the caller before the peer has proved its identity and is trusted.
//!
//! | file | contents |
//! |---|---|
//! | `config` | [`SecureConfig`]: limits, with their defaults and bounds |
//! | `suite` | [`Suite`]: the cipher of a connection |
//! | `frame` | frames, and the traits of a carrier |
//! | `preface` | the dialler's first frame: version and suite, bound into the handshake |
//! | `params` | [`HandshakeParams`]: what one side brings into a handshake |
//! | `payload` | the payloads of the handshake's messages |
//! | `noise` | one Noise handshake, computed by snow |
//! | `handshake` | the messages of the handshake: protocols, trust, confirmation or refusal |
//! | `establish` | [`dial`] and [`accept`]: the handshake with its time limit |
//! | `record` | the cipher state: sealing in place, opening to other memory, rekeying |
//! | `plaintext` | the plaintext of records, and the memory of it that messages share |
//! | `stream` | messages and control words inside records |
//! | `partial` | messages that have been received in part, and their common limit |
//! | `receive_memory` | [`ReceiveMemory`]: the bounds that all connections of a network share |
//! | `writing` | the carrier's writing half, and what it has not taken yet |
//! | `owed` | probes and answers that wait for a writer |
//! | `connection` | [`SecureConnection`]: sending, receiving, closing |
//! | `activity` | when the peer was last heard, and last answered a probe |
//! | `ending` | why the connection ended, and the tasks that wait for its end |
//! | `error` | [`HandshakeError`] and [`FrameError`] |

mod activity;
mod config;
mod connection;
mod ending;
mod error;
mod establish;
mod frame;
mod handshake;
mod noise;
mod owed;
mod params;
mod partial;
mod payload;
mod plaintext;
mod preface;
mod receive_memory;
mod record;
mod stream;
mod suite;
mod writing;

pub use config::SecureConfig;
pub use connection::SecureConnection;
pub use error::{FrameError, HandshakeError};
pub use establish::{accept, dial};
pub use frame::{FrameBuffer, FrameEvent, FrameReader, FrameWriter, MAX_FRAME_LEN};
pub use params::{Endpoints, HandshakeParams};
pub use preface::PREFACE_START;
pub use receive_memory::ReceiveMemory;
pub use suite::Suite;

pub use crate::credential::Refusal;
