//! The holder of an invite and its quotas: it is told at once what others would refuse, and deleted keys do not use
//! them up. Over the in-memory network in virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::credential::Quotas;
use gossip_transport::gossip::{
    DialPolicy, GossipConfig, JoinError, Liveness, Participant, SetError,
};
use gossip_transport::memory::{MemoryNetwork, MemoryTransport};
use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};
use tokio::time::{Instant, sleep};

use crate::support::holders;

type Member = Participant<MemoryTransport>;

const SEED: u8 = 1;
const LEAF: u8 = 9;

fn addr(n: u8) -> SocketAddr {
    ([10, 0, 0, n], 7000).into()
}

fn config(name: &str) -> GossipConfig {
    GossipConfig::new("cluster", name)
}

async fn join(
    network: &MemoryNetwork,
    (n, credential): (u8, NetCredential),
    config: GossipConfig,
) -> Result<Member, JoinError> {
    let transport = TransportLayerTransport::new(network.host(addr(n).ip()), credential);
    let socket = transport.open(addr(n)).await.unwrap();
    let joined = Participant::join(socket, config).await;
    joined.map_err(|error| error.downcast().unwrap())
}

/// A member, and what a holder of an invite with these quotas joins with.
async fn cluster(quotas: Quotas) -> (MemoryNetwork, Member, Trust) {
    let network = MemoryNetwork::new(1);
    let secret = ClusterSecret::generate();
    let members = Trust::secret(secret.clone()).accepting_invites();
    let seed = (SEED, NetCredential::generate(members));
    let seed = join(&network, seed, config("seed")).await.unwrap();
    let holders = holders(&secret, |claims| claims.with_quotas(quotas));
    (network, seed, holders)
}

fn leaf() -> GossipConfig {
    let seeds = vec![addr(SEED).to_string()];
    let config = config("leaf").with_dial(DialPolicy::SeedsOnly);
    config.with_seeds(seeds)
}

/// Returns the keys of the leaf that the member sees.
fn seen(seed: &Member) -> Vec<String> {
    let members = seed.members().into_iter();
    let mut leaf = members.filter(|member| member.id.node_id == "leaf");
    let keys = leaf.next().map(|leaf| leaf.key_values);
    keys.into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.value))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn keys_that_were_deleted_use_up_no_quota_and_later_changes_are_seen_at_once() {
    // The changes in a second that are allowed, and the time between two that the test makes.
    for (rate, each) in [(1000, 20), (20, 55)] {
        let quotas = Quotas::default()
            .with_max_keys(4)
            .with_max_changes_per_second(rate);
        let each = Duration::from_millis(each);
        let (network, seed, trust) = cluster(quotas).await;
        let credential = NetCredential::generate(trust);
        let leaf = join(&network, (LEAF, credential), leaf()).await.unwrap();
        leaf.connected().await.unwrap();
        sleep(Duration::from_secs(3)).await;
        leaf.set("mood", "sunny").unwrap();
        for n in 0..100 {
            leaf.set(&format!("k{n}"), "v").unwrap();
            sleep(each * 2).await;
            let expected = [format!("k{n}=v"), "mood=sunny".to_owned()];
            assert_eq!(seen(&seed), expected, "{rate}");
            leaf.delete(&format!("k{n}")).unwrap();
        }
        leaf.set("mood", "rainy").unwrap();
        sleep(each * 2).await;
        assert_eq!(seen(&seed), ["mood=rainy"], "{rate}");
        assert_eq!(seed.engine_counts().denied.total(), 0, "{rate}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_exceeds_the_quotas_is_refused_where_it_is_set_and_a_leaf_that_is_full_can_still_leave()
 {
    let quotas = Quotas::default().with_max_keys(2).with_max_bytes(300);
    let (network, seed, trust) = cluster(quotas).await;
    let credential = NetCredential::generate(trust);
    let too_many = ["a", "b", "c"].map(|key| (key.to_owned(), "v".to_owned()));
    let too_many = leaf().with_initial_key_values(too_many.into());
    let error = join(&network, (LEAF, credential.clone()), too_many).await;
    let expected = SetError::TooManyKeys { max: 2 };
    assert!(matches!(error, Err(JoinError::InitialKey(error)) if error == expected));

    let leaf = join(&network, (LEAF, credential), leaf()).await.unwrap();
    leaf.connected().await.unwrap();
    sleep(Duration::from_secs(3)).await;
    leaf.set("a", "1").unwrap();
    leaf.set("b", "1").unwrap();
    assert_eq!(leaf.set("c", "1"), Err(expected));
    let long = "x".repeat(200);
    let error = leaf.set("a", &long);
    assert!(matches!(
        error,
        Err(SetError::StateTooLarge { max: 300, .. })
    ));
    leaf.set("b", "2").unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(seen(&seed), ["a=1", "b=2"]);
    let start = Instant::now();
    leaf.announce_leaving();
    let has_left = || {
        let members = seed.liveness_of_members();
        let mut leaf = members.iter().filter(|(id, _)| id.node_id == "leaf");
        leaf.any(|(_, liveness)| *liveness == Liveness::Left)
    };
    while !has_left() {
        assert!(start.elapsed() < Duration::from_millis(300));
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(seed.engine_counts().denied.total(), 0);
}
