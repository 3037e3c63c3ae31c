//! The compressor of browsers: ruzstd, or none without the feature `compress`.

/// Compresses `plain` into one frame.
#[cfg(feature = "compress")]
pub(crate) fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    Some(compress_to_vec(plain, CompressionLevel::Fastest))
}

/// Returns `None`, since there is no compressor.
#[cfg(not(feature = "compress"))]
pub(crate) fn compress(_plain: &[u8]) -> Option<Vec<u8>> {
    None
}
