//! Members of a cluster that is larger than the number of connections that each of them may have.

use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::gossip::{GossipConfig, Liveness, Participant};
use gossip_transport::memory::{MemoryNetwork, MemoryTransport};
use gossip_transport::{ClusterSecret, TransportLayerConfig, TransportLayerTransport};
use tokio::time::{Instant, sleep};

use crate::support::{member, until};

const MEMBERS: u8 = 30;
const INTERVAL: Duration = Duration::from_secs(1);

fn addr(n: u8) -> SocketAddr {
    ([10, 0, 0, n], 7000).into()
}

/// Starts members that may have `places` connections and dials each, and waits until all of them find all
/// others live.
async fn cluster(places: usize) -> Vec<Participant<MemoryTransport>> {
    let (network, secret) = (MemoryNetwork::new(3), ClusterSecret::generate());
    let mut members = Vec::new();
    for n in 1..=MEMBERS {
        let config = TransportLayerConfig::default().with_max_connections(places);
        let host = network.host(addr(n).ip());
        let transport = TransportLayerTransport::with_config(host, member(&secret), config);
        let mut config = GossipConfig::new("cluster", format!("m{n}"));
        config.seeds = vec![addr(1).to_string()];
        config.rng_seed = Some(n.into());
        let socket = transport.open(addr(n)).await.unwrap();
        let joined = Participant::join(socket, config.with_interval(INTERVAL));
        members.push(joined.await.unwrap());
    }
    until("all to be live", async || members.iter().all(sees_all)).await;
    members
}

fn sees_all(member: &Participant<MemoryTransport>) -> bool {
    let members = member.members();
    let others = members.iter().filter(|m| m.liveness == Liveness::Live);
    others.count() == usize::from(MEMBERS) - 1
}

fn dials(members: &[Participant<MemoryTransport>]) -> u64 {
    members.iter().map(|member| member.stats().dials).sum()
}

#[tokio::test(start_paused = true)]
async fn members_that_cannot_be_connected_to_all_others_dial_rarely_at_rest() {
    for places in [6, 13] {
        let members = cluster(places).await;
        sleep(INTERVAL * 60).await;
        let before = dials(&members);
        let mut slowest = Duration::ZERO;
        for n in 0..20 {
            let writer = &members[usize::from(n % MEMBERS)];
            writer.set("change", &n.to_string()).unwrap();
            let name = writer.id().node_id;
            let start = Instant::now();
            let has_it = |member: &Participant<MemoryTransport>| {
                let known = member.members();
                let known = known.iter().find(|m| m.id.node_id == name).unwrap();
                let change = known.key_values.get("change");
                change.is_some_and(|change| *change.value == n.to_string())
            };
            until("the change to arrive", async || members.iter().all(has_it)).await;
            slowest = slowest.max(start.elapsed());
            sleep(INTERVAL * 3).await;
        }
        assert!(slowest < INTERVAL * 3, "{places} places: {slowest:?}");
        let rounds = 60 * u64::from(MEMBERS);
        let dials = dials(&members) - before;
        assert!(
            dials < rounds / 3,
            "{places} places: {dials} dials in {rounds} rounds"
        );
        assert!(members.iter().all(sees_all), "{places} places");
    }
}
