//! The signals that end the node, and SIGHUP where it has another meaning.
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
    #[cfg(unix)]
    on_hang_up: OnHangUp,
}

/// The meaning of SIGHUP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnHangUp {
    /// The node ends: its terminal is gone.
    End,
    /// Files are read again, see [`HangUps`].
    Reload,
}

/// The SIGHUPs that arrive from its creation on.
pub(crate) struct HangUps {
    #[cfg(unix)]
    hang_up: tokio::signal::unix::Signal,
}

impl HangUps {
    /// Installs the signal handler.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses to install it.
    #[cfg(unix)]
    pub(crate) fn catch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let hang_up = signal(SignalKind::hangup())?;
        Ok(Self { hang_up })
    }

    /// Does nothing on this system, and never fails.
    #[cfg(not(unix))]
    pub(crate) fn catch() -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next one. Cancel-safe.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        self.hang_up.recv().await;
    }

    /// Waits for ever.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) {
        std::future::pending().await
    }
}

impl Shutdown {
    /// Installs the signal handlers.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses to install a handler.
    #[cfg(unix)]
    pub(crate) fn catch(on_hang_up: OnHangUp) -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            on_hang_up,
        })
    }

    /// Does nothing on this system, and never fails.
    #[cfg(not(unix))]
    pub(crate) fn catch(_on_hang_up: OnHangUp) -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next signal and returns its name. Cancel-safe.
    #[cfg(unix)]
    pub(crate) async fn requested(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hang_up.recv(), if self.on_hang_up == OnHangUp::End => "SIGHUP",
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
