//! The programs of others that native tests start: pebble, a certificate authority.

use crate::host::apt::{self, Apt, Unavailable};
use crate::host::tools;

/// The programs, with Debian's package of each.
const PROGRAMS: [(&str, &str); 2] = [("pebble", "pebble"), ("pebble-challtestsrv", "pebble")];

/// Installs the programs that are missing if this is Debian or a derivative. Elsewhere, tests that need them are skipped, or
/// fail if the environment variable CI is set.
///
/// # Errors
///
/// Fails if they cannot be installed.
pub(crate) fn ensure() -> anyhow::Result<()> {
    let missing = PROGRAMS.iter();
    let missing = missing.filter(|(program, _)| tools::find_program(program).is_none());
    let mut packages: Vec<_> = missing.map(|(_, package)| *package).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    match Apt::find() {
        Ok(apt) => {
            let _lock = tools::lock(&tools::cache()?)?;
            apt.install(&packages, "12 MB")
        }
        Err(Unavailable::NoAptGet | Unavailable::NotRoot) => {
            let by_hand = apt::by_hand(&packages);
            println!(
                "some tests are skipped without {} ({by_hand})",
                packages.join(", ")
            );
            Ok(())
        }
    }
}
