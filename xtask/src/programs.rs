//! The programs of others that native tests start: pebble, a certificate authority.

use crate::host::packages;
use crate::host::skips::Skips;

/// The programs, with Debian's package of each.
const PROGRAMS: [(&str, &str); 2] = [("pebble", "pebble"), ("pebble-challtestsrv", "pebble")];

/// Installs the programs that are missing if this is Debian or a derivative. Elsewhere, tests that need them are skipped, or
/// fail if the environment variable CI is set.
///
/// # Errors
///
/// Fails if they cannot be installed in CI.
pub(crate) fn ensure() -> anyhow::Result<()> {
    let installed = packages::install(&PROGRAMS);
    Skips::here()
        .or_skip("tests of ACME", installed)
        .map(|_| ())
}
