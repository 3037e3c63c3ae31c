//! Whether the first network has replaced a connection of the second.
//!
//! It decides nothing: a dial of the first network that has succeeded completes it.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::{Either, select};

use super::error::TakenOver;
use crate::rt::sync::Epoch;

/// Whether the first network has replaced connections of the second to one address.
///
/// It holds no connection, so it does not keep a port in use.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    happened: AtomicBool,
    changed: Epoch,
}

impl Takeover {
    /// Ends every use of the connections that share this.
    pub(super) fn complete(&self) {
        self.happened.store(true, Ordering::Release);
        self.changed.advance();
    }

    /// Fails once the first network has taken over.
    pub(super) fn check(&self) -> Result<(), TakenOver> {
        if self.happened.load(Ordering::Acquire) {
            return Err(TakenOver);
        }
        Ok(())
    }

    /// Runs `future`. Fails with [`TakenOver`] as soon as the first network takes over.
    pub(super) async fn unless<T>(
        &self,
        future: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let seen = self.changed.current();
        self.check()?;
        match select(pin!(future), pin!(self.changed.later_than(seen))).await {
            Either::Left((result, _)) => result,
            Either::Right(((), future)) => {
                self.check()?;
                future.await
            }
        }
    }
}
