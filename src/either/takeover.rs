//! Dials of the first network that succeed after the second network was dialled.
//!
//! Such a dial ends the connection of the second network; the transport layer then dials again and
//! is handed the connection of the first. Invariant: a late connection that is not used is dropped
//! after [`LATE_VALID_FOR`].

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::{Either, select};

use super::error::TakenOver;
use super::routes::{Routes, Side};
use crate::rt::sync::Epoch;
use crate::rt::{self, BoxFuture};

/// The time that a dial of the first network may take after the second network was dialled.
const LATE_DIAL_TIME: Duration = Duration::from_secs(30);
/// The time that a late connection waits to be used.
const LATE_VALID_FOR: Duration = Duration::from_secs(5);

/// Whether the first network has replaced a connection of the second.
///
/// It holds no connection, so it does not keep a port in use.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    happened: AtomicBool,
    changed: Epoch,
}

impl Takeover {
    fn complete(&self) {
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

/// A dial of the first network that continues after the second network was dialled.
pub(super) struct LateDial<C> {
    dial: BoxFuture<'static, anyhow::Result<C>>,
    addr: SocketAddr,
    // Weak, because the routes own the task that runs this.
    routes: Weak<Routes<C>>,
    takeover: Weak<Takeover>,
}

impl<C> LateDial<C> {
    pub(super) fn new(
        dial: BoxFuture<'static, anyhow::Result<C>>,
        addr: SocketAddr,
        routes: &Arc<Routes<C>>,
        takeover: &Arc<Takeover>,
    ) -> Self {
        Self {
            dial,
            addr,
            routes: Arc::downgrade(routes),
            takeover: Arc::downgrade(takeover),
        }
    }

    /// Finishes the dial. If it succeeds, offers its connection for the next dial of the address
    /// and ends the connection of the second network.
    pub(super) async fn run(self) {
        let Ok(Ok(conn)) = rt::timeout(LATE_DIAL_TIME, self.dial).await else {
            return;
        };
        {
            let Some(routes) = self.routes.upgrade() else {
                return;
            };
            routes.put_late(self.addr, conn);
            routes.answered(self.addr, Side::First);
        }
        if let Some(takeover) = self.takeover.upgrade() {
            takeover.complete();
        }
        rt::sleep(LATE_VALID_FOR).await;
        let routes = self.routes.upgrade();
        let unused = routes.and_then(|routes| routes.take_late(self.addr));
        drop(unused);
    }
}
