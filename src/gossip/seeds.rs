//! The seeds of a member: their addresses, and why none of them can be reached.
//!
//! Nothing is gossiped here. Invariant: a seed that does not resolve or answer delays none of the
//! others.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::error::ConnectedError;
use crate::net::{ConnectError, NetTransport, is_dialable};
use crate::rt;
use crate::secure::HandshakeError;
use crate::transport_layer::DuplicateIdentity;

/// The time for which all seeds together are resolved.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The number of failed dials in a row after which a seed that closes the connection without a
/// reason is believed to refuse this member. One may be an accident.
const REFUSALS: u32 = 2;

/// The last failure to dial a seed: the number of failures in a row, and the error.
pub(super) type Failure = (u32, Arc<anyhow::Error>);

/// Returns the addresses of all seeds that can be resolved now, sorted and each of them once.
pub(super) async fn resolve<T: NetTransport>(transport: &T, seeds: &[String]) -> Vec<SocketAddr> {
    let resolving = seeds.iter().map(|seed| async move {
        let resolved = rt::timeout(ATTEMPT, transport.resolve(seed)).await;
        match resolved
            .map_err(anyhow::Error::from)
            .and_then(|inner| inner)
        {
            Ok(addrs) => addrs,
            Err(error) => {
                tracing::debug!(
                    seed,
                    error = format!("{error:#}"),
                    "a seed does not resolve"
                );
                Vec::new()
            }
        }
    });
    let mut addrs = BTreeSet::new();
    addrs.extend(futures::future::join_all(resolving).await.concat());
    addrs.into_iter().collect()
}

/// The outlook of a member that has not exchanged a message with any other.
#[derive(Debug)]
pub(super) enum Outlook {
    /// Nothing is known that a retry could not change.
    Open,
    /// This many seeds have not failed: they are connected, or not dialled yet. All others have.
    Reachable(usize),
    /// Every seed has failed, and this is the reason of one that a retry cannot change.
    Hopeless(ConnectedError),
}

/// Judges the seeds by the last failure to dial each of them, `None` without one.
pub(super) fn outlook(seeds: impl Iterator<Item = (SocketAddr, Option<Failure>)>) -> Outlook {
    let (mut reachable, mut found) = (0, None);
    for (seed, failure) in seeds {
        let cause = match failure {
            // Nothing dials such an address.
            _ if !is_dialable(seed) => Some(ConnectedError::NotDialable { seed }),
            None => {
                reachable += 1;
                continue;
            }
            Some((failures, error)) => {
                let cause = cause(seed, &error);
                let is_refusal = matches!(cause, Some(ConnectedError::HandshakeRefused { .. }));
                if is_refusal && failures < REFUSALS {
                    return Outlook::Open;
                }
                cause
            }
        };
        // An address that cannot be dialled says least about the cluster.
        let is_weak = matches!(found, None | Some(ConnectedError::NotDialable { .. }));
        if is_weak && cause.is_some() {
            found = cause;
        }
    }
    match found {
        _ if reachable > 0 => Outlook::Reachable(reachable),
        Some(error) => Outlook::Hopeless(error),
        None => Outlook::Open,
    }
}

