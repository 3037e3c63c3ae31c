//! The two layouts of a digest: a list with its count (V0), or a block stream of the same entries
//! (V1).
//!
//! Compression is left to the block stream. Invariant: a digest has one entry for each node. If the
//! bytes have several, the last one counts, as in upstream.

use super::block_stream;
use super::error::{DecodeError, EncodeError};
use super::field::{Sink, put_chitchat_id, put_u64};
use super::id::ChitchatId;
use super::model::{Digest, ProtocolVersion};
use super::node_digests::NodeDigest;
use super::reader::Reader;

/// Length of heartbeat, last collected version and max version, in bytes.
const NODE_DIGEST_LEN: usize = 3 * 8;

/// Length of the shortest entry, in bytes: one with an empty node id and an IPv4 address.
const MIN_ENTRY_LEN: usize = 2 + 8 + 1 + 4 + 2 + NODE_DIGEST_LEN;

/// Length of the count before the list of V0, in bytes.
const COUNT_LEN: usize = 2;

impl ChitchatId {
    /// Returns the length of a digest's entry for this id before compression, in bytes.
    pub fn digest_entry_len(&self) -> usize {
        self.encoded_len().saturating_add(NODE_DIGEST_LEN)
    }
}

impl ProtocolVersion {
    /// Returns an upper bound of the length of a digest in a message, in bytes, from the length of all its
    /// entries before compression.
    pub(crate) fn digest_len_bound(self, entries_len: usize) -> usize {
        match self {
            Self::V0 => entries_len.saturating_add(COUNT_LEN),
            Self::V1 => block_stream::len_bound(entries_len),
        }
    }
}

impl From<Vec<(ChitchatId, NodeDigest)>> for Digest {
    /// Returns a digest of `entries`. Of several for the same node, the last one counts. Fast if they are
    /// sorted by id.
    fn from(entries: Vec<(ChitchatId, NodeDigest)>) -> Self {
        Self {
            node_digests: entries.into(),
        }
    }
}

impl Digest {
    /// Returns an upper bound of this digest's length in a message, in bytes. For V0 it is the exact
    /// length. Cheap, since nothing is compressed.
    pub fn encoded_len_bound(&self, version: ProtocolVersion) -> usize {
        version.digest_len_bound(self.entries_len())
    }

    /// Returns the length of all entries before compression, in bytes.
    fn entries_len(&self) -> usize {
        let lens = self.node_digests.keys().map(ChitchatId::digest_entry_len);
        lens.fold(0, usize::saturating_add)
    }

    /// Returns the exact length of this digest in a message, in bytes. For V1 this compresses the
    /// digest.
    ///
    /// # Errors
    ///
    /// Fails if the digest breaks a limit of the format.
    pub fn encoded_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        match version {
            ProtocolVersion::V0 => Ok(self.encoded_len_bound(version)),
            ProtocolVersion::V1 => {
                let mut bytes = Vec::new();
                write(&mut bytes, self, version)?;
                Ok(bytes.len())
            }
        }
    }
}

pub(super) fn write(
    sink: &mut impl Sink,
    digest: &Digest,
    version: ProtocolVersion,
) -> Result<(), EncodeError> {
    match version {
        ProtocolVersion::V0 => {
            let count = digest.node_digests.len();
            let count = u16::try_from(count).map_err(|_| EncodeError::TooMany {
                field: "a digest",
                count,
                max: u16::MAX.into(),
            })?;
            sink.put(&count.to_le_bytes());
            put_entries(sink, digest)
        }
        ProtocolVersion::V1 => {
            let mut entries = Vec::with_capacity(digest.entries_len());
            put_entries(&mut entries, digest)?;
            block_stream::write(sink, &entries, "a digest")
        }
    }
}

fn put_entries(sink: &mut impl Sink, digest: &Digest) -> Result<(), EncodeError> {
    for (chitchat_id, node_digest) in digest.node_digests.iter() {
        put_chitchat_id(sink, chitchat_id)?;
        put_u64(sink, node_digest.heartbeat);
        put_u64(sink, node_digest.last_gc_version);
        put_u64(sink, node_digest.max_version);
    }
    Ok(())
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    version: ProtocolVersion,
) -> Result<Digest, DecodeError> {
    let mut list = Vec::new();
    match version {
        ProtocolVersion::V0 => {
            let count = usize::from(reader.u16("a digest's count")?);
            let least = count.saturating_mul(MIN_ENTRY_LEN);
            if least > reader.remaining() {
                return Err(DecodeError::Truncated {
                    field: "a digest",
                    missing: least.saturating_sub(reader.remaining()),
                });
            }
            list.reserve(count);
            for _ in 0..count {
                list.push(read_entry(reader)?);
            }
        }
        ProtocolVersion::V1 => {
            let entries = block_stream::read(reader)?;
            let mut entries = Reader::new(&entries);
            let mut len = entries.remaining();
            while entries.remaining() > 0 {
                list.push(read_entry(&mut entries)?);
                if list.len() == 1 {
                    // Most are as long as the first one.
                    len -= entries.remaining();
                    list.reserve(entries.remaining() / len.max(MIN_ENTRY_LEN));
                }
            }
        }
    }
    // A digest keeps the room that it has.
    if list.capacity() > list.len().saturating_add(list.len() / 4) {
        list.shrink_to_fit();
    }
    Ok(list.into())
}

fn read_entry(reader: &mut Reader<'_>) -> Result<(ChitchatId, NodeDigest), DecodeError> {
    let chitchat_id = reader.chitchat_id()?;
    let node_digest = NodeDigest {
        heartbeat: reader.u64("a heartbeat")?,
        last_gc_version: reader.u64("a last collected version")?,
        max_version: reader.u64("a max version")?,
    };
    Ok((chitchat_id, node_digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_refused_at_once_if_its_count_of_shortest_entries_does_not_fit() {
        let id = |name| ChitchatId::new(name, 1, ([127, 0, 0, 1], 1).into());
        assert_eq!(id("").digest_entry_len(), MIN_ENTRY_LEN);
        let entries = [id(""), id("a")].map(|id| (id, NodeDigest::default()));
        let digest = Digest::from(entries.to_vec());
        let mut bytes = Vec::new();
        write(&mut bytes, &digest, ProtocolVersion::V0).unwrap();
        let decode = |bytes: &[u8]| read(&mut Reader::new(bytes), ProtocolVersion::V0);
        assert_eq!(decode(&bytes).unwrap(), digest);

        // The name of the second entry is one byte long.
        let shortest = COUNT_LEN + 2 * MIN_ENTRY_LEN;
        let expected = |field, missing| DecodeError::Truncated { field, missing };
        for (len, error) in [
            (shortest, expected("a max version", 1)),
            (shortest - 1, expected("a digest", 1)),
            (COUNT_LEN, expected("a digest", 2 * MIN_ENTRY_LEN)),
        ] {
            assert_eq!(decode(&bytes[..len]).unwrap_err(), error, "{len}");
        }
    }
}
