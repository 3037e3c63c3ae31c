//! Writes the primitives of the format: little-endian integers, strings and addresses.
//!
//! The layout is that of upstream's `serialize.rs` and `types.rs`; `reader` reads it. Invariant: a
//! string that does not fit its length prefix is an error, never shortened.

use std::net::{IpAddr, SocketAddr};

use super::error::EncodeError;
use super::id::ChitchatId;
use super::model::DeletionStatus;

pub(super) const IPV4: u8 = 4;
pub(super) const IPV6: u8 = 6;

pub(super) const STATUS_SET: u8 = 0;
pub(super) const STATUS_DELETED: u8 = 1;
pub(super) const STATUS_DELETE_AFTER_TTL: u8 = 2;

/// The longest string that the length prefix can express, in bytes.
const MAX_STR_LEN: usize = u16::MAX as usize;

/// A buffer that encoded fields are appended to: a whole message, or the contents of a block stream.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for bytes::BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

pub(super) fn put_str(
    sink: &mut impl Sink,
    text: &str,
    field: &'static str,
) -> Result<(), EncodeError> {
    let len = u16::try_from(text.len()).map_err(|_| EncodeError::TooLong {
        field,
        len: text.len(),
        max: MAX_STR_LEN,
    })?;
    sink.put(&len.to_le_bytes());
    sink.put(text.as_bytes());
    Ok(())
}

pub(super) fn put_u64(sink: &mut impl Sink, number: u64) {
    sink.put(&number.to_le_bytes());
}

/// Writes an address and its port. The scope and the flow label of an IPv6 address are lost, since
/// the format has no room for them.
fn put_socket_addr(sink: &mut impl Sink, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => {
            sink.put(&[IPV4]);
            sink.put(&ip.octets());
        }
        IpAddr::V6(ip) => {
            sink.put(&[IPV6]);
            sink.put(&ip.octets());
        }
    }
    sink.put(&addr.port().to_le_bytes());
}

pub(super) fn put_chitchat_id(sink: &mut impl Sink, id: &ChitchatId) -> Result<(), EncodeError> {
    put_str(sink, &id.node_id, "a node id")?;
    put_u64(sink, id.generation_id);
    put_socket_addr(sink, id.gossip_advertise_addr);
    Ok(())
}

pub(super) fn put_status(sink: &mut impl Sink, status: DeletionStatus) {
    sink.put(&[match status {
        DeletionStatus::Set => STATUS_SET,
        DeletionStatus::Deleted => STATUS_DELETED,
        DeletionStatus::DeleteAfterTtl => STATUS_DELETE_AFTER_TTL,
    }]);
}

/// Returns the encoded length of a string, in bytes.
pub(super) fn str_len(text: &str) -> usize {
    text.len().saturating_add(2)
}

impl ChitchatId {
    /// Returns the length of this id in a message, in bytes.
    pub fn encoded_len(&self) -> usize {
        let ip_len = if self.gossip_advertise_addr.is_ipv4() {
            4
        } else {
            16
        };
        // The node id with its length, the generation, the address family, the address, the port.
        str_len(&self.node_id).saturating_add(8 + 1 + ip_len + 2)
    }
}
