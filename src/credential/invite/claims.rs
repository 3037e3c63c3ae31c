//! The claims of an invite, and their exact bytes.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | the format: 1 |
//! | 16 | the id: the second of the expiry since 1970 (`u64`), then 8 random bytes |
//! | the rest | claims in ascending order, none of them twice: number (`u8`), length (`u8`), value |
//!
//! | claim | value |
//! |---|---|
//! | 1 | the prefix of node ids: 1 to 128 bytes of UTF-8 without control characters |
//! | 2 | the identity of the only holder: 32 bytes |
//! | 3, 4, 5, 6 | quotas (`u32`): keys, bytes, changes per second, connections |
//!
//! Integers are big-endian. What is not there is not restricted, or has its default.
//!
//! Nothing here is secret or authentic: whoever can derive the key of these very bytes has issued them. A
//! decoder that ignored a claim would ignore a restriction, so an unknown one is refused. Invariant: the encoding
//! is canonical, so equal claims have the same bytes, and so the same key.

use std::time::Duration;

use super::error::ClaimsError;
use super::holder::Holder;
use super::id::InviteId;
use super::name_prefix::NamePrefix;
use super::quotas::Quotas;
use super::reader::Reader;
use crate::credential::identity::Identity;

/// The format that this version writes, and the only one that it reads.
const VERSION: u8 = 1;

/// The numbers of the claims.
const NAME_PREFIX: u8 = 1;
const HOLDER: u8 = 2;
const MAX_KEYS: u8 = 3;
const MAX_BYTES: u8 = 4;
const MAX_CHANGES_PER_SECOND: u8 = 5;
const MAX_CONNECTIONS: u8 = 6;

/// The claims of an invite: when it expires, and what its holders may do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claims {
    id: InviteId,
    name_prefix: NamePrefix,
    holder: Holder,
    quotas: Quotas,
}

impl Claims {
    /// The largest length of encoded claims, in bytes. Those of this format have at most 205; the rest is room
    /// for additions.
    pub const MAX_LEN: usize = 512;

    /// Returns claims that restrict nothing but the time.
    pub fn new(id: InviteId) -> Self {
        Self {
            id,
            name_prefix: NamePrefix::default(),
            holder: Holder::default(),
            quotas: Quotas::default(),
        }
    }
    /// Sets [`name_prefix`](Self::name_prefix).
    #[must_use]
    pub fn with_name_prefix(mut self, prefix: NamePrefix) -> Self {
        self.name_prefix = prefix;
        self
    }
    /// Sets [`holder`](Self::holder).
    #[must_use]
    pub fn with_holder(mut self, holder: Holder) -> Self {
        self.holder = holder;
        self
    }
    /// Sets [`quotas`](Self::quotas).
    #[must_use]
    pub fn with_quotas(mut self, quotas: Quotas) -> Self {
        self.quotas = quotas;
        self
    }

    /// Returns the id, by which the invite can be revoked.
    pub fn id(&self) -> InviteId {
        self.id
    }
    /// Returns the prefix that the node ids of holders must have.
    pub fn name_prefix(&self) -> &NamePrefix {
        &self.name_prefix
    }
    /// Returns the peers that may use the invite.
    pub fn holder(&self) -> Holder {
        self.holder
    }
    /// Returns how much holders may use.
    pub fn quotas(&self) -> Quotas {
        self.quotas
    }
    /// Returns the time at which the invite expires, since 1970-01-01 UTC.
    pub fn expires_at(&self) -> Duration {
        self.id.expires_at()
    }
    /// Returns whether the invite has expired, with two minutes of clock skew allowed. `now` is the time since
    /// 1970-01-01 UTC.
    pub fn is_expired(&self, now: Duration) -> bool {
        self.id.is_expired(now)
    }

