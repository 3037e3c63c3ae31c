//! Compression and decompression of one block.
//!
//! A compressed block may be any valid zstd, so each target may use another compressor; `rt::compress`
//! chooses it. The choice was made by measurement (release build, one core, blocks of 16,384 bytes,
//! block headers included):
//!
//! | | plain | C zstd, level 3 | ruzstd |
//! |---|--:|--:|--:|
//! | digest of 10 nodes | 510 B | 203 B, 26 us | 227 B, 22 us |
//! | digest of 100 nodes | 5,100 B | 1,245 B, 28 us | 1,769 B, 54 us |
//! | digest of 1,000 nodes | 51,000 B | 12,516 B, 198 us | 17,109 B, 557 us |
//! | delta, 50 nodes of 10 keys | 60,575 B | 14,688 B, 198 us | 18,979 B, 622 us |
//!
//! The entries of a running cluster's digests are more alike than these: for 100 members at rest,
//! the output of C zstd is half as long as that of ruzstd. A native node therefore uses the C library,
//! as upstream does. A browser uses ruzstd, since the C library would add 61 KB to the gzipped
//! module. Without the feature `compress`, a browser has no compressor, but still reads everything.
//! The live page is built that way, since the compressor is a tenth of its download.
//!
//! Decompression uses ruzstd on every target, since its memory can be bounded as needed here. It
//! takes 16 us for 100 nodes and 150 us for a full datagram, much like the C library.
//!
//! Checksums are read but not compared (ruzstd's `hash` feature is off), since the connection below
//! authenticates every byte. In a test, 8 million damaged frames caused no panic and took at most
//! 1.3 MB. Invariant: memory is bounded by the caller's limit, whatever a frame declares.

use std::cell::Cell;

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::error::DecompressError;
use crate::rt;

/// The shortest contents that are worth compressing, in bytes. Shorter ones only grow, since a frame
/// has 9 bytes of overhead and there is little to refer back to.
const MIN_LEN_TO_COMPRESS: usize = 64;

/// The largest window, in bytes, of a frame that is decompressed by the kept decoder, which allocates it:
/// that of the longest block.
const KEPT_WINDOW: u64 = 64 << 10;

thread_local! {
    /// The decoder for the next frame. It is lost with a frame that is damaged.
    static KEPT: Cell<Option<FrameDecoder>> = const { Cell::new(None) };
}

/// The first bytes of each frame (RFC 8878, section 3.1.1).
const FRAME_START: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Returns an upper bound of the bytes into which the frames in `bytes` decompress, among anything else, if
/// none of them may become more than `max_len`. Cheap, since nothing is decompressed.
pub(super) fn expanded_len_bound(bytes: &[u8], max_len: usize) -> usize {
    let mut bound: usize = 0;
    for_each_frame(bytes, |header| {
        let len = declared_len(header).map_or(max_len, |len| len.min(max_len));
        bound = bound.saturating_add(len);
    });
    bound
}

/// Calls `found` with what follows each [`FRAME_START`] in `bytes`.
///
/// It looks at one byte of four as a rule (Horspool's search): a long message without compression would take
/// longer to be searched than to be decoded otherwise.
fn for_each_frame(bytes: &[u8], mut found: impl FnMut(&[u8])) {
    const LEN: usize = FRAME_START.len();
    let [first, second, third, fourth] = FRAME_START;
    // Behind the bytes that may be a start.
    let mut end = LEN;
    while let Some(last) = end.checked_sub(1).and_then(|at| bytes.get(at)) {
        if *last == fourth && bytes.get(end.saturating_sub(LEN)..end) == Some(&FRAME_START) {
            found(bytes.get(end..).unwrap_or_default());
        }
        // As far as this byte allows to be in the next start.
        end += match *last {
            byte if byte == first => 3,
            byte if byte == second => 2,
            byte if byte == third => 1,
            _ => LEN,
        };
    }
}

