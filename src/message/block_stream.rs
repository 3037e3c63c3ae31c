//! The block stream: contents of any length, cut into blocks that may be compressed.
//!
//! A block is a tag, a length and so many bytes; a tag of zero ends the stream. What is inside
//! (entries of a digest, operations of a delta) may straddle blocks. Writers cut at 16,384 bytes,
//! as upstream does; a reader takes blocks of up to 65,535 bytes, compressed or not.
//!
//! Invariant: a stream takes at most [`len_bound`] of its contents' length, and no contents are
//! longer than [`MAX_STREAM_LEN`].

use std::borrow::Cow;

use super::field::Sink;
use super::reader::Reader;
use super::zstd::{self, DecompressError};
use super::{DecodeError, EncodeError};

/// The most that one block may hold once it is decompressed, in bytes. Upstream's limit.
pub const MAX_BLOCK_LEN: usize = 65_535;

/// The most that the blocks of one digest or delta may hold together, in bytes: 4 MiB.
///
/// Ours: upstream has no limit, so that one datagram of 65 KB can expand to 177 MiB there. This
/// one is 64 times a full datagram, while digests and deltas as they occur shrink to a quarter. To
/// decode a message takes at most 13 times as much memory (measured: 52 MiB, for 300,000 keys that
/// are as short as they can be).
pub const MAX_STREAM_LEN: usize = 4 * 1024 * 1024;

/// Where writers cut.
const CUT_LEN: usize = 16_384;

/// A block's tag and length.
const BLOCK_OVERHEAD: usize = 3;

/// The tag that ends a stream.
pub(super) const END_LEN: usize = 1;

const TAG_END: u8 = 0;
const TAG_ZSTD: u8 = 1;
const TAG_PLAIN: u8 = 2;

/// The longest that a stream of `contents_len` bytes can get.
pub(super) fn len_bound(contents_len: usize) -> usize {
    contents_len
        .div_ceil(CUT_LEN)
        .saturating_mul(BLOCK_OVERHEAD)
        .saturating_add(contents_len)
        .saturating_add(END_LEN)
}

/// The blocks of `contents` that stay as they are when more is appended.
pub(super) fn full_blocks(contents: &[u8]) -> impl Iterator<Item = &[u8]> {
    contents.chunks_exact(CUT_LEN)
}

/// Exactly what a block takes, with its tag and length.
pub(super) fn encoded_block_len(block: &[u8]) -> usize {
    zstd::compress(block)
        .map_or(block.len(), |compressed| compressed.len())
        .saturating_add(BLOCK_OVERHEAD)
}

/// Writes `contents` as a stream.
pub(super) fn write(
    sink: &mut impl Sink,
    contents: &[u8],
    field: &'static str,
) -> Result<(), EncodeError> {
    if contents.len() > MAX_STREAM_LEN {
        return Err(EncodeError::TooLong {
            field,
            len: contents.len(),
            max: MAX_STREAM_LEN,
        });
    }
    for block in contents.chunks(CUT_LEN) {
        match zstd::compress(block) {
            Some(compressed) => put_block(sink, TAG_ZSTD, &compressed, field)?,
            None => put_block(sink, TAG_PLAIN, block, field)?,
        }
    }
    sink.put(&[TAG_END]);
    Ok(())
}

fn put_block(
    sink: &mut impl Sink,
    tag: u8,
    bytes: &[u8],
    field: &'static str,
) -> Result<(), EncodeError> {
    let len = u16::try_from(bytes.len()).map_err(|_| EncodeError::TooLong {
        field,
        len: bytes.len(),
        max: MAX_BLOCK_LEN,
    })?;
    sink.put(&[tag]);
    sink.put(&len.to_le_bytes());
    sink.put(bytes);
    Ok(())
}

/// Reads a stream's contents, up to and including its end.
pub(super) fn read<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>, DecodeError> {
    // A stream of one plain block, the usual small one, is not copied.
    let mut contents: Cow<'a, [u8]> = Cow::Borrowed(&[]);
    let mut block = 0;
    loop {
        let tag = reader.u8("a block tag")?;
        if tag == TAG_END {
            return Ok(contents);
        }
        if tag != TAG_ZSTD && tag != TAG_PLAIN {
            return Err(DecodeError::UnknownBlockTag { got: tag });
        }
        let len = usize::from(reader.u16("a block length")?);
        let bytes = reader.bytes(len, "a block")?;
        let room = MAX_STREAM_LEN.saturating_sub(contents.len());
        let too_long = DecodeError::StreamExpandsTooFar {
            block,
            max: MAX_STREAM_LEN,
        };
        if tag == TAG_PLAIN {
            if len > room {
                return Err(too_long);
            }
            if contents.is_empty() {
                contents = Cow::Borrowed(bytes);
            } else {
                contents.to_mut().extend_from_slice(bytes);
            }
        } else {
            zstd::decompress(bytes, room.min(MAX_BLOCK_LEN), contents.to_mut()).map_err(
                |error| match error {
                    DecompressError::TooLong if room < MAX_BLOCK_LEN => too_long,
                    DecompressError::TooLong => DecodeError::BlockExpandsTooFar {
                        block,
                        len,
                        max: MAX_BLOCK_LEN,
                    },
                    DecompressError::Corrupt(reason) => {
                        DecodeError::CorruptBlock { block, len, reason }
                    }
                },
            )?;
        }
        block = block.saturating_add(1);
    }
}