    /// Returns the bytes of the claims.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(self.id.as_bytes());
        let mut push = |tag: u8, value: &[u8]| {
            // The longest value is a prefix of 128 bytes.
            bytes.extend_from_slice(&[tag, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
            bytes.extend_from_slice(value);
        };
        let prefix = self.name_prefix.as_str();
        if !prefix.is_empty() {
            push(NAME_PREFIX, prefix.as_bytes());
        }
        if let Holder::Only(identity) = &self.holder {
            push(HOLDER, identity.as_bytes());
        }
        let Quotas {
            max_keys,
            max_bytes,
            max_changes_per_second,
            max_connections,
        } = self.quotas;
        for (tag, quota) in [
            (MAX_KEYS, max_keys),
            (MAX_BYTES, max_bytes),
            (MAX_CHANGES_PER_SECOND, max_changes_per_second),
            (MAX_CONNECTIONS, max_connections),
        ] {
            if let Some(quota) = quota {
                push(tag, &quota.to_be_bytes());
            }
        }
        bytes
    }

    /// Decodes claims. Says nothing about whether they are authentic or have expired.
    ///
    /// Bytes that [`encode`](Self::encode) does not return for any claims are refused. Claims without their last
    /// ones are claims as well; they have another key.
    ///
    /// # Errors
    ///
    /// Fails at the first byte that does not belong there.
    pub fn decode(bytes: &[u8]) -> Result<Self, ClaimsError> {
        if bytes.len() > Self::MAX_LEN {
            return Err(ClaimsError::Oversized {
                len: bytes.len(),
                max: Self::MAX_LEN,
            });
        }
        let mut reader = Reader::new(bytes);
        let version = reader.byte().ok_or(ClaimsError::CutShort)?;
        if version != VERSION {
            return Err(ClaimsError::UnknownVersion { version });
        }
        let id = reader.array().ok_or(ClaimsError::CutShort)?;
        let mut claims = Self::new(InviteId::from_bytes(id));
        let mut last = None;
        while let Some(tag) = reader.byte() {
            match last {
                Some(after) if after == tag => return Err(ClaimsError::Repeated { tag }),
                Some(after) if after > tag => return Err(ClaimsError::OutOfOrder { tag, after }),
                _ => last = Some(tag),
            }
            let len = reader.byte().ok_or(ClaimsError::CutShort)?;
            let value = reader.slice(len.into()).ok_or(ClaimsError::CutShort)?;
            claims.set(tag, value)?;
        }
        Ok(claims)
    }

    /// Sets the claim `tag` to a value that was received.
    fn set(&mut self, tag: u8, value: &[u8]) -> Result<(), ClaimsError> {
        let quotas = &mut self.quotas;
        match tag {
            NAME_PREFIX => self.name_prefix = name_prefix(value)?,
            HOLDER => {
                let identity = Identity::from_bytes(fixed(HOLDER, value)?);
                self.holder = Holder::Only(identity);
            }
            MAX_KEYS => quotas.max_keys = Some(quota(tag, value)?),
            MAX_BYTES => quotas.max_bytes = Some(quota(tag, value)?),
            MAX_CHANGES_PER_SECOND => quotas.max_changes_per_second = Some(quota(tag, value)?),
            MAX_CONNECTIONS => quotas.max_connections = Some(quota(tag, value)?),
            tag => return Err(ClaimsError::UnknownClaim { tag }),
        }
        Ok(())
    }
}

fn name_prefix(value: &[u8]) -> Result<NamePrefix, ClaimsError> {
    let tag = NAME_PREFIX;
    // An empty prefix would be a second form of none.
    if !(1..=NamePrefix::MAX_LEN).contains(&value.len()) {
        let len = value.len();
        return Err(ClaimsError::WrongLength { tag, len });
    }
    let text = std::str::from_utf8(value).ok();
    let prefix = text.and_then(|text| text.parse().ok());
    prefix.ok_or(ClaimsError::NotText { tag })
}

fn quota(tag: u8, value: &[u8]) -> Result<u32, ClaimsError> {
    fixed(tag, value).map(u32::from_be_bytes)
}

fn fixed<const LEN: usize>(tag: u8, value: &[u8]) -> Result<[u8; LEN], ClaimsError> {
    let len = value.len();
    let wrong = |_| ClaimsError::WrongLength { tag, len };
    value.try_into().map_err(wrong)
}
