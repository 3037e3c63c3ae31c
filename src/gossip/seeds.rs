//! The seeds of a member: their addresses, and why none of them can be reached.
//!
//! Nothing is gossiped here. Invariant: a seed that does not resolve or answer delays none of the
//! others.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::error::ConnectedError;
use crate::net::{ConnectError, NetTransport, may_be_dialled};
use crate::rt;
use crate::secure::HandshakeError;
use crate::transport_layer::{DuplicateIdentity, PeerState, Refused, SocketStats};

/// The time for which all seeds together are resolved.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The number of failed dials in a row after which a seed that closes the connection without a
/// reason is believed to refuse this member. One may be an accident.
const REFUSALS: u32 = 2;

/// The last failure to dial a seed: the number of failures in a row, and the error.
pub(super) type Failure = (u32, Arc<anyhow::Error>);

/// A seed, and how far a participant has come with it, as
/// [`Participant::seeds`](super::Participant::seeds) returns it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SeedStatus {
    /// The seed as it was configured.
    pub name: String,
    /// One of its addresses, or `None` as long as none is known.
    pub addr: Option<SocketAddr>,
    /// The state of the connection with that address.
    pub state: PeerState,
    /// The time until the next dial, while `state` is [`PeerState::BackingOff`].
    pub next_dial: Option<Duration>,
    /// Dials of that address that have failed in a row.
    pub failures: u32,
    /// The error of the last dial, or of resolving the name. `None` after a success.
    pub error: Option<Arc<anyhow::Error>>,
    /// The cause of `error` and its remedy, if a retry cannot change it. A seed that closes the connection without a
    /// reason must have done so twice. Unlike [`Participant::connected`](super::Participant::connected), this is
    /// known also for a member that has lost all its connections.
    pub cause: Option<ConnectedError>,
}

/// The seeds that were configured, and their addresses as they were last resolved.
#[derive(Debug)]
pub(super) struct Seeds(Vec<Seed>);

#[derive(Debug)]
struct Seed {
    name: String,
    addrs: Vec<SocketAddr>,
    /// Why the name was not resolved the last time.
    error: Option<Arc<anyhow::Error>>,
}

/// The results of resolving the seeds once, in their order.
pub(super) type Resolved = Vec<anyhow::Result<Vec<SocketAddr>>>;

/// Resolves all seeds.
pub(super) async fn resolve<T: NetTransport>(transport: &T, seeds: &[String]) -> Resolved {
    let resolving = seeds.iter().map(|seed| async move {
        let resolved = rt::timeout(ATTEMPT, transport.resolve(seed)).await;
        let resolved = resolved
            .map_err(anyhow::Error::from)
            .and_then(|inner| inner);
        if let Err(error) = &resolved {
            let error = format_args!("{error:#}");
            tracing::debug!(seed, error, "a seed does not resolve");
        }
        resolved
    });
    futures::future::join_all(resolving).await
}

impl Seeds {
    pub(super) fn new(names: &[String]) -> Self {
        let seed = |name: &String| Seed {
            name: name.clone(),
            addrs: Vec::new(),
            error: None,
        };
        Self(names.iter().map(seed).collect())
    }

    /// Records the addresses of all seeds. One that was not resolved keeps those that it has.
    pub(super) fn update(&mut self, resolved: Resolved) {
        for (seed, resolved) in self.0.iter_mut().zip(resolved) {
            match resolved {
                Ok(addrs) => {
                    seed.addrs = addrs;
                    seed.error = None;
                }
                Err(error) => seed.error = Some(Arc::new(error)),
            }
        }
    }

    /// Returns all addresses, sorted and each of them once.
    pub(super) fn addrs(&self) -> Vec<SocketAddr> {
        let mut addrs = BTreeSet::new();
        addrs.extend(self.0.iter().flat_map(|seed| &seed.addrs).copied());
        addrs.into_iter().collect()
    }

    /// Returns the name of the seed at `addr`, with the address if the name has several.
    fn name(&self, addr: SocketAddr) -> String {
        match self.0.iter().find(|seed| seed.addrs.contains(&addr)) {
            Some(seed) if seed.addrs.len() == 1 => seed.name.clone(),
            Some(seed) => format!("{} ({addr})", seed.name),
            None => addr.to_string(),
        }
    }

    /// Judges the seeds by the last failure to dial each of their addresses, `None` without one.
    pub(super) fn outlook(&self, failure: impl Fn(SocketAddr) -> Option<Failure>) -> Outlook {
        let addrs = self.addrs().into_iter();
        outlook(addrs.map(|addr| (self.name(addr), addr, failure(addr))))
    }

