//! The end of a connection by this side: with a goodbye that the peer answers, or at once.
//!
//! Invariant: nothing is written behind a goodbye.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Inner;
use crate::net::CloseCode;
use crate::rt;
use crate::secure::ending::End;
use crate::secure::error::FrameError;
use crate::secure::frame::{FrameReader, FrameWriter};
use crate::secure::writing::WriteGuard;

/// The time limit of closing: waiting for the writer, the goodbye, and the carrier's end.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

impl<R: FrameReader, W: FrameWriter> Inner<R, W> {
    /// Writes what has been begun, and the goodbye. Does nothing the second time. Cancel-safe.
    pub(super) async fn leave(&self, code: CloseCode) -> Result<(), FrameError> {
        self.ending.check_open()?;
        self.leaving.store(true, Ordering::Release);
        let writing = self.ending.unless_ended(self.writing.lock()).await?;
        let mut writing = WriteGuard::new(writing, &self.owed);
        self.ending
            .unless_ended(pin!(writing.leave(code, &self.owed)))
            .await?
    }

    pub(super) async fn close(&self, code: CloseCode) {
        let end = self.ending.set(End::Local(code));
        self.drop_reader();
        // A task that held the writing lock has been woken by the end and releases it.
        let goodbye = async {
            let mut writing = self.writing.lock().await;
            let Some(mut carrier) = writing.carrier.take() else {
                return;
            };
            if let End::Local(code) = end {
                match writing.say_goodbye(&mut carrier, code, &self.owed).await {
                    Ok(()) => {}
                    Err(error) => tracing::trace!(%error, "goodbye not sent"),
                }
            }
            let _ = carrier.shutdown().await;
        };
        if rt::timeout(GOODBYE_TIME, goodbye).await.is_err() {
            tracing::trace!(limit = ?GOODBYE_TIME, "closing timed out");
        }
    }
}
