//! Revoked invites among participants over TCP: how fast all members refuse them, and that members which were away
//! or know nothing yet learn of them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gossip_transport::credential::{Claims, Invite, InviteId};
use gossip_transport::gossip::{DialPolicy, GossipConfig, Liveness, Participant};
use gossip_transport::memory::{Faults, MemoryNetwork, MemoryTransport};
use gossip_transport::rt::unix_time;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::TransportLayerTransport;
use gossip_transport::{ClusterSecret, NetCredential, Trust};
use tokio::time::{Instant, sleep};

use crate::support::{ANY_PORT, PATIENCE, soon};

const HOUR: Duration = Duration::from_secs(3600);
/// The time within which a revocation has taken effect everywhere.
const EFFECT: Duration = Duration::from_secs(2);

struct Member {
    trust: Trust,
    participant: Participant<TcpTransport>,
    addr: SocketAddr,
}

impl Member {
    async fn join(trust: &Trust, name: &str, seeds: &[SocketAddr]) -> Self {
        let credential = NetCredential::generate(trust.clone());
        let transport = TransportLayerTransport::new(TcpTransport::default(), credential);
        let socket = transport.open(ANY_PORT).await.unwrap();
        let addr = socket.local_addr();
        let mut config = GossipConfig::new("cluster", name);
        config.seeds = seeds.iter().map(ToString::to_string).collect();
        let participant = soon(Participant::join(socket, config)).await.unwrap();
        Self {
            trust: trust.clone(),
            participant,
            addr,
        }
    }

    fn live(&self) -> usize {
        let members = self.participant.members();
        let live = members.iter().filter(|m| m.liveness == Liveness::Live);
        live.count()
    }
}

fn id() -> InviteId {
    InviteId::generate(unix_time(), HOUR).unwrap()
}

fn core(secret: &ClusterSecret) -> Trust {
    Trust::secret(secret.clone()).accepting_invites()
}

