//! The messages of the handshake, on both sides.
//!
//! ```text
//! dialler                                             acceptor
//!   preface [, claims of an invite]       ->
//!   e [offered protocols]                 ->
//!                                         <-   e, ee, s, es [protocol, your address, rekey,
//!                                              my address]
//!   s, se [rekey, my address, challenge]  ->
//!                                         <-   a record: the proof, if there was a challenge; then
//!                                              nothing if accepted, or a refusal
//! ```
//!
//! The payload of each Noise message is in brackets; `payload` encodes it. The offer is readable on the
//! wire unless there is a pre-shared key, and claims always are; the other payloads never are. Each side announces
//! after how many records it changes its sending key, so the two sides may be configured differently.
//!
//! A dialler with an invite asks the acceptor to prove that it knows the secret of the invite, and believes nothing
//! else before. An acceptor looks at what the claims say only when the dialler has shown, in its last message, that
//! it has not repeated those of another, since the first one can be.
//!
//! No time limit applies here; see `establish`. Invariant: an acceptor sends its identity only to
//! peers that know the cluster secret or the key of an invite, if there are secrets, and confirms only a peer that it
//! trusts. It sends a reason only to a peer that has authenticated itself, or that speaks another version.

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;

use super::error::HandshakeError;
use super::frame::{FrameBuffer, FrameEvent, FrameReader, FrameWriter};
use super::noise::{self, MAX_HANDSHAKE_LEN, Noise, NoiseInputs, Side};
use super::params::HandshakeParams;
use super::payload::{self, AlpnOffer, Closing, Reply};
use super::preface::{self, Preface, PskKind};
use super::record::Opener;
use super::stream::Packer;
use super::suite::Suite;
use crate::credential::{
    Access, Challenge, Claims, ClusterSecret, CoreProof, Grounds, Identity, InviteKey,
    NetCredential, Proved, Refusal,
};
use crate::net::{Alpn, canonical};

/// The result of a handshake: the keys in use, and what the two sides agreed on.
pub(super) struct Established {
    pub(super) remote_identity: Identity,
    /// What the peer has proved besides.
    pub(super) proved: Proved,
    pub(super) alpn: Alpn,
    /// Our address as the peer sees it. Only a dialler learns it.
    pub(super) observed_addr: Option<SocketAddr>,
    /// The address at which the peer says that it can be dialled.
    pub(super) stated_addr: Option<SocketAddr>,
    pub(super) packer: Packer,
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
    let access = credential.trust().access();
    let (kind, psk, claims) = match &access {
        Access::Open => (PskKind::None, None, Vec::new()),
        Access::Secrets(keyring) => {
            let psk = noise::psk(keyring.first());
            (PskKind::Secret, Some(psk), Vec::new())
        }
        Access::Invite(invite) => {
            let claims = invite.claims().encode();
            (PskKind::Invite, Some(invite.key().psk()), claims)
        }
    };
    let preface = Preface { suite, psk: kind };
    let psk = psk.as_deref();
    let mut noise = start(preface, Side::Dialler, credential, psk, &claims)?;
    let offer = AlpnOffer {
        alpns: params.alpn.to_vec(),
    };

    let mut frames = FrameBuffer::default();
    let first = noise.write(&offer.encode()?)?;
    frames.push(&preface.encode());
    if kind == PskKind::Invite {
        frames.push(&claims);
    }
    frames.push(&first);
    write(writer, &mut frames).await?;

    let answer = read_handshake(reader).await?;
    preface::check_version(&answer)?;
    let reply = noise.read(&answer)?;
    let remote_identity = noise.remote_identity()?;
    let trusted = credential.trust().check(&remote_identity);
    trusted.map_err(|reason| HandshakeError::not_trusted(remote_identity, reason))?;
    let reply = Reply::decode(&reply, params.alpn)?;

