//! Resident memory and CPU time of this process, and its limit of open descriptors.

use anyhow::Context as _;

/// The unit of the CPU times in `/proc`, in seconds: the same on all systems, whatever the kernel's
/// own clock is.
const TICK: f64 = 0.01;

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

/// Returns the CPU time that this process has taken so far, in user mode and in the kernel, in seconds.
/// Exact to 10 ms. Works on Linux only.
pub fn cpu_times() -> anyhow::Result<[f64; 2]> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in parentheses, may contain anything.
    let (_, fields) = stat
        .rsplit_once(')')
        .context("no name in /proc/self/stat")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || anyhow::Ok(fields.next().context("no CPU time")?.parse::<f64>()? * TICK);
    Ok([next()?, next()?])
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
