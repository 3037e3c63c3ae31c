//! The log of how this node gets into the cluster: the seeds that cannot be resolved, the reason why
//! no seed lets it in, and that none answers; and of an invite with which no seed lets it in any more. None of it ends
//! the node, since all of it may change later.

use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::credential::InviteId;
use gossip_transport::gossip::{ConnectedError, SeedStatus};
use gossip_transport::net::NetTransport as _;
use gossip_transport::rt;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::PeerState;

use crate::node::Node;

/// The time after which a node that no seed lets in looks again.
const RETRY: Duration = Duration::from_secs(2);
/// The time without an answer after which that is logged. It doubles with each line.
const PATIENCE: Duration = Duration::from_secs(10);
/// The number of times in a row, [`RETRY`] apart, that a node is connected before a reason is logged again.
const SETTLED: u32 = 15;
/// The longest time between two lines that say that no seed answers.
const MAX_PATIENCE: Duration = Duration::from_secs(3600);

/// Logs the seeds that cannot be resolved within `limit`, until the tasks are dropped, so that a
/// misspelt one is noticed soon; and those on other machines, if `own`, the address that this node
/// advertises, leads nowhere from there. The node does not wait for a name server.
pub(crate) fn unresolved(
    seeds: &[String],
    own: SocketAddr,
    transport: &TcpTransport,
    limit: Duration,
) -> Vec<rt::Task> {
    let report =
        |seed: &String| rt::Task::spawn(resolve(seed.clone(), own, transport.clone(), limit));
    seeds.iter().map(report).collect()
}

