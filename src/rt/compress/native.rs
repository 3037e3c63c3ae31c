//! The C library.

use std::cell::RefCell;

use zstd::bulk::Compressor;

thread_local! {
    /// Kept: making one takes longer than most blocks do.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// One frame that holds `plain`; `None` where there is no compressor.
pub(crate) fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with(|kept| {
        let mut kept = kept.try_borrow_mut().ok()?;
        if kept.is_none() {
            *kept = Compressor::new(zstd::DEFAULT_COMPRESSION_LEVEL).ok();
        }
        kept.as_mut()?.compress(plain).ok()
    })
}
