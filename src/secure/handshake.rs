//! The messages of the handshake, on both sides.
//!
//! ```text
//! dialler                                             acceptor
//!   preface, e [offered protocols]        ->
//!                                         <-   e, ee, s, es [protocol, your address, rekey]
//!   s, se [rekey]                         ->
//!                                         <-   an empty record: accepted
//! ```
//!
//! The payload of each Noise message is in brackets. The offer is readable on the wire unless there
//! is a cluster secret; the other payloads never are. Bytes after the part of a payload that
//! version 1 defines are ignored, as room for later versions. Each side announces after how many
//! records it changes its sending key, so the two sides may be configured differently.
//!
//! No time limit applies here; see `establish`. Invariant: an acceptor sends its identity only to
//! peers that know the cluster secret, if there is one, and confirms only a peer that it trusts. A
//! peer that is refused receives no reason.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, BufMut, BytesMut};

use super::config::SecureConfig;
use super::error::HandshakeError;
use super::frame::{FrameBuffer, FrameEvent, FrameReader, FrameWriter};
use super::noise::{self, MAX_HANDSHAKE_LEN, Noise, NoiseInputs, Side};
use super::preface::Preface;
use super::record::Opener;
use super::stream::Outbox;
use super::suite::Suite;
use crate::credential::{Identity, NetCredential};
use crate::net::Alpn;

/// The result of a handshake: the keys in use, and what the two sides agreed on.
pub(super) struct Established {
    pub(super) remote_identity: Identity,
    pub(super) alpn: Alpn,
    /// Our address as the peer sees it. Only a dialler learns it.
    pub(super) observed_addr: Option<SocketAddr>,
    pub(super) outbox: Outbox,
    pub(super) opener: Opener,
}

pub(super) async fn dial<R: FrameReader, W: FrameWriter>(
    reader: &mut R,
    writer: &mut W,
    suite: Suite,
    alpn_preferred: &[Alpn],
    credential: &NetCredential,
    config: &SecureConfig,
) -> Result<Established, HandshakeError> {
    let preface = Preface {
        suite,
        with_secret: credential.trust().cluster_secret().is_some(),
    };
    let mut noise = start(preface, Side::Dialler, credential)?;
    let offer = encode_offer(alpn_preferred)?;

    let mut frames = FrameBuffer::default();
    frames.push(&preface.encode());
    frames.push(&noise.write(&offer)?);
    write(writer, &mut frames).await?;

    let reply = noise.read(&read_handshake(reader).await?)?;
    let remote_identity = trusted_peer(&noise, credential)?;
    let reply = Reply::decode(&reply, alpn_preferred)?;

    let rekey_sent_after = config.rekey_after_records;
    frames.push(&noise.write(&rekey_sent_after.to_be_bytes())?);
    write(writer, &mut frames).await?;

    let (sealer, mut opener) = noise.split(rekey_sent_after, reply.rekey_after)?;
    let mut confirmation = read_handshake(reader).await?;
    let opened = opener.open(&mut confirmation);
    opened.map_err(|_| HandshakeError::Decrypt)?;
    if !confirmation.is_empty() {
        return Err(HandshakeError::Malformed {
            what: "a confirmation that is not empty",
        });
    }
    Ok(Established {
        remote_identity,
        alpn: reply.alpn,
        observed_addr: Some(reply.observed_addr),
        outbox: Outbox::new(sealer),
        opener,
    })
}

pub(super) async fn accept<R: FrameReader, W: FrameWriter>(
    reader: &mut R,
    writer: &mut W,
    remote_addr: SocketAddr,
    alpn_supported: &[Alpn],
    credential: &NetCredential,
    config: &SecureConfig,
) -> Result<Established, HandshakeError> {
    let preface = Preface::decode(&read_frame(reader).await?)?;
    let with_secret = credential.trust().cluster_secret().is_some();
    if preface.with_secret != with_secret {
        return Err(HandshakeError::SuiteNotAllowed {
            suite: preface.suite_code(),
        });
    }
    let mut noise = start(preface, Side::Acceptor, credential)?;

    let offer = noise.read(&read_handshake(reader).await?)?;
    let offer = decode_offer(&offer)?;
    let alpn = offer.into_iter().find(|alpn| alpn_supported.contains(alpn));
    let alpn = alpn.ok_or(HandshakeError::NoCommonProtocol)?;

    let reply = Reply {
        alpn,
        observed_addr: remote_addr,
        rekey_after: config.rekey_after_records,
    };
    let mut frames = FrameBuffer::default();
    frames.push(&noise.write(&reply.encode())?);
    write(writer, &mut frames).await?;

    let last = noise.read(&read_handshake(reader).await?)?;
    let remote_identity = trusted_peer(&noise, credential)?;
    let rekey_received_after = decode_rekey(&mut last.as_slice())?;

    let (sealer, opener) = noise.split(reply.rekey_after, rekey_received_after)?;
    let mut outbox = Outbox::new(sealer);
    let sealed = outbox.keepalive();
    sealed.map_err(|error| HandshakeError::Internal {
        what: error.to_string(),
    })?;
    write(writer, &mut outbox.frames).await?;
    Ok(Established {
        remote_identity,
        alpn: reply.alpn,
        observed_addr: None,
        outbox,
        opener,
    })
}