/// A dial of a seed that failed: its address, the number of failures in a row, and the code of the error.
type Failure = (Option<SocketAddr>, u32, &'static str);

/// The reasons for which no member lets this node in any more, and that were logged.
#[derive(Debug)]
struct Refusals {
    /// The invite that they are about.
    invite: InviteId,
    /// The failures that were known when the invite was first seen. They are about a former one.
    before: Vec<Failure>,
    /// The codes of the errors.
    logged: Vec<&'static str>,
    /// The times in a row that the node was found connected.
    connected: u32,
}

impl Refusals {
    fn new(invite: InviteId, failures: &[Failure]) -> Self {
        Self {
            invite,
            before: failures.to_vec(),
            logged: Vec::new(),
            connected: 0,
        }
    }

    /// Notes the invite, whether the node is connected, and the failures. Returns the position of one that is to be
    /// logged.
    fn note(
        &mut self,
        invite: InviteId,
        is_connected: bool,
        failures: &[Failure],
    ) -> Option<usize> {
        if self.invite != invite {
            *self = Self::new(invite, failures);
        }
        // A dial that was under way with a former invite may fail once more.
        let is_about_former = |(addr, before, _): &Failure| {
            let mut counts = failures.iter().filter(|(at, ..)| at == addr);
            counts.any(|(_, count, _)| (*before..=before.saturating_add(1)).contains(count))
        };
        self.before.retain(is_about_former);
        if is_connected {
            self.connected = self.connected.saturating_add(1);
            if self.connected >= SETTLED {
                self.logged.clear();
            }
            return None;
        }
        self.connected = 0;
        let is_news = |(addr, _, code): &Failure| {
            let is_about_former = self.before.iter().any(|(at, ..)| at == addr);
            !is_about_former && !self.logged.contains(code)
        };
        let first = failures.iter().position(is_news)?;
        self.logged
            .extend(failures.get(first).map(|(.., code)| *code));
        Some(first)
    }
}

async fn resolve(seed: String, own: SocketAddr, transport: TcpTransport, limit: Duration) {
    match rt::timeout(limit, transport.resolve(&seed)).await {
        Ok(Ok(addrs)) => {
            tracing::debug!(seed, ?addrs, "resolved a seed");
            if is_out_of_reach(own, &addrs) {
                tracing::warn!(seed, %own, "this node advertises a loopback address, which leads nowhere \
                    from other machines: give --listen or --advertise an address of this machine");
            }
        }
        Ok(Err(error)) => {
            tracing::warn!(seed, "cannot resolve a seed, will try again: {error:#}");
        }
        Err(elapsed) => tracing::warn!(seed, "resolving a seed {elapsed}, will try again"),
    }
}

/// Returns whether the address `own` cannot be dialled from where all of `addrs` are.
fn is_out_of_reach(own: SocketAddr, addrs: &[SocketAddr]) -> bool {
    let is_loopback = |addr: &SocketAddr| addr.ip().to_canonical().is_loopback();
    is_loopback(&own) && !addrs.is_empty() && !addrs.iter().any(is_loopback)
}

/// Logs the reason why no seed lets this node in, whenever it changes, or now and then that none
/// answers, and at last that the node has heard from another member. Ends after that, or when the
/// returned task is dropped or the node leaves. A node with an invite looks on: the invite ends some day.
pub(crate) fn entry(node: Node) -> rt::Task {
    rt::Task::spawn(async move {
        let mut logged = None;
        let mut patience = PATIENCE;
        while let Some(connected) = node.with(|participant| participant.connected()) {
            let Ok(connected) = rt::timeout(patience, connected).await else {
                let seeds = node.with(|participant| participant.seeds());
                log_silence(patience, &seeds.unwrap_or_default());
                patience = (patience * 2).min(MAX_PATIENCE);
                continue;
            };
            match connected {
                Ok(()) => {
                    tracing::info!("joined the cluster");
                    return refusals(node).await;
                }
                Err(ConnectedError::Left) => return,
                Err(error) if logged.as_ref() != Some(&error) => {
                    tracing::warn!(
                        code = error.code(),
                        "not in the cluster yet, will try again: {error}"
                    );
                    logged = Some(error);
                }
                Err(_) => {}
            }
            rt::sleep(RETRY).await;
        }
    })
}

/// Logs why no member lets a node with an invite in any more, once for each reason until it has been connected for a
/// while. Ends when the node leaves.
async fn refusals(node: Node) {
    let mut refusals = None;
    while let Some(invite) = node.trust.held_invite() {
        let Some((seeds, stats)) =
            node.with(|participant| (participant.seeds(), participant.stats()))
        else {
            return;
        };
        let mut peers = stats.peers.values();
        let is_connected = peers.any(|peer| peer.state == PeerState::Connected);
        // That an address leads nowhere does not tell why the others refuse.
        let is_reason =
            |error: &&ConnectedError| !matches!(error, ConnectedError::NotDialable { .. });
        let errors = seeds.iter().filter_map(|seed| {
            let error = seed.cause.as_ref().filter(is_reason)?;
            Some(((seed.addr, seed.failures, error.code()), error))
        });
        let (failures, errors): (Vec<_>, Vec<_>) = errors.unzip();
        let invite = invite.claims().id();
        let refusals = refusals.get_or_insert_with(|| Refusals::new(invite, &failures));
        let found = refusals.note(invite, is_connected, &failures);
        if let Some(error) = found.and_then(|found| errors.get(found)) {
            tracing::warn!(
                code = error.code(),
                ?invite,
                "not in the cluster any more, will try again: {error}; a new invite takes effect as soon as it \
                 is in the file of --invite"
            );
        }
        rt::sleep(RETRY).await;
    }
}

/// Logs that no seed has answered, with the last error of each.
fn log_silence(waited: Duration, seeds: &[SeedStatus]) {
    if seeds.is_empty() {
        return;
    }
    let seeds: Vec<_> = seeds.iter().map(describe).collect();
    tracing::warn!(
        seconds = waited.as_secs(),
        "no other member has answered yet, will try again: {}",
        seeds.join("; ")
    );
}

fn describe(seed: &SeedStatus) -> String {
    let name = &seed.name;
    match (&seed.error, seed.addr) {
        (Some(error), Some(addr)) if addr.to_string() != *name => {
            format!("{name} ({addr}): {error:#}")
        }
        (Some(error), _) => format!("{name}: {error:#}"),
        (None, _) => format!("{name}: {}", seed.state.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_logged_once_for_each_invite_until_the_node_was_connected_for_a_while() {
        let now = Duration::from_secs(1);
        let [first, second] = [1, 2].map(|_| InviteId::generate(now, now).unwrap());
        let [a, b] = [1, 2].map(|n| Some(SocketAddr::from(([127, 0, 0, n], 1))));
        let mut refusals = Refusals::new(first, &[]);
        let mut note = |invite, failures: &[Failure]| refusals.note(invite, false, failures);
        assert_eq!(note(first, &[]), None);
        assert_eq!(note(first, &[(a, 1, "revoked")]), Some(0));
        assert_eq!(note(first, &[(a, 2, "revoked")]), None);
        assert_eq!(note(first, &[(a, 2, "expired")]), Some(0));
        assert_eq!(note(first, &[(a, 3, "revoked")]), None, "two may differ");
        // The last errors of both were about the former invite.
        let former = [(a, 3, "revoked"), (b, 1, "expired")];
        assert_eq!(note(second, &former), None);
        assert_eq!(note(second, &former), None);
        let under_way = [(a, 3, "revoked"), (b, 2, "expired")];
        assert_eq!(note(second, &under_way), None);
        let failed = [(a, 3, "revoked"), (b, 3, "revoked")];
        assert_eq!(note(second, &failed), Some(1));
        for connected in [SETTLED - 1, SETTLED] {
            for _ in 0..connected {
                assert_eq!(refusals.note(second, true, &[(a, 4, "expired")]), None);
            }
            let found = refusals.note(second, false, &[(b, 3, "revoked")]);
            assert_eq!(found, (connected == SETTLED).then_some(0));
        }
    }

    #[test]
    fn a_loopback_address_leads_nowhere_from_seeds_on_other_machines() {
        let addrs = |addrs: &[&str]| -> Vec<SocketAddr> {
            addrs.iter().map(|addr| addr.parse().unwrap()).collect()
        };
        let local: SocketAddr = "127.0.0.1:7946".parse().unwrap();
        let lan: SocketAddr = "10.0.0.5:7946".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:7946".parse().unwrap();
        for (own, seeds, expected) in [
            (local, addrs(&["10.0.0.6:7946"]), true),
            (mapped, addrs(&["10.0.0.6:7946"]), true),
            (local, addrs(&["127.0.0.1:7947"]), false),
            (local, addrs(&["[::1]:7947", "10.0.0.6:7946"]), false),
            (local, addrs(&[]), false),
            (lan, addrs(&["10.0.0.6:7946"]), false),
        ] {
            assert_eq!(is_out_of_reach(own, &seeds), expected, "{own} {seeds:?}");
        }
    }
}