    let challenge = match kind {
        PskKind::Invite => Some(Challenge::generate().ok_or(HandshakeError::Internal {
            what: "the system has no source of randomness".to_owned(),
        })?),
        PskKind::None | PskKind::Secret => None,
    };
    let closing = Closing {
        rekey_after: params.config.rekey_after_records,
        stated_addr: credential.stated_addr(),
        challenge: challenge.as_ref().map(Challenge::public),
    };
    frames.push(&noise.write(&closing.encode())?);
    write(writer, &mut frames).await?;

    let hash = noise.hash();
    let (sealer, mut opener) = noise.split(closing.rekey_after, reply.rekey_after)?;
    let record = read_handshake(reader).await?;
    let opened = params.memory.plaintexts().open(&mut opener, &record);
    let confirmation = opened.map_err(|_| HandshakeError::Decrypt)?.bytes;
    let mut confirmation = &confirmation[..];
    let proved = match (&access, &challenge) {
        (Access::Invite(invite), Some(challenge)) => {
            let is_core =
                |proof: &[u8]| challenge.is_answered_by(proof, invite.cluster_key(), &hash);
            let split = payload::split_proof(confirmation).filter(|(proof, _)| is_core(proof));
            let not_core = HandshakeError::NotCore {
                identity: remote_identity,
            };
            (_, confirmation) = split.ok_or(not_core)?;
            let invite = invite.claims().id();
            Proved::new(Grounds::Core { invite }, None)
        }
        (Access::Secrets(keyring), _) => keyring.proved(0).unwrap_or_default(),
        _ => Proved::IDENTITY,
    };
    let accepted = payload::decode_confirmation(confirmation);
    accepted.map_err(|reason| {
        if let (Refusal::Expired, Access::Invite(invite)) = (reason, &access) {
            credential.trust().note_expired(invite.claims().id());
        }
        HandshakeError::Refused {
            reason: explained(reason, &access, &credential.identity()),
        }
    })?;
    Ok(Established {
        remote_identity,
        proved,
        alpn: reply.alpn,
        observed_addr: reply.observed_addr,
        stated_addr: reply.stated_addr,
        packer: Packer::new(sealer),
        opener,
    })
}

/// Returns the reason as a dialler explains it. An acceptor has one code for a key that is not on its list and for one
/// that is not the holder of the invite; the dialler's own invite says which it is.
fn explained(reason: Refusal, access: &Access, own: &Identity) -> Refusal {
    match (reason, access) {
        (Refusal::Key, Access::Invite(invite)) if !invite.claims().holder().allows(own) => {
            Refusal::Holder
        }
        (reason, _) => reason,
    }
}