fn start(
    preface: Preface,
    side: Side,
    credential: &NetCredential,
) -> Result<Noise, HandshakeError> {
    if !noise::is_available(preface.suite) {
        return Err(HandshakeError::SuiteNotAllowed {
            suite: preface.suite_code(),
        });
    }
    let psk = credential.trust().cluster_secret().map(noise::psk);
    Noise::new(&NoiseInputs {
        suite: preface.suite,
        side,
        secret_key: credential.secret_key(),
        psk: psk.as_deref(),
        prologue: &preface.prologue(),
    })
}

fn trusted_peer(noise: &Noise, credential: &NetCredential) -> Result<Identity, HandshakeError> {
    let identity = noise.remote_identity()?;
    if credential.trust().allows(&identity) {
        Ok(identity)
    } else {
        Err(HandshakeError::UntrustedPeer { identity })
    }
}

async fn write<W: FrameWriter>(
    writer: &mut W,
    frames: &mut FrameBuffer,
) -> Result<(), HandshakeError> {
    writer.write_frames(frames).await.map_err(carrier)
}

async fn read_handshake<R: FrameReader>(reader: &mut R) -> Result<BytesMut, HandshakeError> {
    let frame = read_frame(reader).await?;
    if frame.len() > MAX_HANDSHAKE_LEN {
        return Err(HandshakeError::Oversized {
            len: frame.len(),
            max: MAX_HANDSHAKE_LEN,
        });
    }
    Ok(frame)
}

async fn read_frame<R: FrameReader>(reader: &mut R) -> Result<BytesMut, HandshakeError> {
    loop {
        match reader.read_frame().await.map_err(carrier)? {
            Some(FrameEvent::Frame(frame)) => return Ok(frame),
            Some(FrameEvent::Activity) => {}
            None => return Err(HandshakeError::ClosedByPeer),
        }
    }
}

/// Converts an error of the carrier. If the peer closes while bytes are on their way, the network
/// reports one of several kinds of error, depending on the bytes.
fn carrier(error: io::Error) -> HandshakeError {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => HandshakeError::ClosedByPeer,
        _ => HandshakeError::Carrier(error),
    }
}

/// The acceptor's payload.
struct Reply {
    alpn: Alpn,
    observed_addr: SocketAddr,
    rekey_after: u64,
}

impl Reply {
    fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        encode_alpn(&mut payload, &self.alpn);
        match self.observed_addr.ip() {
            IpAddr::V4(ip) => {
                payload.put_u8(4);
                payload.put_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                payload.put_u8(6);
                payload.put_slice(&ip.octets());
            }
        }
        payload.put_u16(self.observed_addr.port());
        payload.put_u64(self.rekey_after);
        payload
    }

    fn decode(mut payload: &[u8], offered: &[Alpn]) -> Result<Self, HandshakeError> {
        let alpn = decode_alpn(&mut payload)?;
        if !offered.contains(&alpn) {
            return Err(HandshakeError::NoCommonProtocol);
        }
        let ip: IpAddr = match payload.try_get_u8().map_err(cut_short)? {
            4 => payload
                .try_get_u32()
                .map_err(cut_short)?
                .to_be_bytes()
                .into(),
            6 => payload
                .try_get_u128()
                .map_err(cut_short)?
                .to_be_bytes()
                .into(),
            _ => {
                return Err(HandshakeError::Malformed {
                    what: "unknown kind of address",
                });
            }
        };
        let port = payload.try_get_u16().map_err(cut_short)?;
        Ok(Self {
            alpn,
            observed_addr: SocketAddr::new(ip, port),
            rekey_after: decode_rekey(&mut payload)?,
        })
    }
}

