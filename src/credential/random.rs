//! Random bytes for keys and secrets.

use zeroize::Zeroizing;

/// Returns 32 random bytes.
///
/// # Panics
///
/// Panics if the system has no source of randomness.
pub(super) fn random_32() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    let filled = getrandom::fill(bytes.as_mut());
    assert!(filled.is_ok(), "the system has no source of randomness");
    bytes
}