    /// Returns each address of each seed with the state of its connection, and seeds without an address.
    pub(super) fn status(
        &self,
        stats: &SocketStats,
        failure: impl Fn(SocketAddr) -> Option<Failure>,
    ) -> Vec<SeedStatus> {
        let mut all = Vec::new();
        for seed in &self.0 {
            let status = |addr: Option<SocketAddr>| {
                let peer = addr.and_then(|addr| stats.peers.get(&addr));
                // A seed that was dialled by a URL is registered under another address.
                let mut connections = stats.connections.iter();
                let is_connected = connections.any(|connection| {
                    let ends = [connection.remote_addr, connection.network_addr];
                    addr.is_some_and(|addr| ends.contains(&addr))
                });
                let failed = addr.and_then(&failure);
                let cause =
                    addr.and_then(|addr| certain_cause(self.name(addr), addr, failed.as_ref()));
                let (failures, error) = match failed {
                    Some((failures, error)) => (failures, Some(error)),
                    None => (0, seed.error.clone()),
                };
                SeedStatus {
                    name: seed.name.clone(),
                    addr,
                    state: match peer {
                        _ if is_connected => PeerState::Connected,
                        Some(peer) => peer.state,
                        None => PeerState::Idle,
                    },
                    next_dial: peer.and_then(|peer| peer.next_dial),
                    failures,
                    error,
                    cause,
                }
            };
            if seed.addrs.is_empty() {
                all.push(status(None));
            }
            all.extend(seed.addrs.iter().map(|addr| status(Some(*addr))));
        }
        all
    }
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

/// Judges the seeds, each with its name and address, by the last failure to dial each of them.
fn outlook(seeds: impl Iterator<Item = (String, SocketAddr, Option<Failure>)>) -> Outlook {
    let (mut reachable, mut found) = (0, None);
    for (seed, addr, failure) in seeds {
        let cause = match failure {
            // Nothing dials such an address.
            _ if !may_be_dialled(addr) => Some(ConnectedError::NotDialable { seed }),
            None => {
                reachable += 1;
                continue;
            }
            Some((failures, error)) => {
                let cause = cause(seed, &error);
                if cause
                    .as_ref()
                    .is_some_and(|cause| is_early(cause, failures))
                {
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

/// Returns the cause for which a seed is not reached if it is certain that a retry cannot remove it.
fn certain_cause(
    seed: String,
    addr: SocketAddr,
    failure: Option<&Failure>,
) -> Option<ConnectedError> {
    if !may_be_dialled(addr) {
        return Some(ConnectedError::NotDialable { seed });
    }
    let (failures, error) = failure?;
    cause(seed, error).filter(|cause| !is_early(cause, *failures))
}

/// Returns whether this many failures are too few to believe in `cause`.
fn is_early(cause: &ConnectedError, failures: u32) -> bool {
    matches!(cause, ConnectedError::HandshakeRefused { .. }) && failures < REFUSALS
}

/// Returns the cause of a failed dial if a retry cannot remove it.
fn cause(seed: String, error: &anyhow::Error) -> Option<ConnectedError> {
    if let Some(error) = error.downcast_ref::<HandshakeError>() {
        return match error {
            HandshakeError::ClosedByPeer | HandshakeError::Decrypt => {
                Some(ConnectedError::HandshakeRefused { seed })
            }
            HandshakeError::Refused { reason } => Some(ConnectedError::Refused {
                seed,
                reason: *reason,
            }),
            HandshakeError::NotCore { .. } => Some(ConnectedError::NotCore { seed }),
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
            HandshakeError::NotOurProtocol
            | HandshakeError::Malformed { .. }
            | HandshakeError::Oversized { .. } => Some(ConnectedError::NotOurProtocol { seed }),
            // What has arrived is no frame, such as a text over a WebSocket.
            HandshakeError::Carrier(error) if error.kind() == io::ErrorKind::InvalidData => {
                Some(ConnectedError::NotOurProtocol { seed })
            }
            _ => None,
        };
    }
    if error.is::<DuplicateIdentity>() {
        return Some(ConnectedError::DuplicateKey { seed });
    }
    if let Some(Refused { reason, .. }) = error.downcast_ref() {
        let reason = *reason;
        return Some(ConnectedError::Refused { seed, reason });
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
        let named = |(n, failure)| (format!("seed {n}"), addr(n), failure);
        match outlook((1..).zip(seeds).map(named)) {
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
            (failed(1, HandshakeError::NotCore { identity }), "not-core"),
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
            (
                failed(1, HandshakeError::Malformed { what: "it" }),
                "not-our-protocol",
            ),
            (
                failed(1, HandshakeError::Oversized { len: 9, max: 8 }),
                "not-our-protocol",
            ),
            (
                failed(
                    1,
                    HandshakeError::Carrier(io::ErrorKind::InvalidData.into()),
                ),
                "not-our-protocol",
            ),
            (
                failed(
                    9,
                    HandshakeError::Carrier(io::ErrorKind::OutOfMemory.into()),
                ),
                "open",
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
            Refusal::Name,
            Refusal::Cluster,
            Refusal::Clock,
        ] {
            let failure = failed(1, HandshakeError::Refused { reason });
            assert_eq!(judge(vec![failure]), reason.as_str());
            let addr = addr(1);
            let failure = failed(1, Refused { addr, reason });
            assert_eq!(judge(vec![failure]), reason.as_str());
        }
    }

    #[test]
    fn a_seed_that_cannot_be_dialled_is_reported_only_if_no_other_says_more() {
        let unspecified = ([0, 0, 0, 0], 0).into();
        let seeds = |last| {
            let seeds = [(unspecified, None), (addr(1), last)].into_iter();
            seeds.map(|(addr, failure)| (addr.to_string(), addr, failure))
        };
        assert!(matches!(outlook(seeds(None)), Outlook::Reachable(1)));
        let Outlook::Hopeless(error) = outlook(seeds(refused(2))) else {
            panic!("there is hope");
        };
        assert_eq!(error.code(), "handshake-refused");
        // Of several that do, the first one counts, wherever it stands.
        let protocol = failed(1, HandshakeError::NoCommonProtocol);
        let reversed = [
            (addr(1), protocol),
            (addr(2), refused(2)),
            (unspecified, None),
        ];
        let reversed = reversed.map(|(addr, failure)| (addr.to_string(), addr, failure));
        let Outlook::Hopeless(error) = outlook(reversed.into_iter()) else {
            panic!("there is hope");
        };
        assert_eq!(error.code(), "no-common-protocol");
        let Outlook::Hopeless(error) = outlook(seeds(None).take(1)) else {
            panic!("there is hope");
        };
        assert_eq!(error.code(), "not-dialable");
    }

    #[test]
    fn the_status_of_a_seed_has_the_cause_once_it_is_certain_that_a_retry_cannot_remove_it() {
        let names = ["a.example:7946", "0.0.0.0:7946"].map(str::to_owned);
        let mut seeds = Seeds::new(&names);
        let unspecified = ([0, 0, 0, 0], 7946).into();
        seeds.update(vec![Ok(vec![addr(1)]), Ok(vec![unspecified])]);
        let codes = |failure: Option<Failure>| {
            let failure = |at| failure.clone().filter(|_| at == addr(1));
            let status = seeds.status(&SocketStats::default(), failure).into_iter();
            let codes = status.map(|seed| seed.cause.map(|cause| cause.code()));
            codes.collect::<Vec<_>>()
        };
        let not_dialable = Some("not-dialable");
        assert_eq!(codes(None), [None, not_dialable]);
        assert_eq!(codes(refused(1)), [None, not_dialable]);
        let twice = codes(refused(2));
        assert_eq!(twice, [Some("handshake-refused"), not_dialable]);
        let reason = Refusal::Revoked;
        let revoked = codes(failed(1, HandshakeError::Refused { reason }));
        assert_eq!(revoked, [Some("revoked"), not_dialable]);
    }

    #[test]
    fn an_error_names_the_seed_as_it_was_configured() {
        let names = ["node.example:7946", "10.0.0.1:1", "nowhere:7946"].map(str::to_owned);
        let mut seeds = Seeds::new(&names);
        let two = vec![addr(8), addr(9)];
        let unknown = || Err(anyhow::anyhow!("no such host"));
        seeds.update(vec![Ok(two.clone()), Ok(vec![addr(1)]), unknown()]);
        assert_eq!(seeds.addrs(), [addr(1), addr(8), addr(9)]);
        assert_eq!(seeds.name(addr(1)), "10.0.0.1:1");
        assert_eq!(seeds.name(addr(8)), "node.example:7946 (10.0.0.1:8)");
        // A seed that is not resolved keeps the addresses that it has.
        seeds.update(vec![unknown(), Ok(vec![addr(2)]), unknown()]);
        assert_eq!(seeds.addrs(), [addr(2), addr(8), addr(9)]);
        let status = seeds.status(&SocketStats::default(), |at| {
            refused(3).filter(|_| at == addr(8))
        });
        let errors = status.iter().map(|seed| {
            let error = seed.error.as_ref().map(ToString::to_string);
            (seed.name.as_str(), seed.addr, seed.failures, error)
        });
        let closed = HandshakeError::ClosedByPeer.to_string();
        let unknown = "no such host".to_owned();
        assert_eq!(
            errors.collect::<Vec<_>>(),
            [
                (names[0].as_str(), Some(addr(8)), 3, Some(closed)),
                (names[0].as_str(), Some(addr(9)), 0, Some(unknown.clone())),
                (names[1].as_str(), Some(addr(2)), 0, None),
                (names[2].as_str(), None, 0, Some(unknown)),
            ]
        );
    }
}
