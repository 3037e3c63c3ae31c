//! The error of a subcommand that its node has not carried out.

use super::protocol::Failure;

/// The error of a subcommand.
#[derive(Debug)]
pub(super) enum ClientError {
    /// No node answers. The text says what to do.
    Unreachable(String),
    /// The node has not carried out the command.
    Refused(Failure),
}