pub(super) async fn accept<R: FrameReader, W: FrameWriter>(
    reader: &mut R,
    writer: &mut W,
    params: &HandshakeParams<'_>,
) -> Result<Established, Failure> {
    let credential = params.credential;
    let trust = credential.trust();
    let preface = Preface::decode(&read_frame(reader).await?).map_err(answer_version)?;
    let keyring = match (trust.access(), preface.psk) {
        (Access::Open, PskKind::None) => None,
        (Access::Secrets(keyring), PskKind::Secret) => Some(keyring),
        (Access::Secrets(keyring), PskKind::Invite) if trust.accepts_invites() => Some(keyring),
        (Access::Open | Access::Secrets(_), PskKind::Invite) => {
            return Err(HandshakeError::ClaimsNotAccepted.into());
        }
        (Access::Invite(_), _) => return Err(HandshakeError::HoldsInvite.into()),
        (Access::Open | Access::Secrets(_), _) => {
            let suite = preface.suite_code();
            return Err(HandshakeError::SuiteNotAllowed { suite }.into());
        }
    };
    let claims = match preface.psk {
        PskKind::Invite => Some(read_claims(reader).await?),
        PskKind::None | PskKind::Secret => None,
    };
    let claimed = claims.as_ref().map_or(&[][..], |(bytes, _)| bytes);
    // The key follows from the first message, as soon as it is known which one it is.
    let no_psk = keyring.is_some().then_some(&[0; 32]);
    let mut noise = start(preface, Side::Acceptor, credential, no_psk, claimed)?;

    let message = read_handshake(reader).await?;
    let (index, offer) = match keyring.as_deref() {
        Some(keyring) => {
            let psks = keyring.secrets().map(|secret| match &claims {
                Some((bytes, _)) => InviteKey::derive(secret, bytes).psk(),
                None => noise::psk(secret),
            });
            noise.read_first(&message, psks)?
        }
        None => (0, noise.read(&message)?),
    };
    let secret = keyring
        .as_deref()
        .and_then(|ring| ring.secrets().nth(index));
    let offer = AlpnOffer::decode(&offer)?;
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
    let closing = Closing::decode(&closing, claims.is_some())?;
    let proof = match (&closing.challenge, secret) {
        (Some(challenge), Some(secret)) => Some(prove_core(secret, challenge, &noise.hash())?),
        _ => None,
    };
    let claims = claims.map(|(_, claims)| claims);

    let (sealer, opener) = noise.split(reply.rekey_after, closing.rekey_after)?;
    let mut packer = Packer::new(sealer);
    let judged = match &claims {
        Some(claims) => trust.check_claims(&remote_identity, claims),
        None => trust.check(&remote_identity),
    };
    let refusal = judged.err();
    let confirmation = payload::encode_confirmation(proof.as_ref(), refusal);
    let sealed = packer.confirmation(&confirmation);
    sealed.map_err(|error| HandshakeError::Internal {
        what: error.to_string(),
    })?;
    if let Some(reason) = refusal {
        return Err(Failure {
            error: HandshakeError::not_trusted(remote_identity, reason),
            farewell: packer.frames,
        });
    }
    write(writer, &mut packer.frames).await?;
    let proved = match (secret.map(ClusterSecret::id), claims) {
        (Some(secret), Some(claims)) => {
            let id = claims.id();
            Proved::new(Grounds::Invite { id, secret }, Some(claims))
        }
        (Some(_), None) => keyring
            .and_then(|ring| ring.proved(index))
            .unwrap_or_default(),
        (None, _) => Proved::IDENTITY,
    };
    Ok(Established {
        remote_identity,
        proved,
        alpn: reply.alpn,
        observed_addr: None,
        stated_addr: closing.stated_addr,
        packer,
        opener,
    })
}

/// Reads the claims of an invite. Returns them as received, since the key depends on each byte, and decoded.
async fn read_claims<R: FrameReader>(reader: &mut R) -> Result<(BytesMut, Claims), HandshakeError> {
    let bytes = read_at_most(reader, Claims::MAX_LEN).await?;
    let claims = Claims::decode(&bytes).map_err(HandshakeError::Claims)?;
    Ok((bytes, claims))
}

/// Returns the answer to the challenge of a holder of an invite that was issued with `secret`.
fn prove_core(
    secret: &ClusterSecret,
    challenge: &[u8; Challenge::LEN],
    hash: &[u8; 32],
) -> Result<CoreProof, HandshakeError> {
    CoreProof::new(secret.cluster_key(), challenge, hash).ok_or(HandshakeError::Malformed {
        what: "a challenge of low order",
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
    psk: Option<&[u8; 32]>,
    claims: &[u8],
) -> Result<Noise, HandshakeError> {
    if !noise::is_available(preface.suite) {
        return Err(HandshakeError::SuiteNotAllowed {
            suite: preface.suite_code(),
        });
    }
    Noise::new(&NoiseInputs {
        suite: preface.suite,
        side,
        key: credential.key(),
        psk,
        prologue: &preface.prologue(claims),
    })
}

async fn write<W: FrameWriter>(
    writer: &mut W,
    frames: &mut FrameBuffer,
) -> Result<(), HandshakeError> {
    writer.write_frames(frames).await.map_err(carrier)
}

async fn read_handshake<R: FrameReader>(reader: &mut R) -> Result<BytesMut, HandshakeError> {
    read_at_most(reader, MAX_HANDSHAKE_LEN).await
}

async fn read_at_most<R: FrameReader>(
    reader: &mut R,
    max: usize,
) -> Result<BytesMut, HandshakeError> {
    let frame = read_frame(reader).await?;
    let len = frame.len();
    if len > max {
        return Err(HandshakeError::Oversized { len, max });
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