/// Returns the cause of a failed dial if a retry cannot remove it.
fn cause(seed: SocketAddr, error: &anyhow::Error) -> Option<ConnectedError> {
    if let Some(error) = error.downcast_ref::<HandshakeError>() {
        return match error {
            HandshakeError::ClosedByPeer | HandshakeError::Decrypt => {
                Some(ConnectedError::HandshakeRefused { seed })
            }
            HandshakeError::Refused { reason } => Some(ConnectedError::Refused {
                seed,
                reason: *reason,
            }),
            HandshakeError::UntrustedPeer { identity } => Some(ConnectedError::UntrustedPeer {
                seed,
                identity: *identity,
            }),
            HandshakeError::UnsupportedVersion { theirs, ours } => {
                let (theirs, ours) = (*theirs, *ours);
                Some(ConnectedError::UnsupportedVersion { seed, theirs, ours })
            }
            HandshakeError::SuiteNotAllowed { .. } => {
                Some(ConnectedError::SuiteNotAllowed { seed })
            }
            HandshakeError::NoCommonProtocol => Some(ConnectedError::NoCommonProtocol { seed }),
            HandshakeError::NotOurProtocol => Some(ConnectedError::NotOurProtocol { seed }),
            _ => None,
        };
    }
    if error.is::<DuplicateIdentity>() {
        return Some(ConnectedError::DuplicateKey { seed });
    }
    match error.downcast_ref::<ConnectError>()? {
        ConnectError::NotPermitted { help, .. } => Some(ConnectedError::NotPermitted {
            seed,
            help: help.clone(),
        }),
        ConnectError::NotDialable { .. } => Some(ConnectedError::NotDialable { seed }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{Identity, Refusal};

    fn addr(n: u16) -> SocketAddr {
        ([10, 0, 0, 1], n).into()
    }

    fn refused(failures: u32) -> Option<Failure> {
        failed(failures, HandshakeError::ClosedByPeer)
    }

    fn failed(failures: u32, error: impl Into<anyhow::Error>) -> Option<Failure> {
        Some((failures, Arc::new(error.into())))
    }

    /// Returns the code of the error if the seeds leave no hope, and a word otherwise.
    fn judge(seeds: Vec<Option<Failure>>) -> &'static str {
        match outlook((1..).map(addr).zip(seeds)) {
            Outlook::Open => "open",
            Outlook::Reachable(_) => "reachable",
            Outlook::Hopeless(error) => error.code(),
        }
    }

    #[test]
    fn every_seed_must_have_closed_twice_to_refuse_a_member() {
        assert_eq!(judge(vec![]), "open");
        assert_eq!(judge(vec![None]), "reachable");
        assert_eq!(judge(vec![refused(1)]), "open");
        assert_eq!(judge(vec![refused(2)]), "handshake-refused");
        assert_eq!(judge(vec![refused(2), refused(1)]), "open");
        assert_eq!(judge(vec![refused(2), None]), "reachable");
        assert_eq!(judge(vec![refused(2), refused(3)]), "handshake-refused");
    }

    #[test]
    fn a_seed_that_is_merely_down_leaves_hope_unless_another_refuses() {
        let down = || {
            let after = Duration::from_secs(1);
            let addr = addr(1);
            failed(9, ConnectError::Timeout { addr, after })
        };
        assert_eq!(judge(vec![down()]), "open");
        assert_eq!(judge(vec![down(), refused(2)]), "handshake-refused");
        assert_eq!(judge(vec![refused(2), down()]), "handshake-refused");
    }

    #[test]
    fn each_cause_that_a_retry_cannot_remove_has_a_code() {
        let identity = Identity::from_bytes([1; 32]);
        let version = HandshakeError::UnsupportedVersion { theirs: 2, ours: 1 };
        let not_permitted = ConnectError::NotPermitted {
            addr: addr(1),
            help: "use wss".to_owned(),
        };
        let duplicate = DuplicateIdentity { addr: addr(1) };
        let cases = [
            (
                failed(1, HandshakeError::UntrustedPeer { identity }),
                "untrusted-peer",
            ),
            (failed(1, version), "unsupported-version"),
            (
                failed(1, HandshakeError::SuiteNotAllowed { suite: 1 }),
                "suite-not-allowed",
            ),
            (
                failed(1, HandshakeError::NoCommonProtocol),
                "no-common-protocol",
            ),
            (
                failed(1, HandshakeError::NotOurProtocol),
                "not-our-protocol",
            ),
            (failed(2, HandshakeError::Decrypt), "handshake-refused"),
            (failed(1, not_permitted), "not-permitted"),
            (failed(1, duplicate), "duplicate-key"),
        ];
        for (failure, code) in cases {
            assert_eq!(judge(vec![failure]), code);
        }
        for reason in [
            Refusal::Expired,
            Refusal::Revoked,
            Refusal::Quota,
            Refusal::Cluster,
        ] {
            let failure = failed(1, HandshakeError::Refused { reason });
            assert_eq!(judge(vec![failure]), reason.as_str());
        }
    }

    #[test]
    fn a_seed_that_cannot_be_dialled_is_reported_only_if_no_other_says_more() {
        let seeds = |last| [(([0, 0, 0, 0], 0).into(), None), (addr(1), last)].into_iter();
        assert!(matches!(outlook(seeds(None)), Outlook::Reachable(1)));
        let Outlook::Hopeless(error) = outlook(seeds(refused(2))) else {
            panic!("there is hope");
        };
        assert_eq!(error.code(), "handshake-refused");
        let Outlook::Hopeless(error) = outlook(seeds(None).take(1)) else {
            panic!("there is hope");
        };
        assert_eq!(error.code(), "not-dialable");
    }
}
