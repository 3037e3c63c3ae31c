//! The messages of the handshake, on both sides.
//!
//! ```text
//! dialler                                             acceptor
//!   preface, e [offered protocols]        ->
//!                                         <-   e, ee, s, es [protocol, your address, rekey,
//!                                              my address]
//!   s, se [rekey, my address]             ->
//!                                         <-   a record: empty if accepted, or a refusal
//! ```
//!
//! The payload of each Noise message is in brackets; `payload` encodes it. The offer is readable on the
//! wire unless there is a cluster secret; the other payloads never are. Each side announces after how
//! many records it changes its sending key, so the two sides may be configured differently.
//!
//! No time limit applies here; see `establish`. Invariant: an acceptor sends its identity only to
//! peers that know the cluster secret, if there is one, and confirms only a peer that it trusts. It
//! sends a reason only to a peer that has authenticated itself, or that speaks another version.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;

use super::error::HandshakeError;
use super::frame::{FrameBuffer, FrameEvent, FrameReader, FrameWriter};
use super::noise::{self, MAX_HANDSHAKE_LEN, Noise, NoiseInputs, Side};
use super::params::HandshakeParams;
use super::payload::{Closing, Offer, Reply, decode_confirmation};
use super::preface::{self, Preface};
use super::record::Opener;
use super::stream::Outbox;
use super::suite::Suite;
use crate::credential::{ClusterSecret, Grounds, Identity, Keyring, NetCredential};
use crate::net::{Alpn, canonical};

/// The result of a handshake: the keys in use, and what the two sides agreed on.
pub(super) struct Established {
    pub(super) remote_identity: Identity,
    /// The secret that both sides have used, if they have used one.
    pub(super) grounds: Grounds,
    pub(super) alpn: Alpn,
    /// Our address as the peer sees it. Only a dialler learns it.
    pub(super) observed_addr: Option<SocketAddr>,
    /// The address at which the peer says that it can be dialled.
    pub(super) stated_addr: Option<SocketAddr>,
    pub(super) outbox: Outbox,
    pub(super) opener: Opener,
}

/// A handshake that failed.
pub(super) struct Failure {
    pub(super) error: HandshakeError,
    /// The reason for the peer, to be written before the carrier is closed. Empty in most cases.
    pub(super) farewell: FrameBuffer,
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        Self {
            error,
            farewell: FrameBuffer::default(),
        }
    }
}

pub(super) async fn dial<R: FrameReader, W: FrameWriter>(
    reader: &mut R,
    writer: &mut W,
    suite: Suite,
    params: &HandshakeParams<'_>,
) -> Result<Established, HandshakeError> {
    let credential = params.credential;
    let keyring = credential.trust().keyring();
    let secret = keyring.as_deref().map(Keyring::first);
    let preface = Preface {
        suite,
        with_secret: secret.is_some(),
    };
    let mut noise = start(preface, Side::Dialler, credential, secret)?;
    let offer = Offer {
        alpns: params.alpn.to_vec(),
    };

    let mut frames = FrameBuffer::default();
    let first = noise.write(&offer.encode()?)?;
    frames.push(&preface.encode());
    frames.push(&first);
    write(writer, &mut frames).await?;

    let answer = read_handshake(reader).await?;
    preface::check_version(&answer)?;
    let reply = noise.read(&answer)?;
    let remote_identity = noise.remote_identity()?;
    let trusted = credential.trust().check(&remote_identity);
    trusted.map_err(|reason| HandshakeError::not_trusted(remote_identity, reason))?;
    let reply = Reply::decode(&reply, params.alpn)?;

    let closing = Closing {
        rekey_after: params.config.rekey_after_records,
        stated_addr: credential.stated_addr(),
    };
    frames.push(&noise.write(&closing.encode())?);
    write(writer, &mut frames).await?;

    let (sealer, mut opener) = noise.split(closing.rekey_after, reply.rekey_after)?;
    let record = read_handshake(reader).await?;
    let opened = params.memory.plaintexts().open(&mut opener, &record);
    let confirmation = opened.map_err(|_| HandshakeError::Decrypt)?.bytes;
    decode_confirmation(&confirmation).map_err(|reason| HandshakeError::Refused { reason })?;
    Ok(Established {
        remote_identity,
        grounds: grounds(secret),
        alpn: reply.alpn,
        observed_addr: reply.observed_addr,
        stated_addr: reply.stated_addr,
        outbox: Outbox::new(sealer),
        opener,
    })
}

