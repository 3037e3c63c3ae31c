//! What a subcommand reads: a file or stdin, since other users can read a command line.

use std::io::{self, Read as _};

/// The longest input in bytes: several secrets or invites, and comments.
const MAX_LEN: u64 = 64 << 10;

/// Returns the text of a file or of stdin, up to a limit.
///
/// # Errors
///
/// Fails if it cannot be read.
pub(super) fn read(input: impl io::Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    input.take(MAX_LEN).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
