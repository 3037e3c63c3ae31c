//! Sizes after compression.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Returns the size of `bytes` after gzip at its highest level.
pub(crate) fn compressed_len(bytes: &[u8]) -> anyhow::Result<usize> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len())
}
