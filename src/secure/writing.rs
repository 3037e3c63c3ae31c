//! The writing half of a connection: the carrier, and the sealed bytes that it has not taken yet.
//!
//! It knows neither tasks nor the connection's end. Invariant: a write that was dropped half-way is
//! continued by the next one, and if it holds control words, somebody is told that it must be.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use futures::lock::MutexGuard;

use super::error::FrameError;
use super::frame::FrameWriter;
use super::owed::{Owed, Words};
use super::stream::Packer;
use crate::net::CloseCode;

/// The state that the writing lock guards.
pub(super) struct Writing<W> {
    /// `None` after the connection has been closed.
    pub(super) carrier: Option<W>,
    pub(super) packer: Packer,
    /// Whether a write has been begun and not completed. The carrier may then hold bytes that it has
    /// taken and not flushed.
    begun: bool,
    /// Whether the goodbye has been sealed, after which nothing else may be.
    has_left: bool,
}

impl<W: FrameWriter> Writing<W> {
    pub(super) fn new(carrier: W, packer: Packer) -> Self {
        Self {
            carrier: Some(carrier),
            packer,
            begun: false,
            has_left: false,
        }
    }

    /// Writes the sealed frames, and completes a write that was dropped. Cancel-safe.
    pub(super) async fn flush(&mut self) -> Result<(), FrameError> {
        let Some(carrier) = &mut self.carrier else {
            return Err(FrameError::Truncated);
        };
        self.begun = true;
        carrier.write_frames(&mut self.packer.frames).await?;
        self.begun = false;
        self.packer.has_control = false;
        Ok(())
    }

    /// Writes what [`say_goodbye`](Self::say_goodbye) writes, and keeps the carrier. Cancel-safe, and does nothing
    /// the second time.
    pub(super) async fn leave(&mut self, code: CloseCode, owed: &Owed) -> Result<(), FrameError> {
        while !self.has_left {
            self.packer.fill(&mut VecDeque::new(), 0, owed)?;
            if self.is_written() {
                self.packer.goodbye(code)?;
                self.has_left = true;
            } else {
                self.flush().await?;
            }
        }
        if self.is_written() {
            return Ok(());
        }
        self.flush().await
    }

    /// Writes the sealed frames, the rest of a message that has been sent in part, what is owed, and the
    /// goodbye to the carrier, which has been taken out. If the goodbye was sealed before, writes what is left.
    pub(super) async fn say_goodbye(
        &mut self,
        carrier: &mut W,
        code: CloseCode,
        owed: &Owed,
    ) -> Result<(), FrameError> {
        while !self.has_left {
            self.packer.fill(&mut VecDeque::new(), 0, owed)?;
            if self.packer.frames.is_empty() {
                self.packer.goodbye(code)?;
                self.has_left = true;
            } else {
                carrier.write_frames(&mut self.packer.frames).await?;
            }
        }
        carrier.write_frames(&mut self.packer.frames).await?;
        Ok(())
    }
}

impl<W> Writing<W> {
    /// Returns whether the goodbye has been sealed, so that nothing else may be written.
    pub(super) fn has_left(&self) -> bool {
        self.has_left
    }

    /// Returns whether the carrier has taken and flushed all sealed bytes.
    pub(super) fn is_written(&self) -> bool {
        self.packer.frames.is_empty() && !self.begun
    }
}

/// The writing lock, held by a caller that may be dropped while it writes.
///
/// Its drop passes what is owed, or was not written to the end, on to the task in `recv`.
pub(super) struct WriteGuard<'a, W> {
    // Fields are dropped in this order: the lock is released before the task is woken.
    writing: MutexGuard<'a, Writing<W>>,
    released: Released<'a>,
}

struct Released<'a>(&'a Owed);

impl<'a, W> WriteGuard<'a, W> {
    pub(super) fn new(writing: MutexGuard<'a, Writing<W>>, owed: &'a Owed) -> Self {
        Self {
            writing,
            released: Released(owed),
        }
    }
}

impl<W> Deref for WriteGuard<'_, W> {
    type Target = Writing<W>;
    fn deref(&self) -> &Writing<W> {
        &self.writing
    }
}

impl<W> DerefMut for WriteGuard<'_, W> {
    fn deref_mut(&mut self) -> &mut Writing<W> {
        &mut self.writing
    }
}

impl<W> Drop for WriteGuard<'_, W> {
    fn drop(&mut self) {
        if self.writing.packer.has_control && !self.writing.is_written() {
            self.released.0.add(Words::UNWRITTEN);
        }
    }
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}
