//! What ends a subcommand early.

use std::io;

use super::protocol::Failure;

/// The reason for which a subcommand ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// Its arguments are wrong. The text says what to change.
    Usage(String),
    /// What the command needs cannot be read.
    Input(String),
    Client(ClientError),
    /// Nobody reads the output any more.
    Output(io::Error),
}

/// The error of a subcommand that its node has not carried out.
#[derive(Debug)]
pub(super) enum ClientError {
    /// No node answers. The text says what to do.
    Unreachable(String),
    /// The node has not carried out the command.
    Refused(Failure),
}
