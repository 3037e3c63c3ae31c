//! The accept loop.
//!
//! It runs no handshake itself: each is a task of its own. Invariant: a peer that is slow or never
//! answers delays no other, and the loop survives every error.

use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt as _;

use super::intake::Intake;
use crate::host::{Host, one_to_end};
use crate::message::Message;
use crate::net::{AcceptFailure, NetIncomingRequest, NetListener, NetTransport};
use crate::rt;
use crate::rt::sync::yield_now;

/// The pause after the listener itself has failed: too short for a peer to notice, and long enough
/// to keep the loop from spinning.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Accepts connections until it is dropped, which frees the port. At most
/// [`max_pending_handshakes`](crate::TransportLayerConfig::max_pending_handshakes) handshakes run at a
/// time; one more ends the oldest of the host that has the most.
pub(in crate::transport_layer) async fn handle_socket_listener<T: NetTransport, M: Message>(
    intake: Intake<T, M>,
    listener: T::Listener,
) {
    let accept = AcceptLoop { intake, listener };
    accept.run().await;
}

/// After this many peers in a row that were accepted without a handshake, other tasks get their turn.
const YIELD_AFTER: u32 = 16;

struct AcceptLoop<T: NetTransport, M: Message> {
    intake: Intake<T, M>,
    listener: T::Listener,
}

impl<T: NetTransport, M: Message> AcceptLoop<T, M> {
    async fn run(self) {
        let mut failures: u64 = 0;
        let mut in_a_row = 0;
        loop {
            match self.listener.accept().await {
                Ok(request) if request.needs_handshake() => self.start_handshake(request),
                Ok(request) => {
                    self.accept_at_once(request);
                    in_a_row += 1;
                    if in_a_row >= YIELD_AFTER {
                        in_a_row = 0;
                        yield_now().await;
                    }
                }
                Err(error) => {
                    failures += 1;
                    if failures.is_power_of_two() {
                        let error = format_args!("{error:#}");
                        tracing::warn!(failures, error, "accept failed");
                    }
                    rt::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }

    /// Accepts a peer that proves nothing, beside the handshakes: their number is limited, and a flood of
    /// datagrams would end those of peers that prove their identity.
    fn accept_at_once<R: NetIncomingRequest<Connection = T::Connection>>(&self, request: R) {
        let addr = request.remote_addr();
        match request.accept().now_or_never() {
            Some(Ok(conn)) => self.intake.accepted(conn),
            Some(Err(error)) => count_error::<R, _, _>(&self.intake, addr, &error),
            None => {
                let why = "it did not complete at once";
                count_failure(&self.intake, addr, AcceptFailure::Other, &why);
            }
        }
    }

    fn start_handshake<R: NetIncomingRequest<Connection = T::Connection>>(&self, request: R) {
        let shared = &self.intake.shared;
        let addr = request.remote_addr();
        let host = Host::of(addr.ip());
        let excess = shared
            .handshakes
            .take_excess(shared.config.max_pending_handshakes, |running| {
                one_to_end(running, host)
            });
        if let Some(excess) = excess {
            drop(excess);
            let why = "too many handshakes at a time";
            count_failure(&self.intake, addr, AcceptFailure::Crowded, &why);
        }
        let intake = self.intake.clone();
        let limit = shared.config.dial_timeout;
        shared.handshakes.spawn(host, async move {
            match rt::timeout(limit, request.accept()).await {
                Ok(Ok(conn)) => intake.accepted(conn),
                Ok(Err(error)) => count_error::<R, _, _>(&intake, addr, &error),
                Err(late) => count_failure(&intake, addr, AcceptFailure::Timeout, &late),
            }
        });
    }
}

/// Counts an error of a request `R`.
fn count_error<R: NetIncomingRequest, T: NetTransport, M: Message>(
    intake: &Intake<T, M>,
    addr: SocketAddr,
    error: &anyhow::Error,
) {
    if let Some(reason) = R::failure(error) {
        count_failure(intake, addr, reason, &format_args!("{error:#}"));
    }
}

/// Counts a handshake that has failed. Anyone can make handshakes fail, so the number of log lines for each
/// reason grows with the logarithm of its count. A flood with one reason hides no other.
fn count_failure<T: NetTransport, M: Message>(
    intake: &Intake<T, M>,
    addr: SocketAddr,
    reason: AcceptFailure,
    why: &dyn std::fmt::Display,
) {
    let failures = intake.shared.with(|peers, _| peers.accept_failed(reason));
    if !reason.is_failure() {
        tracing::debug!(%addr, %why, "served an incoming connection that is of no peer");
    } else if failures.is_power_of_two() {
        tracing::info!(failures, %addr, %why, "refused an incoming connection");
    }
}
