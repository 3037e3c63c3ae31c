//! The envelope around a message: magic number, version and type, followed by the body.
//!
//! The bodies (digests and deltas) have their layouts in files of their own. Invariant: a message
//! fills its bytes exactly.

use bytes::BytesMut;

use super::error::{DecodeError, EncodeError};
use super::field::{put_str, str_len};
use super::model::{ChitchatMessage, ProtocolVersion};
use super::reader::Reader;
use super::{delta, digest};

/// The number that every chitchat message starts with, little-endian.
const MAGIC: u16 = 45_139;

const TYPE_SYN: u8 = 0;
const TYPE_SYN_ACK: u8 = 1;
const TYPE_ACK: u8 = 2;
const TYPE_BAD_CLUSTER: u8 = 3;

/// The longest message that fits into a UDP datagram over IPv4, in bytes. Upstream neither sends nor
/// accepts longer ones.
pub const MAX_DATAGRAM_LEN: usize = 65_507;

/// Length of a message's magic number, version and type, in bytes.
///
/// A SynAck consists of these, its digest and its delta, an Ack of these and its delta, and a
/// BadCluster of these alone. A Syn has a cluster id as well; see [`syn_overhead`].
pub const HEADER_LEN: usize = 2 + 1 + 1;

/// Returns the length of a Syn without its digest, in bytes.
pub fn syn_overhead(cluster_id: &str) -> usize {
    HEADER_LEN.saturating_add(str_len(cluster_id))
}

pub(super) fn write(buffer: &mut BytesMut, message: &ChitchatMessage) -> Result<(), EncodeError> {
    let (code, version) = (type_code(message), message.version());
    buffer.extend_from_slice(&MAGIC.to_le_bytes());
    buffer.extend_from_slice(&[version_code(version), code]);
    match message {
        ChitchatMessage::Syn {
            cluster_id, digest, ..
        } => {
            digest::write(buffer, digest, version)?;
            put_str(buffer, cluster_id, "a cluster id")
        }
        ChitchatMessage::SynAck { digest, delta, .. } => {
            digest::write(buffer, digest, version)?;
            delta::write(buffer, delta)
        }
        ChitchatMessage::Ack { delta, .. } => delta::write(buffer, delta),
        ChitchatMessage::BadCluster { .. } => Ok(()),
    }
}

/// Returns whether `bytes` start with the header of a chitchat message. The bytes after it are not
/// checked, so this is cheap.
pub fn begins_a_message(bytes: &[u8]) -> bool {
    let [low, high] = MAGIC.to_le_bytes();
    matches!(bytes, [a, b, 0 | 1, TYPE_SYN..=TYPE_BAD_CLUSTER, ..] if (*a, *b) == (low, high))
}

pub(super) fn read(bytes: &[u8]) -> Result<ChitchatMessage, DecodeError> {
    let mut reader = Reader::new(bytes);
    let magic = reader.u16("the magic number")?;
    if magic != MAGIC {
        return Err(DecodeError::WrongMagic { got: magic });
    }
    let version = match reader.u8("the protocol version")? {
        0 => ProtocolVersion::V0,
        1 => ProtocolVersion::V1,
        got => return Err(DecodeError::UnknownVersion { got }),
    };
    let message = match reader.u8("the message type")? {
        TYPE_SYN => {
            let digest = digest::read(&mut reader, version)?;
            let cluster_id = reader.str("a cluster id")?.to_owned();
            ChitchatMessage::Syn {
                version,
                cluster_id,
                digest,
            }
        }
        TYPE_SYN_ACK => ChitchatMessage::SynAck {
            version,
            digest: digest::read(&mut reader, version)?,
            delta: delta::read(&mut reader)?,
        },
        TYPE_ACK => ChitchatMessage::Ack {
            version,
            delta: delta::read(&mut reader)?,
        },
        TYPE_BAD_CLUSTER => ChitchatMessage::BadCluster { version },
        got => return Err(DecodeError::UnknownType { got }),
    };
    reader.finish()?;
    Ok(message)
}

fn version_code(version: ProtocolVersion) -> u8 {
    match version {
        ProtocolVersion::V0 => 0,
        ProtocolVersion::V1 => 1,
    }
}

fn type_code(message: &ChitchatMessage) -> u8 {
    match message {
        ChitchatMessage::Syn { .. } => TYPE_SYN,
        ChitchatMessage::SynAck { .. } => TYPE_SYN_ACK,
        ChitchatMessage::Ack { .. } => TYPE_ACK,
        ChitchatMessage::BadCluster { .. } => TYPE_BAD_CLUSTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_begins_with_its_magic_number_a_known_version_and_a_known_type() {
        let [low, high] = MAGIC.to_le_bytes();
        for version in 0..=3 {
            for code in 0..=5 {
                let header = [low, high, version, code];
                let is_known = version < 2 && code < 4;
                assert_eq!(begins_a_message(&header), is_known, "{header:?}");
                let longer = [&header[..], b"body"].concat();
                assert_eq!(begins_a_message(&longer), is_known);
                assert!(!begins_a_message(&header[..HEADER_LEN - 1]));
                assert!(!begins_a_message(&[low + 1, high, version, code]));
                assert!(!begins_a_message(&[low, high + 1, version, code]));
            }
        }
    }
}