pub(super) async fn accept<R: FrameReader, W: FrameWriter>(
    reader: &mut R,
    writer: &mut W,
    params: &HandshakeParams<'_>,
) -> Result<Established, Failure> {
    let credential = params.credential;
    let preface = Preface::decode(&read_frame(reader).await?).map_err(answer_version)?;
    let keyring = credential.trust().keyring();
    if preface.with_secret != keyring.is_some() {
        let suite = preface.suite_code();
        return Err(HandshakeError::SuiteNotAllowed { suite }.into());
    }
    let keyring = keyring.as_deref();
    let first = keyring.map(Keyring::first);
    let mut noise = start(preface, Side::Acceptor, credential, first)?;

    let message = read_handshake(reader).await?;
    let (secret, offer) = match keyring {
        Some(keyring) => {
            let psks = keyring.secrets().map(noise::psk);
            let (index, offer) = noise.read_first(&message, psks)?;
            (keyring.secrets().nth(index), offer)
        }
        None => (None, noise.read(&message)?),
    };
    let offer = Offer::decode(&offer)?;
    let mut offered = offer.alpns.into_iter();
    let alpn = offered.find(|alpn| params.alpn.contains(alpn));
    let reply = Reply {
        alpn: alpn.ok_or(HandshakeError::NoCommonProtocol)?,
        observed_addr: Some(canonical(params.endpoints.remote)),
        rekey_after: params.config.rekey_after_records,
        stated_addr: credential.stated_addr(),
    };
    let mut frames = FrameBuffer::default();
    frames.push(&noise.write(&reply.encode())?);
    write(writer, &mut frames).await?;

    let closing = noise.read(&read_handshake(reader).await?)?;
    let remote_identity = noise.remote_identity()?;
    let closing = Closing::decode(&closing)?;

    let (sealer, opener) = noise.split(reply.rekey_after, closing.rekey_after)?;
    let mut outbox = Outbox::new(sealer);
    let refusal = credential.trust().check(&remote_identity).err();
    let sealed = outbox.confirmation(refusal);
    sealed.map_err(|error| HandshakeError::Internal {
        what: error.to_string(),
    })?;
    if let Some(reason) = refusal {
        return Err(Failure {
            error: HandshakeError::not_trusted(remote_identity, reason),
            farewell: outbox.frames,
        });
    }
    write(writer, &mut outbox.frames).await?;
    Ok(Established {
        remote_identity,
        grounds: grounds(secret),
        alpn: reply.alpn,
        observed_addr: None,
        stated_addr: closing.stated_addr,
        outbox,
        opener,
    })
}

/// Adds the answer to a preface of another version.
fn answer_version(error: HandshakeError) -> Failure {
    let mut farewell = FrameBuffer::default();
    if matches!(error, HandshakeError::UnsupportedVersion { .. }) {
        farewell.push(&preface::version_answer());
    }
    Failure { error, farewell }
}

fn start(
    preface: Preface,
    side: Side,
    credential: &NetCredential,
    secret: Option<&ClusterSecret>,
) -> Result<Noise, HandshakeError> {
    if !noise::is_available(preface.suite) {
        return Err(HandshakeError::SuiteNotAllowed {
            suite: preface.suite_code(),
        });
    }
    let psk = secret.map(noise::psk);
    Noise::new(&NoiseInputs {
        suite: preface.suite,
        side,
        key: credential.key(),
        psk: psk.as_deref(),
        prologue: &preface.prologue(),
    })
}

/// Returns the grounds of a connection whose handshake used this secret.
fn grounds(secret: Option<&ClusterSecret>) -> Grounds {
    secret.map_or(Grounds::Identity, |secret| Grounds::Secret(secret.id()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn a_carrier_that_the_peer_has_closed_is_told_from_one_that_has_failed() {
        for kind in [
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::BrokenPipe,
            io::ErrorKind::UnexpectedEof,
        ] {
            assert!(matches!(carrier(kind.into()), HandshakeError::ClosedByPeer));
        }
        let failed = carrier(io::ErrorKind::InvalidData.into());
        assert!(matches!(failed, HandshakeError::Carrier(_)));
    }

    /// Delivers frames of these lengths.
    struct Frames(Vec<usize>);

    impl FrameReader for Frames {
        async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
            let frame = self.0.pop().map(BytesMut::zeroed);
            Ok(frame.map(FrameEvent::Frame))
        }
    }

    #[test]
    fn a_frame_of_the_handshake_may_be_as_long_as_the_limit_and_no_longer() {
        let mut frames = Frames(vec![MAX_HANDSHAKE_LEN + 1, MAX_HANDSHAKE_LEN, 0]);
        let mut read = || read_handshake(&mut frames).now_or_never().unwrap();
        for len in [0, MAX_HANDSHAKE_LEN] {
            assert_eq!(read().unwrap().len(), len);
        }
        let refused = read();
        let Err(HandshakeError::Oversized { len, max }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((len, max), (MAX_HANDSHAKE_LEN + 1, MAX_HANDSHAKE_LEN));
    }
}
