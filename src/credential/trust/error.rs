//! The error of setting an invite in a policy that takes none.

/// The policy does not use an invite, so it takes none: it has cluster secrets, or none and no invite either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("only a trust that was made with an invite takes another one")]
pub struct NotALeaf;
