//! Exit codes of the program that do not belong to one command.

/// Exit code of a failure at run time. The reason is on stderr.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// Exit code of invalid arguments, the same as clap's, and of a command that does not say which node is meant. What to
/// change is on stderr.
pub(crate) const EXIT_USAGE: u8 = 2;
