//! Resident memory of this process, and its limit of open descriptors.

use anyhow::Context as _;

/// Returns the resident memory that is not backed by a file, in bytes: what allocators have touched,
/// those of C libraries included, and stacks. Works on Linux only.
pub fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: u64 = kib
        .context("no RssAnon in /proc/self/status")?
        .trim()
        .parse()?;
    Ok(kib * 1024)
}

/// Raises the limit of open descriptors towards `wanted`, as far as the system allows, and returns
/// the new limit.
pub fn raise_descriptors(wanted: u64) -> anyhow::Result<u64> {
    let (soft, hard) = rlimit::Resource::NOFILE.get()?;
    if soft >= wanted {
        return Ok(soft);
    }
    // A privileged process may raise the hard limit as well.
    if hard < wanted && rlimit::setrlimit(rlimit::Resource::NOFILE, wanted, wanted).is_ok() {
        return Ok(wanted);
    }
    Ok(rlimit::increase_nofile_limit(wanted)?)
}
