//! Dials of the first network, also beside a connection of the second.
//!
//! Such a dial ends the connection of the second network; the transport layer then dials again and
//! is handed the connection of the first. Invariants: a late connection that is not used is dropped
//! after [`LATE_VALID_FOR`], or with the task that has dialled it; the socket that has dialled it is the
//! only one that uses it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::routes::{Attempt, DialName, FallBack, Routes};
use super::takeover::Takeover;
use crate::credential::NetCredential;
use crate::net::{Alpn, NetTransport, canonical};
use crate::rt::{self, BoxFuture, MaybeSend, MaybeSync, Task};

/// The time that a dial of the first network may take after the second network was dialled.
const LATE_DIAL_TIME: Duration = Duration::from_secs(30);
/// The time that a late connection waits to be used.
const LATE_VALID_FOR: Duration = Duration::from_secs(5);
/// The pause between dials of the first network to a peer that was reached over it, while the second
/// network is used for the peer. A member that restarts is encrypted again that soon.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The time that a dial may take which only checks whether the first network has failed.
const CHECK_TIME: Duration = Duration::from_secs(5);

/// A dial of the first network.
pub(super) type Dial<C> = BoxFuture<'static, anyhow::Result<C>>;

/// Dials over the first network on behalf of one socket. `C` is a connection of that network.
pub(super) struct Dialler<C>(Arc<dyn DialFirst<C>>);

trait DialFirst<C>: MaybeSend + MaybeSync {
    fn name(&self, addr: SocketAddr) -> DialName;
    fn dial(&self, addr: SocketAddr) -> Dial<C>;
}

/// A network with the arguments of its dials.
struct Socket<A> {
    first: A,
    local_addr: SocketAddr,
    alpn: Vec<Alpn>,
    credential: NetCredential,
}

impl<A: NetTransport> DialFirst<A::Connection> for Socket<A> {
    fn name(&self, addr: SocketAddr) -> DialName {
        DialName {
            addr,
            local_addr: canonical(self.local_addr),
            identity: self.credential.identity(),
        }
    }

    fn dial(&self, addr: SocketAddr) -> Dial<A::Connection> {
        let (first, credential) = (self.first.clone(), self.credential.clone());
        let (local_addr, alpn) = (self.local_addr, self.alpn.clone());
        Box::pin(async move {
            first
                .connect_from(local_addr, addr, &alpn, &credential)
                .await
        })
    }
}

impl<C: MaybeSend + 'static> Dialler<C> {
    pub(super) fn new<A: NetTransport<Connection = C>>(
        first: &A,
        local_addr: SocketAddr,
        alpn: &[Alpn],
        credential: &NetCredential,
    ) -> Self {
        Self(Arc::new(Socket {
            first: first.clone(),
            local_addr,
            alpn: alpn.to_vec(),
            credential: credential.clone(),
        }))
    }

    /// Returns the name of the dials of `addr`.
    pub(super) fn name(&self, addr: SocketAddr) -> DialName {
        self.0.name(addr)
    }

    pub(super) fn dial(&self, addr: SocketAddr) -> Dial<C> {
        self.0.dial(addr)
    }

    /// Goes on with a dial of `addr` beside the connection of the second network that has `takeover`, and
    /// ends that connection if the dial succeeds.
    pub(super) fn go_on(
        &self,
        addr: SocketAddr,
        running: Dial<C>,
        routes: &Arc<Routes<C>>,
        takeover: &Arc<Takeover>,
    ) {
        self.start(addr, Some(running), Retry::Never, routes, takeover);
    }

    /// Counts and logs that a connection of the second network is used for `addr`, which was reached over
    /// the first. While such connections are in use, dials `addr` again and again, first with `running`
    /// if there is one, and ends them once a dial succeeds. Returns what the connection must check.
    pub(super) fn fall_back(
        &self,
        addr: SocketAddr,
        running: Option<Dial<C>>,
        routes: &Arc<Routes<C>>,
    ) -> Arc<Takeover> {
        match routes.fall_back(addr) {
            FallBack::Again(takeover) => takeover,
            FallBack::First(takeover) => {
                self.start(addr, running, Retry::WhileInUse, routes, &takeover);
                takeover
            }
        }
    }

    fn start(
        &self,
        addr: SocketAddr,
        running: Option<Dial<C>>,
        retry: Retry,
        routes: &Arc<Routes<C>>,
        takeover: &Arc<Takeover>,
    ) {
        let late = LateDial {
            dialler: self.clone(),
            addr,
            retry,
            routes: Arc::downgrade(routes),
            takeover: Arc::downgrade(takeover),
        };
        routes.keep_late_dial(self.name(addr), Task::spawn(late.run(running)));
    }

    /// Dials `addr` once, to find out whether the first network has failed, unless that is done already.
    pub(super) fn check(&self, addr: SocketAddr, routes: &Arc<Routes<C>>) {
        if !routes.begin_check(self.name(addr)) {
            return;
        }
        let (dial, attempt) = (self.dial(addr), Attempt::begin(routes, addr));
        let check = async move {
            match rt::timeout(CHECK_TIME, dial).await {
                Ok(Ok(_conn)) => drop(attempt.succeeded()),
                Ok(Err(_)) | Err(_) => attempt.failed(),
            }
        };
        routes.keep_late_dial(self.name(addr), Task::spawn(check));
    }
}

