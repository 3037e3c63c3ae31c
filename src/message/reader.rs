//! Reads the primitives of the format from bytes that may be anything.
//!
//! `field` writes what is read here. Invariant: every length is compared with the remaining bytes
//! before anything is read or any memory is taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str;

use super::error::DecodeError;
use super::field;
use super::id::ChitchatId;
use super::model::DeletionStatus;

/// A cursor over the bytes that are left to read. Errors name the `field` that was being read.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn bytes(
        &mut self,
        len: usize,
        field: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(DecodeError::Truncated {
                field,
                missing: len.saturating_sub(self.rest.len()),
            });
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated {
                field,
                missing: N.saturating_sub(self.rest.len()),
            });
        };
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(super) fn str(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let len = self.u16(field)?;
        let bytes = self.bytes(len.into(), field)?;
        str::from_utf8(bytes).map_err(|error| DecodeError::NotUtf8 {
            field,
            valid_up_to: error.valid_up_to(),
        })
    }

    fn socket_addr(&mut self) -> Result<SocketAddr, DecodeError> {
        let ip = match self.u8("an address family")? {
            field::IPV4 => IpAddr::from(Ipv4Addr::from(self.array::<4>("an IPv4 address")?)),
            field::IPV6 => IpAddr::from(Ipv6Addr::from(self.array::<16>("an IPv6 address")?)),
            got => return Err(DecodeError::UnknownAddressFamily { got }),
        };
        let port = self.u16("a port")?;
        Ok(SocketAddr::new(ip, port))
    }

    pub(super) fn chitchat_id(&mut self) -> Result<ChitchatId, DecodeError> {
        let node_id = self.str("a node id")?.into();
        let generation_id = self.u64("a generation id")?;
        let gossip_advertise_addr = self.socket_addr()?;
        Ok(ChitchatId {
            node_id,
            generation_id,
            gossip_advertise_addr,
        })
    }

    pub(super) fn status(&mut self) -> Result<DeletionStatus, DecodeError> {
        match self.u8("a deletion status")? {
            field::STATUS_SET => Ok(DeletionStatus::Set),
            field::STATUS_DELETED => Ok(DeletionStatus::Deleted),
            field::STATUS_DELETE_AFTER_TTL => Ok(DeletionStatus::DeleteAfterTtl),
            got => Err(DecodeError::UnknownStatus { got }),
        }
    }

    /// Fails if bytes are left.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            len => Err(DecodeError::TrailingBytes { len }),
        }
    }
}
