//! The block stream: contents of any length, split into blocks that may be compressed.
//!
//! A block is a tag, a length and that many bytes. A tag of zero ends the stream. The elements of the
//! contents (entries of a digest, operations of a delta) may cross the boundaries of blocks; they
//! are not known here. Writers split at 16,384 bytes, as upstream does. A reader accepts blocks of
//! up to 65,535 bytes, compressed or not.
//!
//! Invariant: a stream is never longer than [`len_bound`] of its contents' length, and no contents
//! are longer than [`MAX_STREAM_LEN`].

use std::borrow::Cow;

use super::error::{DecodeError, DecompressError, EncodeError};
use super::field::Sink;
use super::reader::Reader;
use super::zstd;

/// The longest contents of one block after decompression, in bytes. This is upstream's limit.
pub const MAX_BLOCK_LEN: usize = 65_535;

/// The longest contents of all blocks of one digest or delta together, in bytes: 4 MiB.
///
/// Upstream has no such limit, so one datagram of 65 KB can expand to 177 MiB there. This limit is
/// 64 times a full datagram, while real digests and deltas shrink to a quarter. Decoding a message
/// takes at most 13 times as much memory (measured: 52 MiB, for 300,000 keys of the shortest
/// possible length).
pub const MAX_STREAM_LEN: usize = 4 * 1024 * 1024;

/// The length of the blocks that are written, in bytes. The last one may be shorter.
const CUT_LEN: usize = 16_384;

/// Length of a block's tag and length field, in bytes.
const BLOCK_OVERHEAD: usize = 3;

/// Length of the tag that ends a stream, in bytes.
pub(super) const END_LEN: usize = 1;

const TAG_END: u8 = 0;
const TAG_ZSTD: u8 = 1;
const TAG_PLAIN: u8 = 2;

/// Returns the longest possible length of a stream with `contents_len` bytes of contents.
pub(super) fn len_bound(contents_len: usize) -> usize {
    contents_len
        .div_ceil(CUT_LEN)
        .saturating_mul(BLOCK_OVERHEAD)
        .saturating_add(contents_len)
        .saturating_add(END_LEN)
}

/// Returns an upper bound of the bytes into which a message decompresses, whatever it is: that of its streams.
/// Cheap, since nothing is decompressed.
pub fn expanded_len_bound(message: &[u8]) -> usize {
    zstd::expanded_len_bound(message, MAX_BLOCK_LEN)
}

/// Returns the full blocks of `contents`, which do not change if more contents are appended.
pub(super) fn full_blocks(contents: &[u8]) -> impl Iterator<Item = &[u8]> {
    contents.chunks_exact(CUT_LEN)
}

/// Returns the exact encoded length of a block, its tag and length field included.
pub(super) fn encoded_block_len(block: &[u8]) -> usize {
    zstd::compress(block)
        .map_or(block.len(), |compressed| compressed.len())
        .saturating_add(BLOCK_OVERHEAD)
}

/// Writes `contents` as a stream. An error names `field`.
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

/// Reads a stream up to and including its end, and returns its contents.
pub(super) fn read<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>, DecodeError> {
    // Small streams usually consist of one plain block, which is not copied.
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

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use super::*;

    /// Returns a stream of plain blocks with `len` bytes of contents, and no end.
    fn plain(len: usize) -> Vec<u8> {
        let mut stream = Vec::new();
        for block in vec![7; len].chunks(CUT_LEN) {
            put_block(&mut stream, TAG_PLAIN, block, "a test").unwrap();
        }
        stream
    }

    /// Returns the length of the contents of `stream`, to which a block and the end are added.
    fn read_with(mut stream: Vec<u8>, tag: u8, block: &[u8]) -> Result<usize, DecodeError> {
        put_block(&mut stream, tag, block, "a test").unwrap();
        stream.push(TAG_END);
        read(&mut Reader::new(&stream)).map(|contents| contents.len())
    }

    #[test]
    fn a_stream_may_be_as_long_as_the_limit_and_no_longer() {
        let mut bytes = Vec::new();
        write(&mut bytes, &vec![7; MAX_STREAM_LEN], "a test").unwrap();
        let contents = read(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(contents.len(), MAX_STREAM_LEN);
        let refused = write(&mut bytes, &vec![7; MAX_STREAM_LEN + 1], "a test");
        assert!(matches!(refused, Err(EncodeError::TooLong { .. })));

        let long = plain(MAX_STREAM_LEN - 9);
        let full = read_with(long.clone(), TAG_PLAIN, &[7; 9]);
        assert_eq!(full.unwrap(), MAX_STREAM_LEN);
        let refused = read_with(long, TAG_PLAIN, &[7; 10]);
        assert!(
            matches!(
                refused,
                Err(DecodeError::StreamExpandsTooFar { block: 256, .. })
            ),
            "{refused:?}"
        );
    }

    #[test]
    fn a_compressed_block_that_is_too_long_for_itself_is_told_from_one_for_which_no_room_is_left() {
        let compressed = |len| zstd::compress(&vec![7; len]).unwrap();
        for room in [MAX_BLOCK_LEN - 1, MAX_BLOCK_LEN, MAX_BLOCK_LEN + 1] {
            let stream = plain(MAX_STREAM_LEN - room);
            let most = room.min(MAX_BLOCK_LEN);
            let fits = read_with(stream.clone(), TAG_ZSTD, &compressed(most));
            assert_eq!(fits.unwrap(), MAX_STREAM_LEN - room + most);
            let refused = read_with(stream, TAG_ZSTD, &compressed(most + 1));
            let is_expected = match refused {
                Err(DecodeError::StreamExpandsTooFar { .. }) => room < MAX_BLOCK_LEN,
                Err(DecodeError::BlockExpandsTooFar { .. }) => room >= MAX_BLOCK_LEN,
                _ => false,
            };
            assert!(is_expected, "{room}: {refused:?}");
        }
    }
}
