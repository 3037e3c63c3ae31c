//! Noise by hand: snow's handshake, records of AES-256-GCM by ring, many messages packed into each.
//!
//! This is what a competent author would write without this crate: the handshake authenticates
//! both sides, a batch of messages is one stream of bytes that is cut into records of up to 64 KiB,
//! and a record is sealed and opened in place. It has no rekeying, no keepalives and no limits
//! beyond those of every stream peer here.

use std::collections::VecDeque;
use std::sync::OnceLock;

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use snow::{Builder, HandshakeState, Keypair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::floor::split_message;
use super::stream::{Carrier, ReadBatch, StreamNode, WriteBatch, cut};

/// Noise over TCP.
pub type Noise = StreamNode<NoiseCarrier>;

const PATTERN: &str = "Noise_XX_25519_AESGCM_BLAKE2s";
/// A handshake message has at most this many bytes.
const HANDSHAKE_LEN: usize = 256;
/// Bytes of the length before each record: a big-endian `u16`.
const LENGTH_LEN: usize = 2;
const TAG_LEN: usize = 16;
/// A record has at most this many bytes of messages: the largest value of the length, less the tag.
const RECORD: usize = u16::MAX as usize - TAG_LEN;
/// Bytes that a read asks for.
const READ: usize = 128 << 10;

/// Carries the floor's frames in encrypted records.
#[derive(Debug)]
pub struct NoiseCarrier;

/// One direction's key and the number of records so far.
#[derive(Debug)]
struct Cipher {
    key: LessSafeKey,
    records: u64,
}

/// Opens records and splits the messages off them.
#[derive(Debug)]
pub struct OpeningReader {
    stream: OwnedReadHalf,
    cipher: Cipher,
    sealed: BytesMut,
    plain: BytesMut,
}

/// Packs messages into records and seals them.
#[derive(Debug)]
pub struct SealingWriter {
    stream: OwnedWriteHalf,
    cipher: Cipher,
    out: Vec<u8>,
    /// Where the body of the unfinished record begins.
    body: usize,
}

impl Carrier for NoiseCarrier {
    const NAME: &'static str = "Noise AES ring, packed";
    type Reader = OpeningReader;
    type Writer = SealingWriter;

    async fn dial(mut stream: TcpStream) -> anyhow::Result<(OpeningReader, SealingWriter)> {
        let mut noise = builder()?.build_initiator()?;
        write_handshake(&mut stream, &mut noise).await?;
        read_handshake(&mut stream, &mut noise).await?;
        write_handshake(&mut stream, &mut noise).await?;
        let (sending, receiving) = noise.dangerously_get_raw_split();
        halves(stream, &noise, sending, receiving)
    }

    async fn accept(mut stream: TcpStream) -> anyhow::Result<(OpeningReader, SealingWriter)> {
        let mut noise = builder()?.build_responder()?;
        read_handshake(&mut stream, &mut noise).await?;
        write_handshake(&mut stream, &mut noise).await?;
        read_handshake(&mut stream, &mut noise).await?;
        let (receiving, sending) = noise.dangerously_get_raw_split();
        halves(stream, &noise, sending, receiving)
    }
}

/// Returns the static key of every node of this process.
fn keypair() -> anyhow::Result<&'static Keypair> {
    static KEYPAIR: OnceLock<Keypair> = OnceLock::new();
    if let Some(keypair) = KEYPAIR.get() {
        return Ok(keypair);
    }
    let keypair = Builder::new(PATTERN.parse()?).generate_keypair()?;
    Ok(KEYPAIR.get_or_init(|| keypair))
}

fn builder() -> anyhow::Result<Builder<'static>> {
    Ok(Builder::new(PATTERN.parse()?).local_private_key(&keypair()?.private)?)
}

async fn write_handshake(stream: &mut TcpStream, noise: &mut HandshakeState) -> anyhow::Result<()> {
    let mut message = [0; HANDSHAKE_LEN];
    let len = noise.write_message(&[], &mut message[1..])?;
    message[0] = len.try_into()?;
    Ok(stream.write_all(&message[..=len]).await?)
}

