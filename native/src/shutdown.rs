//! The signals that end the node.
//!
//! Only reports them; leaving the cluster is up to [`crate::run`].

/// Catches SIGINT, SIGTERM and SIGHUP from its creation on, so that a signal that arrives before the first
/// await is not missed.
pub(crate) struct Shutdown {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hang_up: tokio::signal::unix::Signal,
}

impl Shutdown {
    /// Installs the signal handlers.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses to install a handler.
    #[cfg(unix)]
    pub(crate) fn catch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Does nothing on this system, and never fails.
    #[cfg(not(unix))]
    pub(crate) fn catch() -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next signal and returns its name. Cancel-safe.
    #[cfg(unix)]
    pub(crate) async fn requested(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }

    /// Waits for the next signal and returns its name. Cancel-safe.
    #[cfg(not(unix))]
    pub(crate) async fn requested(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler the system itself ends the process.
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}
