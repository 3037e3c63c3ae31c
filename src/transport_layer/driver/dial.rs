//! A dial, which runs beside the task of its peer.
//!
//! The peer may connect by itself in the meantime, and its task then writes to that connection. The
//! dial goes on: the peer may have accepted it already, and have written to it.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use futures::future::{Either, select};

use super::shared::Shared;
use super::trust::judge_new;
use crate::message::Message;
use crate::net::{ConnectError, NetConnection, NetTransport};
use crate::rt::{self, Instant};
use crate::transport_layer::core::NewDial;

/// Dials a peer once.
pub(super) struct Dialler<T: NetTransport, M: Message> {
    shared: Arc<Shared<T, M>>,
    dial: NewDial,
}

impl<T: NetTransport, M: Message> Dialler<T, M> {
    /// Starts a dial as a task of its own.
    pub(super) fn start(shared: &Arc<Shared<T, M>>, dial: NewDial) {
        let dialler = Self {
            shared: Arc::clone(shared),
            dial,
        };
        shared.tasks.spawn((), dialler.run());
    }

    async fn run(self) {
        let (shared, addr) = (&self.shared, self.dial.to);
        let mut attempt = pin!(rt::timeout(
            shared.config.dial_timeout,
            shared.transport.connect_from(
                shared.local_addr,
                addr,
                &shared.config.alpn,
                &shared.credential,
            ),
        ));
        // The peer may connect by itself, and its reader then asks whether the dial has ended.
        let attempt = poll_fn(|cx| {
            let seen = shared.revision();
            let poll = attempt.as_mut().poll(cx);
            if poll.is_pending() {
                shared.with(|peers, _| peers.dial_waits(self.dial.key, seen, cx.waker()));
            }
            poll
        });
        let given_up = pin!(poll_fn(|cx| self.dial.given_up.poll(cx)));
        match select(attempt, given_up).await {
            Either::Left((Ok(Ok(conn)), _)) => self.succeeded(conn),
            Either::Left((Ok(Err(error)), _)) => self.failed(error),
            Either::Left((Err(late), _)) => {
                let after = late.0;
                self.failed(ConnectError::Timeout { addr, after }.into());
            }
            Either::Right(_) => {}
        }
    }

    fn succeeded(&self, conn: T::Connection) {
        let (identity, grounds) = (conn.remote_identity(), conn.grounds());
        self.shared.with(|peers, fx| {
            peers.dial_succeeded(self.dial.key, conn, Instant::now(), fx);
        });
        judge_new(&self.shared, identity, grounds);
    }

    fn failed(&self, error: anyhow::Error) {
        let error = Arc::new(error);
        let failure = self
            .shared
            .with(|peers, fx| peers.dial_failed(self.dial.key, &error, Instant::now(), fx));
        if let Some(failure) = failure
            && failure.failures.is_power_of_two()
        {
            let addr = self.dial.to;
            let (failures, wait, dropped) = (failure.failures, failure.wait, failure.dropped);
            let error = format_args!("{error:#}");
            tracing::info!(%addr, failures, ?wait, dropped, error, "dial failed, backing off");
        }
    }
}