/// Encodes the dialler's payload: the number of names as one byte, then each name after its length.
fn encode_offer(alpns: &[Alpn]) -> Result<Vec<u8>, HandshakeError> {
    if alpns.is_empty() {
        return Err(HandshakeError::NoCommonProtocol);
    }
    let count = u8::try_from(alpns.len()).map_err(|_| HandshakeError::Oversized {
        len: alpns.len(),
        max: usize::from(u8::MAX),
    })?;
    let mut payload = vec![count];
    for alpn in alpns {
        encode_alpn(&mut payload, alpn);
    }
    Ok(payload)
}

fn decode_offer(mut payload: &[u8]) -> Result<Vec<Alpn>, HandshakeError> {
    let count = payload.try_get_u8().map_err(cut_short)?;
    (0..count).map(|_| decode_alpn(&mut payload)).collect()
}

fn encode_alpn(payload: &mut Vec<u8>, alpn: &Alpn) {
    // An `Alpn` is at most 255 bytes long.
    payload.put_u8(u8::try_from(alpn.as_bytes().len()).unwrap_or(u8::MAX));
    payload.put_slice(alpn.as_bytes());
}

fn decode_alpn(payload: &mut &[u8]) -> Result<Alpn, HandshakeError> {
    let len = usize::from(payload.try_get_u8().map_err(cut_short)?);
    let bytes: &[u8] = payload;
    let (name, _) = bytes
        .split_at_checked(len)
        .ok_or(HandshakeError::Malformed { what: CUT_SHORT })?;
    let alpn = Alpn::new(name.to_vec()).ok_or(HandshakeError::Malformed {
        what: "a protocol without a name",
    })?;
    payload.advance(len);
    Ok(alpn)
}

fn decode_rekey(payload: &mut &[u8]) -> Result<u64, HandshakeError> {
    match payload.try_get_u64().map_err(cut_short)? {
        0 => Err(HandshakeError::Malformed {
            what: "a rekey interval of zero",
        }),
        after => Ok(after),
    }
}

const CUT_SHORT: &str = "a payload that is cut short";

fn cut_short(_: bytes::TryGetError) -> HandshakeError {
    HandshakeError::Malformed { what: CUT_SHORT }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Alpn = Alpn::from_static(b"a/1");
    const B: Alpn = Alpn::from_static(b"b/1");

    fn reply(observed_addr: &str) -> Reply {
        Reply {
            alpn: A,
            observed_addr: observed_addr.parse().unwrap(),
            rekey_after: 7,
        }
    }

    #[test]
    fn payloads_decode_as_encoded_and_bytes_after_them_are_ignored() {
        let mut offer = encode_offer(&[A, B]).unwrap();
        offer.extend_from_slice(b"later");
        assert_eq!(decode_offer(&offer).unwrap(), [A, B]);
        for addr in ["192.0.2.1:1", "[2001:db8::1]:65535"] {
            let mut payload = reply(addr).encode();
            payload.extend_from_slice(b"later");
            let read = Reply::decode(&payload, &[B, A]).unwrap();
            assert_eq!(read.observed_addr.to_string(), addr);
            assert_eq!((read.alpn, read.rekey_after), (A, 7));
        }
    }

    #[test]
    fn a_payload_that_is_cut_short_anywhere_is_malformed() {
        let malformed = |error| matches!(error, HandshakeError::Malformed { .. });
        let offer = encode_offer(&[A, B]).unwrap();
        for len in 0..offer.len() {
            assert!(malformed(decode_offer(&offer[..len]).unwrap_err()), "{len}");
        }
        let payload = reply("[2001:db8::1]:1").encode();
        for len in 0..payload.len() {
            let error = Reply::decode(&payload[..len], &[A]).err().unwrap();
            assert!(malformed(error), "{len}");
        }
    }

    #[test]
    fn a_reply_with_a_protocol_that_was_not_offered_is_refused() {
        let payload = reply("192.0.2.1:1").encode();
        let error = Reply::decode(&payload, &[B]).err().unwrap();
        assert!(matches!(error, HandshakeError::NoCommonProtocol));
    }
}