async fn cluster(secret: &ClusterSecret, count: usize) -> Vec<Member> {
    let mut members = vec![Member::join(&core(secret), "m0", &[]).await];
    let seeds = [members[0].addr];
    for n in 1..count {
        members.push(Member::join(&core(secret), &format!("m{n}"), &seeds).await);
    }
    let start = Instant::now();
    while members.iter().any(|member| member.live() < count - 1) {
        assert!(start.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
    members
}

/// Waits until all members have revoked exactly `ids`, and returns how long that has taken.
async fn until_revoked(members: &[Member], ids: &[InviteId]) -> Duration {
    let start = Instant::now();
    while members.iter().any(|member| member.trust.revoked() != ids) {
        assert!(start.elapsed() < PATIENCE);
        sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

/// Returns members of one cluster in memory, between which messages take up to 5 ms.
async fn in_memory(
    secret: &ClusterSecret,
    count: u8,
) -> Vec<(Trust, Participant<MemoryTransport>)> {
    in_network(&MemoryNetwork::new(1), secret, count).await
}

async fn in_network(
    network: &MemoryNetwork,
    secret: &ClusterSecret,
    count: u8,
) -> Vec<(Trust, Participant<MemoryTransport>)> {
    let hosts: Vec<IpAddr> = (1..=count).map(|n| [10, 0, 0, n].into()).collect();
    let mut rng = fastrand::Rng::with_seed(1);
    for (n, one) in hosts.iter().enumerate() {
        for other in &hosts[..n] {
            let delay = Duration::from_micros(rng.u64(1_000..5_000));
            network.set_faults_between(*one, *other, Faults::delayed(delay));
        }
    }
    let mut members = Vec::new();
    for (n, host) in hosts.iter().enumerate() {
        let trust = core(secret);
        let credential = NetCredential::generate(trust.clone());
        let transport = TransportLayerTransport::new(network.host(*host), credential);
        let socket = transport.open((*host, 7000).into()).await.unwrap();
        let mut config = GossipConfig::new("cluster", format!("m{n}"));
        config.seeds = vec!["10.0.0.1:7000".to_owned()];
        let participant = Participant::join(socket, config).await.unwrap();
        members.push((trust, participant));
    }
    members
}

#[tokio::test(start_paused = true)]
async fn fifty_members_refuse_a_revoked_invite_within_two_seconds() {
    let secret = ClusterSecret::generate();
    let members = in_memory(&secret, 50).await;
    let live = |(_, participant): &(Trust, Participant<_>)| {
        let members = participant.members();
        let live = members.iter().filter(|m| m.liveness == Liveness::Live);
        live.count()
    };
    let start = Instant::now();
    while members.iter().any(|member| live(member) < 49) {
        assert!(start.elapsed() < PATIENCE);
        sleep(Duration::from_millis(100)).await;
    }
    let mut ids: Vec<_> = (0..3).map(|_| id()).collect();
    for (n, id) in ids.iter().enumerate() {
        members[n * 20].0.revoke(*id).unwrap();
    }
    ids.sort();
    let start = Instant::now();
    while members.iter().any(|(trust, _)| trust.revoked() != ids) {
        assert!(start.elapsed() < EFFECT, "{:?}", start.elapsed());
        sleep(Duration::from_millis(1)).await;
    }
    println!(
        "50 members have revoked three invites after {:?}",
        start.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_restarts_and_one_that_is_new_learn_of_it_from_any_other() {
    let secret = ClusterSecret::generate();
    let mut members = cluster(&secret, 4).await;
    let revoked = id();
    members[3].trust.revoke(revoked).unwrap();
    until_revoked(&members, &[revoked]).await;
    // The member that has revoked it is gone, and the others go on saying so.
    let gone = members.pop().unwrap();
    gone.participant
        .leave(Duration::from_secs(1))
        .await
        .unwrap();
    let seeds = [members[1].addr];
    members.push(Member::join(&core(&secret), "m3", &seeds).await);
    members.push(Member::join(&core(&secret), "m4", &seeds).await);
    until_revoked(&members, &[revoked]).await;
}

#[tokio::test]
async fn the_holder_of_a_revoked_invite_is_gone_from_all_members() {
    let secret = ClusterSecret::generate();
    let members = cluster(&secret, 3).await;
    let claims = Claims::new(id());
    let invite = Invite::issue(&secret, claims.clone(), "cluster".to_owned(), Vec::new());
    let guest = Trust::invite(invite.unwrap());
    let credential = NetCredential::generate(guest);
    let identity = credential.identity();
    let transport = TransportLayerTransport::new(TcpTransport::default(), credential);
    let socket = transport.open(ANY_PORT).await.unwrap();
    let mut config = GossipConfig::new("cluster", "guest").with_dial(DialPolicy::SeedsOnly);
    config.seeds = members.iter().map(|m| m.addr.to_string()).collect();
    let config = config.with_interval(Duration::from_millis(200));
    let guest = soon(Participant::join(socket, config)).await.unwrap();
    soon(guest.connected()).await.unwrap();
    let connected = |member: &Member| {
        let connections = member.participant.stats().connections;
        connections.iter().any(|c| c.remote_identity == identity)
    };
    let start = Instant::now();
    while !members.iter().any(connected) {
        assert!(start.elapsed() < PATIENCE);
        sleep(Duration::from_millis(5)).await;
    }
    let start = Instant::now();
    members[2].trust.revoke(claims.id()).unwrap();
    while members.iter().any(connected) {
        assert!(start.elapsed() < EFFECT, "{:?}", start.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    sleep(EFFECT).await;
    assert!(!members.iter().any(connected));
}

#[tokio::test(start_paused = true)]
async fn what_was_revoked_before_members_meet_and_while_they_are_apart_is_known_to_all() {
    let secret = ClusterSecret::generate();
    let members = in_memory(&secret, 3).await;
    let mut ids: Vec<_> = members.iter().map(|_| id()).collect();
    for ((trust, _), id) in members.iter().zip(&ids) {
        trust.revoke(*id).unwrap();
    }
    ids.sort();
    let start = Instant::now();
    while members.iter().any(|(trust, _)| trust.revoked() != ids) {
        assert!(start.elapsed() < PATIENCE);
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leaf_whose_former_invite_is_revoked_while_it_renews_it_stays_a_member() {
    let secret = ClusterSecret::generate();
    let network = MemoryNetwork::new(1);
    let members = in_network(&network, &secret, 3).await;
    let issue = || {
        let claims = Claims::new(id());
        Invite::issue(&secret, claims, "cluster".to_owned(), Vec::new()).unwrap()
    };
    let mut invite = issue();
    let trust = Trust::invite(invite.clone());
    let credential = NetCredential::generate(trust.clone());
    let transport = TransportLayerTransport::new(network.host([10, 0, 0, 9].into()), credential);
    let socket = transport.open(([10, 0, 0, 9], 7000).into()).await.unwrap();
    let mut config = GossipConfig::new("cluster", "leaf").with_dial(DialPolicy::SeedsOnly);
    config.seeds = vec!["10.0.0.1:7000".to_owned()];
    let leaf = Participant::join(socket, config).await.unwrap();
    leaf.connected().await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..40 {
        let next = issue();
        let (renewed, revoked) = (rng.u64(..30), rng.u64(..30));
        let steps = async {
            sleep(Duration::from_millis(renewed)).await;
            trust.set_invite(next.clone()).unwrap();
        };
        let other = async {
            sleep(Duration::from_millis(revoked)).await;
            let by = &members[rng.usize(..3)].0;
            by.revoke(invite.claims().id()).unwrap();
        };
        tokio::join!(steps, other);
        invite = next;
        sleep(Duration::from_secs(4)).await;
        for (_, member) in &members {
            let found = member.members();
            let found = found.iter().find(|m| *m.id.node_id == *"leaf").unwrap();
            assert_eq!(found.liveness, Liveness::Live);
        }
    }
}