/// Returns the length that a frame states, if it does. `header` is what follows [`FRAME_START`].
fn declared_len(header: &[u8]) -> Option<usize> {
    let (descriptor, rest) = header.split_first()?;
    let is_single_segment = descriptor & 0x20 != 0;
    let window_len = usize::from(!is_single_segment);
    let dictionary_len = match descriptor & 3 {
        3 => 4,
        len => usize::from(len),
    };
    let rest = rest.get(window_len + dictionary_len..)?;
    let len = match (descriptor >> 6, is_single_segment) {
        (0, true) => u64::from(*rest.first()?),
        (0, false) => return None,
        (1, _) => u64::from(u16::from_le_bytes(*rest.first_chunk()?)) + 256,
        (2, _) => u64::from(u32::from_le_bytes(*rest.first_chunk()?)),
        _ => u64::from_le_bytes(*rest.first_chunk()?),
    };
    // Zero does not bind the decoder.
    (len > 0).then(|| usize::try_from(len).unwrap_or(usize::MAX))
}

/// Compresses `plain`. Returns `None` if that would not make it shorter.
pub(super) fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    if plain.len() < MIN_LEN_TO_COMPRESS {
        return None;
    }
    let compressed = rt::compress(plain)?;
    (compressed.len() < plain.len()).then_some(compressed)
}

