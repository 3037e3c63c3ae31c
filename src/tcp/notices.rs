//! Log lines about peers that are refused because a program beside this one is configured wrongly.
//!
//! An operator sees them at the default level, which most refusals do not reach. Invariant: however
//! many peers are refused, a notice is logged once in [`EVERY`].

use std::net::SocketAddr;
use std::time::Duration;

use crate::rt::Instant;
use crate::rt::sync::Mutex;

/// The time after which a notice is logged again.
const EVERY: Duration = Duration::from_secs(600);

/// The notices of a listener.
#[derive(Debug, Default)]
pub(super) struct Notices {
    http10: Notice,
    tls: Notice,
    plain: Notice,
}

/// When a notice was logged last.
type Notice = Mutex<Option<Instant>>;

impl Notices {
    /// Notes that `peer` has sent a request over HTTP/1.0.
    pub(super) fn http10(&self, peer: SocketAddr) {
        if is_due(&mut self.http10.lock(), Instant::now()) {
            tracing::info!(
                %peer,
                "refused an HTTP/1.0 request, which cannot become a WebSocket; if nginx is in front, \
                 set \"proxy_http_version 1.1;\" there, and pass the Upgrade and Connection headers"
            );
        }
    }

    /// Notes that `peer` speaks TLS, and there is no certificate.
    pub(super) fn tls(&self, peer: SocketAddr) {
        if is_due(&mut self.tls.lock(), Instant::now()) {
            tracing::info!(
                %peer,
                "refused a TLS connection, since there is no certificate: configure one (TcpConfig::tls; \
                 gossip-node --tls-cert FILE --tls-key FILE), or dial without TLS"
            );
        }
    }

    /// Notes that `peer` does not speak TLS, which is required.
    pub(super) fn plain(&self, peer: SocketAddr) {
        if is_due(&mut self.plain.lock(), Instant::now()) {
            tracing::info!(
                %peer,
                "refused a connection without TLS, since only TLS is accepted here: dial tls:// or wss:// there"
            );
        }
    }
}

/// Returns whether a notice is due, and if so notes that it is logged.
fn is_due(logged: &mut Option<Instant>, now: Instant) -> bool {
    let due = logged.is_none_or(|logged| now.saturating_duration_since(logged) >= EVERY);
    if due {
        *logged = Some(now);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_logged_again_after_a_while() {
        let (start, mut logged) = (Instant::now(), None);
        let times = [0, 1, 599, 600, 601, 1199, 1200].map(Duration::from_secs);
        let due = times.map(|time| is_due(&mut logged, start + time));
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }
}
