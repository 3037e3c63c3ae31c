//! Helpers that several tests share.

pub(crate) mod layer;
pub(crate) mod messages;
