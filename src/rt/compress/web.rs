//! ruzstd, or nothing.

/// One frame that holds `plain`; `None` where there is no compressor.
#[cfg(feature = "compress")]
pub(crate) fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    Some(compress_to_vec(plain, CompressionLevel::Fastest))
}

/// One frame that holds `plain`; `None` where there is no compressor.
#[cfg(not(feature = "compress"))]
pub(crate) fn compress(_plain: &[u8]) -> Option<Vec<u8>> {
    None
}
