//! Ctrl-C and SIGTERM, as a flag that every wait checks.
//!
//! The signal handler itself stops nothing: the running command returns [`Interrupted`], and what
//! it holds is dropped in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;

static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// The error of a command that a signal stopped.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Installs the handlers: from now on SIGINT, SIGTERM and SIGHUP only set the flag.
pub(crate) fn catch() -> anyhow::Result<()> {
    let flag = REQUESTED.get_or_init(Arc::default);
    #[cfg(unix)]
    let signals = [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ];
    #[cfg(not(unix))]
    let signals = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
    for signal in signals {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot catch signals")?;
    }
    Ok(())
}

/// Returns whether a signal has arrived.
pub(crate) fn is_requested() -> bool {
    REQUESTED
        .get()
        .is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Fails if a signal has arrived.
pub(crate) fn check() -> Result<(), Interrupted> {
    if is_requested() {
        Err(Interrupted)
    } else {
        Ok(())
    }
}
