//! The signals that end the node.
//!
//! Only says that it is time; who leaves, and how, is [`crate::node`]'s matter.

/// Catches SIGINT and SIGTERM from when it is made, so that none is missed before it is awaited.
pub(crate) struct Shutdown {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Shutdown {
    /// Starts catching.
    ///
    /// # Errors
    ///
    /// The system refuses to install a handler.
    #[cfg(unix)]
    pub(crate) fn catch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Starts catching.
    ///
    /// # Errors
    ///
    /// None on this system.
    #[cfg(not(unix))]
    pub(crate) fn catch() -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// Completes with the next signal's name. Cancel-safe.
    #[cfg(unix)]
    pub(crate) async fn requested(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// Completes with the next signal's name. Cancel-safe.
    #[cfg(not(unix))]
    pub(crate) async fn requested(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            // No handler could be installed: the system ends the process by itself.
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}
