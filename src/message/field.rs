//! Writes the format's primitives: little-endian integers, strings and addresses.
//!
//! Source of the layout: upstream's `serialize.rs` and `types.rs`.

use std::net::{IpAddr, SocketAddr};

use super::{ChitchatId, DeletionStatus, EncodeError};

pub(super) const IPV4: u8 = 4;
pub(super) const IPV6: u8 = 6;

pub(super) const STATUS_SET: u8 = 0;
pub(super) const STATUS_DELETED: u8 = 1;
pub(super) const STATUS_DELETE_AFTER_TTL: u8 = 2;

/// The longest string that its length prefix can say.
const MAX_STR_LEN: usize = u16::MAX as usize;

/// Where encoded fields go: a message's buffer, or the contents of a block stream.
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

/// An IPv6 address loses its scope and flow: the format has no room for them.
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

/// The encoded length of a string.
pub(super) fn str_len(text: &str) -> usize {
    text.len().saturating_add(2)
}

impl ChitchatId {
    /// How many bytes this id takes in a message.
    pub fn encoded_len(&self) -> usize {
        let ip_len = if self.gossip_advertise_addr.is_ipv4() {
            4
        } else {
            16
        };
        // Length-prefixed name, generation, address family, address, port.
        str_len(&self.node_id).saturating_add(8 + 1 + ip_len + 2)
    }
}
