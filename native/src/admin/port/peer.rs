//! The client at the other end of a connection to the port.

use std::fmt;

/// The client of a connection, as the log names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Peer {
    /// A process, and its user.
    #[cfg(unix)]
    Process { uid: u32, pid: Option<i32> },
    /// Any process that can read the token, if it has sent it.
    TokenHolder,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(unix)]
            Self::Process {
                uid,
                pid: Some(pid),
            } => write!(f, "uid {uid}, pid {pid}"),
            #[cfg(unix)]
            Self::Process { uid, pid: None } => write!(f, "uid {uid}"),
            Self::TokenHolder => f.write_str("holder of the token"),
        }
    }
}
