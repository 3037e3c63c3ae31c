//! Looks for secrets in memory after what has held them was dropped. Linux lets a program read its own
//! memory as a file, whatever is in it by then.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

/// How many bytes in a row are a part of a secret. The seven bytes of a gap before a pointer are more, and fewer
/// would be found by chance.
const PART: usize = 5;

/// A region of memory.
pub(crate) struct MemoryRegion {
    memory: File,
    start: u64,
    // Taken in advance, since it could get the very memory that is looked at.
    bytes: Vec<u8>,
}

impl MemoryRegion {
    pub(crate) fn of<T: ?Sized>(value: &T) -> Self {
        let start = (&raw const *value).addr();
        Self {
            memory: File::open("/proc/self/mem").unwrap(),
            start: start.try_into().unwrap(),
            bytes: vec![0; size_of_val(value)],
        }
    }

    /// Returns whether at least [`PART`] bytes of `secret` are there.
    pub(crate) fn has_part_of(&mut self, secret: &[u8]) -> bool {
        self.memory
            .read_exact_at(&mut self.bytes, self.start)
            .unwrap();
        let mut parts = secret.windows(PART);
        parts.any(|part| self.bytes.windows(PART).any(|bytes| bytes == part))
    }
}

/// Asserts that `value` itself, and not only memory that it points to, has `secret`, and that nothing is
/// left of it when `value` is dropped.
pub(crate) fn assert_wiped_on_drop<T>(value: T, secret: &[u8]) {
    let value = Rc::new(value);
    // Keeps the memory from being freed, and used for something else.
    let _memory = Rc::downgrade(&value);
    let mut place = MemoryRegion::of(&*value);
    assert!(place.has_part_of(secret), "it has no secret");
    drop(value);
    assert!(!place.has_part_of(secret), "it leaves its secret in memory");
}

/// Returns a secret that does not look like anything else.
pub(crate) fn secret<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

#[test]
#[should_panic = "it leaves its secret in memory"]
fn a_secret_that_is_not_wiped_is_found() {
    let secret = secret::<32>();
    assert_wiped_on_drop(secret, &secret);
}
