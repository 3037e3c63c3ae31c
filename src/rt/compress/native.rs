//! The compressor of native targets: the C library.

use std::cell::RefCell;

use zstd::bulk::Compressor;

/// The level of compression. Level 3 is the default; it makes digests shorter by a few bytes only, and takes
/// longer.
const LEVEL: i32 = 1;

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
