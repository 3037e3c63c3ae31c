//! The error of a connection that was replaced.

/// The error of using a connection of the second network after one of the first, preferred network
/// has replaced it. A new dial returns the connection of the first network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer can be reached over the preferred network")]
pub struct TakenOver;