/// Decompresses `compressed`, which may be any number of frames, skippable ones included, and
/// appends at most `max_len` bytes to `output`.
///
/// Memory is bounded, whatever a frame declares. A frame with a small window uses the decoder that this
/// thread keeps, since its tables and buffers take longer to allocate than a digest to decompress. Every
/// other frame gets a new decoder, which takes memory for the bytes that it produces, not for the
/// declared window. Both stop after the first zstd block (128 KiB, or 1 MiB for one that is malformed on
/// purpose) that exceeds the limit.
pub(super) fn decompress(
    mut compressed: &[u8],
    max_len: usize,
    output: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    let end = output.len().saturating_add(max_len);
    while !compressed.is_empty() {
        let frame = compressed;
        let mut decoder = KEPT.take().unwrap_or_else(|| {
            let mut decoder = FrameDecoder::new();
            decoder.set_max_window_size(KEPT_WINDOW);
            decoder
        });
        let mut init = decoder.init(&mut compressed);
        let is_large = matches!(init, Err(FrameDecoderError::WindowSizeTooBig { .. }));
        if is_large {
            KEPT.set(Some(decoder));
            compressed = frame;
            decoder = FrameDecoder::new();
            // The window only limits how far back a match may reach, which is never further than
            // `max_len`. Upstream's decoder accepts every window, so this one does too.
            decoder.set_max_window_size(u64::MAX);
            init = decoder.init(&mut compressed);
        }
        match init {
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
        // Stops after the first block that exceeds it, if there is one.
        let most = match usize::try_from(declared) {
            Ok(declared @ 1..) => declared,
            _ => room,
        };
        let finished = decoder
            .decode_blocks(
                &mut compressed,
                BlockDecodingStrategy::UptoBytes(most.saturating_add(1)),
            )
            .map_err(|error| DecompressError::Corrupt(error.to_string()))?;
        let produced = decoder.can_collect();
        if produced > room {
            return Err(DecompressError::TooLong);
        }
        if declared != 0 && declared != produced as u64 {
            return Err(DecompressError::Corrupt(format!(
                "a frame of {declared} bytes holds {produced}"
            )));
        }
        if !finished {
            return Err(DecompressError::TooLong);
        }
        output.reserve(produced);
        decoder
            .collect_to_writer(&mut *output)
            .map_err(|error| DecompressError::Corrupt(error.to_string()))?;
        if !is_large {
            KEPT.set(Some(decoder));
        }
    }
    Ok(())
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use super::*;

    #[test]
    fn a_frame_becomes_no_longer_than_it_states() {
        for len in [64, 255, 256, 257, 65_535] {
            let plain = vec![7; len];
            let mut frame = compress(&plain).unwrap();
            assert_eq!(expanded_len_bound(&frame, 65_535), len);
            assert_eq!(expanded_len_bound(&frame, 9), 9);
            let two = [&b"before"[..], &frame, &frame, b"after"].concat();
            assert_eq!(expanded_len_bound(&two, 65_535), 2 * len);
            let mut output = Vec::new();
            decompress(&frame, 65_535, &mut output).unwrap();
            assert_eq!(output, plain);
            // The last byte of the length, whose descriptor says how long that is.
            let at = match frame[4] >> 6 {
                0 => 5,
                1 => 6,
                _ => 8,
            };
            frame[at] = frame[at].wrapping_sub(1);
            assert!(decompress(&frame, 65_535, &mut Vec::new()).is_err());
        }
        // A frame that states no length, and the starts of some.
        let unknown = [&FRAME_START[..], &[0, 0x58, 1, 0, 0]].concat();
        assert_eq!(expanded_len_bound(&unknown, 65_535), 65_535);
        for len in 0..unknown.len() {
            let bound = expanded_len_bound(&unknown[..len], 65_535);
            assert_eq!(bound, if len < 4 { 0 } else { 65_535 });
        }
        let large = [&FRAME_START[..], &[0xe0], &[0xff; 8]].concat();
        assert_eq!(expanded_len_bound(&large, 65_535), 65_535);
    }

    #[test]
    fn the_start_of_every_frame_is_found() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut all = 0;
        for len in 0..2_000 {
            // Most are parts of a start.
            let bytes: Vec<u8> = std::iter::repeat_with(|| match rng.u8(..9) {
                0..4 => FRAME_START.to_vec(),
                n @ 4..8 => vec![FRAME_START[usize::from(n - 4)]],
                _ => vec![rng.u8(..)],
            })
            .flatten()
            .take(len)
            .collect();
            let mut found = Vec::new();
            for_each_frame(&bytes, |header| found.push(bytes.len() - header.len()));
            let starts = (4..=bytes.len()).filter(|end| bytes[end - 4..*end] == FRAME_START);
            let expected: Vec<_> = starts.collect();
            assert_eq!(found, expected, "{bytes:x?}");
            all += found.len();
        }
        assert!(all > 100_000, "{all}");
    }

    #[test]
    fn the_length_that_a_frame_states_is_found_behind_its_window_and_its_dictionary() {
        // A window or a part of a dictionary's number is 0xEE.
        for (header, expected) in [
            (&[0x20, 9][..], Some(9)),
            (&[0x60, 1, 0], Some(257)),
            (&[0xa0, 1, 2, 0, 0], Some(513)),
            (&[0xe0, 1, 2, 0, 0, 0, 0, 0, 0], Some(513)),
            (&[0x40, 0xee, 1, 0], Some(257)),
            (&[0x80, 0xee, 1, 2, 0, 0], Some(513)),
            (&[0xc0, 0xee, 1, 2, 0, 0, 0, 0, 0, 0], Some(513)),
            (&[0x21, 0xee, 9], Some(9)),
            (&[0x22, 0xee, 0xee, 9], Some(9)),
            (&[0x23, 0xee, 0xee, 0xee, 0xee, 9], Some(9)),
            (&[0x42, 0xee, 0xee, 0xee, 1, 0], Some(257)),
            // None is stated, or none that binds the decoder.
            (&[0, 0xee, 1, 2, 3, 4, 5, 6, 7, 8, 9], None),
            (&[0x20, 0], None),
            (&[], None),
        ] {
            assert_eq!(declared_len(header), expected, "{header:x?}");
            if expected.is_some() {
                for len in 0..header.len() {
                    assert_eq!(declared_len(&header[..len]), None, "{header:x?}, {len}");
                }
            }
        }
    }

    #[test]
    fn a_frame_that_is_longer_than_it_states_is_decoded_no_further() {
        // A block of 300 equal bytes, and one of a kind that does not exist.
        let blocks = [[0x62, 9, 0, 7], [6, 0, 0, 0]].concat();
        for (stated, expected) in [(256, "a frame of 256 bytes holds"), (301, "Reserved block")] {
            let [low, high] = u16::to_le_bytes(stated - 256);
            let frame = [&FRAME_START[..], &[0x40, 0, low, high], &blocks].concat();
            let refused = decompress(&frame, 65_535, &mut Vec::new());
            let Err(DecompressError::Corrupt(reason)) = refused else {
                panic!("{refused:?}");
            };
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn a_thread_keeps_its_decoder_for_frames_with_a_small_window() {
        KEPT.take();
        let frame = compress(&[7; 65_535]).unwrap();
        decompress(&frame, 65_535, &mut Vec::new()).unwrap();
        let kept = KEPT.take().unwrap();
        assert_eq!(kept.content_size(), 65_535, "it has decoded the frame");
        // Its window is larger than that of the longest block.
        let frame = [&FRAME_START[..], &[0, 21 << 3, 0x23, 3, 0, 7]].concat();
        let mut output = Vec::new();
        decompress(&frame, 65_535, &mut output).unwrap();
        assert_eq!(output, [7; 100]);
        assert!(KEPT.take().is_some(), "that for small windows is kept");
    }
}