impl<C> Clone for Dialler<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> fmt::Debug for Dialler<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler").finish_non_exhaustive()
    }
}

/// Whether a late dial that has failed is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    Never,
    WhileInUse,
}

/// A dial of the first network that goes on beside a connection of the second.
struct LateDial<C> {
    dialler: Dialler<C>,
    addr: SocketAddr,
    retry: Retry,
    // Weak, because the routes own the task that runs this.
    routes: Weak<Routes<C>>,
    takeover: Weak<Takeover>,
}

impl<C: MaybeSend + 'static> LateDial<C> {
    /// Dials until a dial succeeds. Then offers its connection for the next dial of the address and ends
    /// the connection of the second network.
    async fn run(self, mut running: Option<Dial<C>>) {
        let conn = loop {
            if let Some(dial) = running.take()
                && let Ok(Ok(conn)) = rt::timeout(LATE_DIAL_TIME, dial).await
            {
                break conn;
            }
            if self.retry == Retry::Never {
                return;
            }
            rt::sleep(RETRY_AFTER).await;
            if self.takeover.strong_count() == 0 {
                return;
            }
            running = Some(self.dialler.dial(self.addr));
        };
        let name = self.dialler.name(self.addr);
        let offer = {
            let Some(routes) = self.routes.upgrade() else {
                return;
            };
            let offer = routes.put_late(name, conn);
            drop(routes.reached(self.addr));
            offer
        };
        if let Some(takeover) = self.takeover.upgrade() {
            takeover.complete();
        }
        rt::sleep(LATE_VALID_FOR).await;
        drop(offer);
    }
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Counts dials, which fail.
    #[derive(Default)]
    struct Down(AtomicU32);

    impl DialFirst<Arc<()>> for Arc<Down> {
        fn name(&self, addr: SocketAddr) -> DialName {
            DialName {
                addr,
                local_addr: addr,
                identity: crate::credential::Identity::UNPROVED,
            }
        }

        fn dial(&self, _: SocketAddr) -> Dial<Arc<()>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { anyhow::bail!("down") })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_connection_that_is_not_used_is_dropped_although_a_check_was_due() {
        let routes = Arc::<Routes<Arc<()>>>::default();
        let down = Arc::<Down>::default();
        let dialler = Dialler(Arc::new(Arc::clone(&down)));
        let (addr, takeover) = (([10, 0, 0, 1], 7000).into(), Arc::default());
        let conn = Arc::new(());
        let late = Arc::clone(&conn);
        dialler.go_on(addr, Box::pin(async move { Ok(late) }), &routes, &takeover);
        rt::sleep(Duration::from_millis(1)).await;
        assert!(takeover.check().is_err() && routes.is_dialled_late(dialler.name(addr)));
        // As a datagram of the peer does, which may not know yet.
        dialler.check(addr, &routes);
        rt::sleep(LATE_VALID_FOR).await;
        assert_eq!(Arc::strong_count(&conn), 1, "nobody reads it");
        dialler.check(addr, &routes);
        assert_eq!(down.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_connection_is_dropped_with_its_dial_when_another_one_takes_its_place() {
        let routes = Arc::<Routes<Arc<()>>>::default();
        let dialler = Dialler(Arc::new(Arc::<Down>::default()));
        let (addr, takeover) = (([10, 0, 0, 1], 7000).into(), Arc::default());
        let conn = Arc::new(());
        let late = Arc::clone(&conn);
        dialler.go_on(addr, Box::pin(async move { Ok(late) }), &routes, &takeover);
        rt::sleep(Duration::from_millis(1)).await;
        assert_eq!(Arc::strong_count(&conn), 2);
        // Another dial of the same address had begun before, and fails.
        dialler.go_on(addr, dialler.dial(addr), &routes, &Arc::default());
        rt::sleep(LATE_VALID_FOR).await;
        assert_eq!(Arc::strong_count(&conn), 1, "nobody reads it");
        // One that succeeds has its own time.
        let (first, second) = (Arc::new(()), Arc::new(()));
        for late in [&first, &second] {
            let late = Arc::clone(late);
            dialler.go_on(addr, Box::pin(async move { Ok(late) }), &routes, &takeover);
            rt::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(Arc::strong_count(&first), 1);
        assert!(routes.take_late(dialler.name(addr)).is_some());
        rt::sleep(LATE_VALID_FOR).await;
        assert_eq!(Arc::strong_count(&second), 1);
    }
}
