//! The certificate of the gossip port and its orders, as `/status` and `/metrics` show them.
//!
//! Reads only, at each request, since the certificate is replaced while the node runs. Invariant: it keeps no task alive, and
//! shows nothing of the private key.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use gossip_transport::acme::{AcmeStatus, RunningAcme};
use gossip_transport::rt;
use gossip_transport::tcp::TlsIdentity;
use serde::Serialize;

use crate::rfc3339;

/// The certificate of the gossip port, and the task that orders it. Clones share both.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    identity: Option<TlsIdentity>,
    /// Ends when the node leaves.
    acme: Weak<RunningAcme>,
}

/// What is known about TLS at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct TlsStatus {
    /// Nothing until there is a first one.
    pub(crate) certificate: Option<CertificateStatus>,
    /// Times at which its files could not be used.
    pub(crate) reload_failures: u64,
    /// Nothing if the certificate is from files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) acme: Option<OrdersStatus>,
}

/// The certificate in use. Times are missing if they have a form that is not understood.
#[derive(Debug, Serialize)]
pub(crate) struct CertificateStatus {
    valid_from: Option<String>,
    expires: Option<String>,
    /// In seconds since 1970-01-01 UTC.
    pub(crate) expires_at: Option<u64>,
    /// Less than 0 once it has expired.
    remaining_seconds: Option<i64>,
}

/// What was done for the certificate of `--acme`.
#[derive(Debug, Serialize)]
pub(crate) struct OrdersStatus {
    pub(crate) orders: u64,
    pub(crate) issued: u64,
    pub(crate) failures: BTreeMap<&'static str, u64>,
    /// The error of the last attempt, if it failed.
    pub(crate) last_error: Option<ErrorStatus>,
    next_order: String,
    /// In seconds since 1970-01-01 UTC.
    pub(crate) next_order_at: u64,
}

/// An error of an attempt to get a certificate.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorStatus {
    reason: &'static str,
    /// With its causes.
    text: String,
}

impl Tls {
    pub(crate) fn new(identity: Option<TlsIdentity>, acme: Option<&Arc<RunningAcme>>) -> Self {
        Self {
            identity,
            acme: acme.map(Arc::downgrade).unwrap_or_default(),
        }
    }

    /// Returns what is known now, or `None` if the gossip port accepts no TLS.
    pub(crate) fn status(&self) -> Option<TlsStatus> {
        let identity = self.identity.as_ref()?;
        let acme = self.acme.upgrade().map(|acme| acme.status());
        let now = rt::unix_time();
        let certificate = identity
            .has_certificate()
            .then(|| CertificateStatus::new(identity.valid_from(), identity.expires_at(), now));
        Some(TlsStatus {
            certificate,
            reload_failures: identity.reload_failures(),
            acme: acme.map(Into::into),
        })
    }
}

impl CertificateStatus {
    fn new(valid_from: Option<Duration>, expires: Option<Duration>, now: Duration) -> Self {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Self {
            valid_from: valid_from.map(rfc3339::utc),
            expires: expires.map(rfc3339::utc),
            expires_at: expires.map(|expires| expires.as_secs()),
            remaining_seconds: expires.map(|expires| seconds(expires).saturating_sub(seconds(now))),
        }
    }
}

impl From<AcmeStatus> for OrdersStatus {
    fn from(status: AcmeStatus) -> Self {
        let last_error = status.last_error.map(|error| ErrorStatus {
            reason: error.kind(),
            text: format!("{:#}", anyhow::Error::new(error)),
        });
        Self {
            orders: status.orders,
            issued: status.issued,
            failures: status.failures,
            last_error,
            next_order: rfc3339::utc(status.next_order),
            next_order_at: status.next_order.as_secs(),
        }
    }
}

#[cfg(test)]
impl TlsStatus {
    /// Returns that of a node whose first order has not begun.
    pub(crate) fn nothing_yet() -> Self {
        let failures = gossip_transport::acme::AcmeError::KINDS.iter();
        let orders = OrdersStatus {
            failures: failures.map(|kind| (*kind, 0)).collect(),
            ..AcmeStatus::default().into()
        };
        Self {
            certificate: None,
            reload_failures: 0,
            acme: Some(orders),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_certificate_is_negative_once_it_has_expired() {
        let rest = |expires, now| {
            let seconds = Duration::from_secs;
            CertificateStatus::new(None, Some(seconds(expires)), seconds(now)).remaining_seconds
        };
        assert_eq!(rest(100, 30), Some(70));
        assert_eq!(rest(100, 130), Some(-30));
        assert_eq!(rest(u64::MAX, 0), Some(i64::MAX));
    }

    #[test]
    fn without_a_certificate_to_come_nothing_is_shown() {
        assert!(Tls::default().status().is_none());
        let waiting = Tls::new(Some(TlsIdentity::without_certificate()), None);
        let waiting = serde_json::to_value(waiting.status()).unwrap();
        assert_eq!(
            waiting,
            serde_json::json!({ "certificate": null, "reload_failures": 0 })
        );
    }
}
