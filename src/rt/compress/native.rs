//! The compressor of native targets: the C library.

use std::cell::RefCell;

use zstd::bulk::Compressor;

/// The level of compression: that of upstream's codec, which recompresses what it is handed and asserts
/// that the length stays the same (feature `chitchat`).
const LEVEL: i32 = zstd::DEFAULT_COMPRESSION_LEVEL;

thread_local! {
    /// The thread's compressor. It is kept, since creating one takes longer than compressing most
    /// blocks.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses `plain` into one frame. Returns `None` if the compressor fails.
pub(crate) fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with(|kept| {
        let mut kept = kept.try_borrow_mut().ok()?;
        if kept.is_none() {
            *kept = Compressor::new(LEVEL).ok();
        }
        kept.as_mut()?.compress(plain).ok()
    })
}
