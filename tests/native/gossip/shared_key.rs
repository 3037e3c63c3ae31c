//! One key in two places: two leaves at two members, and a leaf beside a member of the cluster. Over the in-memory
//! network in virtual time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::gossip::{DialPolicy, GossipConfig, Liveness, Participant};
use gossip_transport::memory::{MemoryNetwork, MemoryTransport};
use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};
use tokio::time::{sleep, timeout};

use crate::support::{PATIENCE, guests};

type Member = Participant<MemoryTransport>;

const SECOND: Duration = Duration::from_secs(1);

fn addr(n: u8) -> SocketAddr {
    ([10, 0, 0, n], 7000).into()
}

/// A cluster of members 1 and 2, and what joins it.
struct Cluster {
    network: MemoryNetwork,
    secret: ClusterSecret,
    members: Vec<Member>,
}

impl Cluster {
    async fn new() -> Self {
        let mut cluster = Self {
            network: MemoryNetwork::new(1),
            secret: ClusterSecret::generate(),
            members: Vec::new(),
        };
        for n in [1, 2] {
            let credential = NetCredential::generate(cluster.core());
            let member = cluster.join(n, &format!("core-{n}"), credential, 1).await;
            cluster.members.push(member);
        }
        cluster
    }

    fn core(&self) -> Trust {
        Trust::secret(self.secret.clone()).accepting_invites()
    }

    fn leaf(&self) -> Trust {
        guests(&self.secret, "")
    }

    /// Joins as `node_id` on host `n`, with member `seed` as the only seed, which alone a leaf dials.
    async fn join(&self, n: u8, node_id: &str, credential: NetCredential, seed: u8) -> Member {
        let is_leaf = credential.trust().held_invite().is_some();
        let host = self.network.host(addr(n).ip());
        let transport = TransportLayerTransport::new(host, credential);
        let socket = transport.open(addr(n)).await.unwrap();
        let mut config = GossipConfig::new("cluster", node_id);
        config.seeds = vec![addr(seed).to_string()];
        if is_leaf {
            config = config.with_dial(DialPolicy::SeedsOnly);
        }
        Participant::join(socket, config).await.unwrap()
    }

    /// Returns the names of the others that a member finds live.
    fn live(member: &Member) -> BTreeSet<String> {
        let members = member.members().into_iter();
        let live = members.filter(|m| m.liveness == Liveness::Live && !m.superseded);
        let own = member.id().node_id;
        let others = live.filter(|m| m.id.node_id != own);
        others.map(|m| m.id.node_id.to_string()).collect()
    }

    /// Returns the messages that all of the cluster's members have received.
    fn received(&self) -> u64 {
        let stats = self.members.iter().map(Member::stats);
        stats.map(|stats| stats.total.received).sum()
    }
}

/// Runs for two minutes. Asserts that each member and the honest leaf find each other live all the time, and that the
/// members receive at most twice as many messages as in two minutes before `change`.
async fn undisturbed(cluster: &mut Cluster, change: impl AsyncFnOnce(&mut Cluster) -> Vec<Member>) {
    let credential = NetCredential::generate(cluster.leaf());
    let honest = cluster.join(9, "honest-9", credential, 1).await;
    sleep(SECOND * 30).await;
    let start = cluster.received();
    sleep(SECOND * 120).await;
    let before = cluster.received() - start;
    let joined = change(cluster).await;
    let start = cluster.received();
    for _ in 0..120 {
        sleep(SECOND).await;
        let of = |names: [&str; 2]| BTreeSet::from(names.map(str::to_owned));
        let expected = [
            (&cluster.members[0], of(["core-2", "honest-9"])),
            (&cluster.members[1], of(["core-1", "honest-9"])),
            (&honest, of(["core-1", "core-2"])),
        ];
        for (member, expected) in expected {
            let live = Cluster::live(member);
            assert!(
                live.is_superset(&expected),
                "{}: {live:?}",
                member.id().node_id
            );
        }
    }
    let after = cluster.received() - start;
    assert!(after < before * 5 / 2, "{after} messages, {before} before");
    drop(joined);
}

#[tokio::test(start_paused = true)]
async fn two_leaves_with_one_key_at_two_members_disturb_nobody_else() {
    for name in ["tab-3", "tab-4"] {
        let mut cluster = Cluster::new().await;
        undisturbed(&mut cluster, async |cluster| {
            let credential = NetCredential::generate(cluster.leaf());
            let first = cluster.join(3, "tab-3", credential.clone(), 1).await;
            sleep(SECOND).await;
            let second = cluster.join(4, name, credential, 2).await;
            for leaf in [&first, &second] {
                timeout(PATIENCE, leaf.connected()).await.unwrap().unwrap();
            }
            vec![first, second]
        })
        .await;
        // A member knows one generation of the key at a time, and what is too much is counted.
        let mut denied = 0;
        for member in &cluster.members {
            let members = member.members().into_iter();
            let tabs = members.filter(|m| m.id.node_id.starts_with("tab") && !m.superseded);
            assert!(tabs.count() <= 1);
            denied += member.engine_counts().denied.total();
        }
        assert!(denied > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leaf_with_the_key_of_a_member_is_told_so_and_the_member_stays() {
    let mut cluster = Cluster::new().await;
    undisturbed(&mut cluster, async |cluster| {
        let credential = NetCredential::generate(cluster.core());
        let same_key = credential.with_trust(cluster.leaf());
        let third = cluster.join(3, "core-3", credential, 1).await;
        timeout(PATIENCE, third.connected()).await.unwrap().unwrap();
        sleep(SECOND * 10).await;
        let leaf = cluster.join(4, "tab-4", same_key, 2).await;
        let error = timeout(PATIENCE, leaf.connected()).await.unwrap();
        assert_eq!(error.unwrap_err().code(), "duplicate-key");
        for member in &cluster.members {
            assert!(Cluster::live(member).contains("core-3"));
        }
        vec![third, leaf]
    })
    .await;
    for member in &cluster.members {
        assert!(Cluster::live(member).contains("core-3"));
        assert!(!Cluster::live(member).contains("tab-4"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_loaded_again_with_an_invite_for_another_name_is_met_at_once() {
    let cluster = Cluster::new().await;
    let invite = |prefix: &str| guests(&cluster.secret, prefix);
    let credential = NetCredential::generate(invite("a-"));
    let mut page = cluster.join(3, "a-0", credential.clone(), 1).await;
    for n in 0..20_u8 {
        let prefix = if n % 2 == 0 { "b-" } else { "a-" };
        let (credential, name) = (credential.clone(), format!("{prefix}{n}"));
        sleep(SECOND * 12).await;
        let again = credential.with_trust(invite(prefix));
        let next = cluster.join(4 + n, &name, again, 1).await;
        if n % 3 == 0 {
            sleep(SECOND / 1000 * u32::from(n)).await;
        }
        drop(std::mem::replace(&mut page, next));
        timeout(SECOND * 2, page.connected())
            .await
            .unwrap()
            .unwrap();
    }
}