async fn read_handshake(stream: &mut TcpStream, noise: &mut HandshakeState) -> anyhow::Result<()> {
    let mut message = [0; HANDSHAKE_LEN];
    let len = stream.read_u8().await?.into();
    stream.read_exact(&mut message[..len]).await?;
    noise.read_message(&message[..len], &mut [])?;
    Ok(())
}

fn halves(
    stream: TcpStream,
    noise: &HandshakeState,
    sending: [u8; 32],
    receiving: [u8; 32],
) -> anyhow::Result<(OpeningReader, SealingWriter)> {
    let remote = noise.get_remote_static();
    ensure!(
        remote == Some(&keypair()?.public),
        "the other side has an unknown key"
    );
    let (reading, writing) = stream.into_split();
    let reader = OpeningReader {
        stream: reading,
        cipher: Cipher::new(&receiving)?,
        sealed: BytesMut::new(),
        plain: BytesMut::new(),
    };
    let writer = SealingWriter {
        stream: writing,
        cipher: Cipher::new(&sending)?,
        out: Vec::new(),
        body: 0,
    };
    Ok((reader, writer))
}

impl Cipher {
    fn new(key: &[u8; 32]) -> anyhow::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key).ok();
        let key = LessSafeKey::new(key.context("a key of the wrong length")?);
        Ok(Self { key, records: 0 })
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.records.to_be_bytes());
        self.records += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

impl ReadBatch for OpeningReader {
    async fn read(&mut self, sink: &mut (impl FnMut(Bytes) + Send)) -> anyhow::Result<bool> {
        loop {
            while self.open_record()? {}
            let mut any = false;
            while let Some(message) = split_message(&mut self.plain) {
                sink(message);
                any = true;
            }
            if any {
                return Ok(true);
            }
            self.sealed.reserve(READ);
            if self.stream.read_buf(&mut self.sealed).await? == 0 {
                return if self.sealed.is_empty() && self.plain.is_empty() {
                    Ok(false)
                } else {
                    Err(cut().into())
                };
            }
        }
    }
}

impl OpeningReader {
    /// Opens the next record, if all of it is there.
    fn open_record(&mut self) -> anyhow::Result<bool> {
        let Some(len) = self.sealed.first_chunk::<LENGTH_LEN>() else {
            return Ok(false);
        };
        let len = LENGTH_LEN + usize::from(u16::from_be_bytes(*len));
        if self.sealed.len() < len {
            return Ok(false);
        }
        let mut record = self.sealed.split_to(len);
        let nonce = self.cipher.nonce();
        let body = &mut record[LENGTH_LEN..];
        let opened = self.cipher.key.open_in_place(nonce, Aad::empty(), body);
        let opened = opened.ok().context("a record that was changed")?;
        self.plain.extend_from_slice(opened);
        Ok(true)
    }
}

impl WriteBatch for SealingWriter {
    async fn write(&mut self, messages: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        self.begin_record();
        for message in messages.drain(..) {
            self.pack(&(message.len() as u32).to_be_bytes())?;
            self.pack(&message)?;
        }
        self.seal_record()?;
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }
}

impl SealingWriter {
    fn pack(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        loop {
            let room = RECORD - (self.out.len() - self.body);
            let Some((now, later)) = bytes.split_at_checked(room) else {
                self.out.extend_from_slice(bytes);
                return Ok(());
            };
            self.out.extend_from_slice(now);
            bytes = later;
            self.seal_record()?;
            self.begin_record();
        }
    }

    fn begin_record(&mut self) {
        self.out.put_u16(0);
        self.body = self.out.len();
    }

    fn seal_record(&mut self) -> anyhow::Result<()> {
        let nonce = self.cipher.nonce();
        let body = &mut self.out[self.body..];
        let len = u16::try_from(body.len() + TAG_LEN)?;
        let tag = self
            .cipher
            .key
            .seal_in_place_separate_tag(nonce, Aad::empty(), body);
        let tag = tag.ok().context("a record too long")?;
        self.out.extend_from_slice(tag.as_ref());
        self.out[self.body - LENGTH_LEN..self.body].copy_from_slice(&len.to_be_bytes());
        Ok(())
    }
}
