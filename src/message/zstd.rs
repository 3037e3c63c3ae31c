//! One block's compression.
//!
//! The bytes are any valid zstd; which compressor made them is nobody's business. So the choice is
//! free (it is `rt::compress`'s), and was made by measurement (release build, one core, blocks of
//! 16,384 bytes, block headers included):
//!
//! | | plain | C zstd, level 3 | ruzstd |
//! |---|--:|--:|--:|
//! | digest of 10 nodes | 510 B | 203 B, 26 us | 227 B, 22 us |
//! | digest of 100 nodes | 5,100 B | 1,245 B, 28 us | 1,769 B, 54 us |
//! | digest of 1,000 nodes | 51,000 B | 12,516 B, 198 us | 17,109 B, 557 us |
//! | delta, 50 nodes of 10 keys | 60,575 B | 14,688 B, 198 us | 18,979 B, 622 us |
//!
//! A running cluster's digests are more alike than these: of 100 members at rest, C zstd makes
//! half of what ruzstd does. So a native node has the C library, as upstream has; a browser has
//! ruzstd, since the C library would be 61 KB more of gzipped module. A compressor may also be left
//! out there, with the feature `compress` off: everything is read all the same. The page does so,
//! since the compressor is a tenth of its download.
//!
//! Decompression is ruzstd's everywhere, which bounds its memory as we need it. It costs 16 us for
//! 100 nodes and 150 us for a full datagram, much like the C library.
//!
//! Checksums are read and not compared (ruzstd's `hash` feature is off): the channel below
//! authenticates every byte. 8 million damaged frames gave no panic and took 1.3 MB at most.

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::rt;

/// Shorter contents only grow: a frame's own overhead is 9 bytes, and matches need a history.
const MIN_LEN_TO_COMPRESS: usize = 64;

/// Compresses `plain`, or says that this would not make it shorter.
pub(super) fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    if plain.len() < MIN_LEN_TO_COMPRESS {
        return None;
    }
    let compressed = rt::compress(plain)?;
    (compressed.len() < plain.len()).then_some(compressed)
}

/// Why a block was not decompressed.
#[derive(Debug)]
pub(super) enum DecompressError {
    /// It would hold more than it was allowed to.
    TooLong,
    /// It is not zstd.
    Corrupt(String),
}

/// Appends to `output` what `compressed` holds: any number of frames, skippable ones included, and
/// `max_len` bytes at most.
///
/// Memory is bounded whatever a frame declares. A frame gets a fresh decoder, which takes memory
/// as it produces and not for the declared window, and stops after the first zstd block (128 KiB,
/// or 1 MiB for one that is malformed on purpose) that goes past the bound.
pub(super) fn decompress(
    mut compressed: &[u8],
    max_len: usize,
    output: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    let end = output.len().saturating_add(max_len);
    while !compressed.is_empty() {
        let mut decoder = FrameDecoder::new();
        // The window only limits how far back a match may reach, and so never more than `max_len`
        // counts. Upstream's decoder takes every window, so this one does too.
        decoder.set_max_window_size(u64::MAX);
        match decoder.init(&mut compressed) {
            Ok(()) => {}
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let skipped = usize::try_from(length)
                    .ok()
                    .and_then(|length| compressed.get(length..));
                let Some(rest) = skipped else {
                    return Err(DecompressError::Corrupt(format!(
                        "a skippable frame of {length} bytes is cut off"
                    )));
                };
                compressed = rest;
                continue;
            }
            Err(error) => return Err(DecompressError::Corrupt(error.to_string())),
        }
        let room = end.saturating_sub(output.len());
        let declared = decoder.content_size();
        if declared > room as u64 {
            return Err(DecompressError::TooLong);
        }
        // Stops after the first block that goes past `room`, if one does.
        let finished = decoder
            .decode_blocks(
                &mut compressed,
                BlockDecodingStrategy::UptoBytes(room.saturating_add(1)),
            )
            .map_err(|error| DecompressError::Corrupt(error.to_string()))?;
        let produced = decoder.can_collect();
        if !finished || produced > room {
            return Err(DecompressError::TooLong);
        }
        if declared != 0 && declared != produced as u64 {
            return Err(DecompressError::Corrupt(format!(
                "a frame of {declared} bytes holds {produced}"
            )));
        }
        decoder
            .collect_to_writer(&mut *output)
            .map_err(|error| DecompressError::Corrupt(error.to_string()))?;
    }
    Ok(())
}
