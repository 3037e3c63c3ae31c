//! Participants on sockets: over the in-memory network in virtual time, and over real TCP.

use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::credential::is_key_address;
use gossip_transport::either::EitherTransport;
use gossip_transport::gossip::{
    DialPolicy, GossipConfig, JoinError, Liveness, Participant, RumourConfig,
};
use gossip_transport::memory::{Faults, MemoryNetwork, MemoryTransport};
use gossip_transport::net::NetTransport;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{ConnectionInfo, PeerState};
use gossip_transport::udp::PlaintextUdpTransport;
use gossip_transport::{ClusterSecret, ConfigError, NetCredential, TransportLayerTransport};
use tokio::time::{Instant, sleep, timeout};

use crate::support::tab::{Tab, nowhere};
use crate::support::{ANY_PORT, PATIENCE, member};

/// What a network that cannot listen is bound to.
const UNSPECIFIED: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

fn config(name: &str, seeds: &[SocketAddr]) -> GossipConfig {
    let mut config = GossipConfig::new("cluster", name);
    config.seeds = seeds.iter().map(SocketAddr::to_string).collect();
    config.marked_for_deletion_grace_period = Duration::from_secs(3);
    config.with_interval(Duration::from_millis(100))
}

async fn join<T: NetTransport>(
    network: T,
    secret: &ClusterSecret,
    listen: SocketAddr,
    config: GossipConfig,
) -> anyhow::Result<Participant<T>> {
    let credential = member(secret);
    let transport = TransportLayerTransport::new(network, credential);
    Participant::join(transport.open(listen).await?, config).await
}

/// Waits until `done` returns true, and checks it again after each change.
async fn until<T: NetTransport>(
    participant: &Participant<T>,
    what: &str,
    done: impl Fn(&Participant<T>) -> bool,
) {
    let mut watch = participant.watch();
    let waiting = async {
        while !done(participant) {
            assert!(watch.changed().await, "the participant has left");
        }
    };
    let in_time = timeout(PATIENCE, waiting).await.is_ok();
    assert!(
        in_time,
        "waited too long for {what}: {:?}",
        participant.members()
    );
}

fn sees<T: NetTransport>(participant: &Participant<T>, name: &str) -> Option<Liveness> {
    let members = participant.members();
    let mut named = members
        .iter()
        .filter(|m| &*m.id.node_id == name && !m.superseded);
    named.next().map(|member| member.liveness)
}

fn reads<T: NetTransport>(participant: &Participant<T>, name: &str, key: &str) -> Option<String> {
    let members = participant.members();
    let member = members
        .into_iter()
        .find(|m| &*m.id.node_id == name && !m.superseded)?;
    Some(member.key_values.get(key)?.value.clone())
}

async fn until_all_live<T: NetTransport>(participants: &[Participant<T>]) {
    for participant in participants {
        for other in participants {
            let name = other.id().node_id.clone();
            until(participant, "all to be live", |p| {
                sees(p, &name).is_some_and(|liveness| liveness != Liveness::Dead)
            })
            .await;
        }
    }
}

/// Returns three members on three hosts.
async fn three_in_memory(network: &MemoryNetwork) -> Vec<Participant<MemoryTransport>> {
    let secret = secret();
    let seed: SocketAddr = ([10, 0, 0, 1], 7000).into();
    let mut participants = Vec::new();
    for n in 1..=3 {
        let ip = [10, 0, 0, n];
        let config = config(&format!("m{n}"), &[seed]);
        let host = network.host(ip.into());
        participants.push(
            join(host, &secret, (ip, 7000).into(), config)
                .await
                .unwrap(),
        );
    }
    until_all_live(&participants).await;
    participants
}

fn secret() -> ClusterSecret {
    ClusterSecret::from_bytes(b"the same in all of these tests").unwrap()
}

async fn keys_come_and_go<T: NetTransport>(participants: &[Participant<T>]) {
    let [a, others @ ..] = participants else {
        panic!("there are no participants")
    };
    let name = a.id().node_id.clone();
    a.set("k", "v").unwrap();
    a.set_with_ttl("brief", "yes").unwrap();
    assert_eq!(a.get("k").as_deref(), Some("v"));
    for other in others {
        until(other, "the keys", |p| {
            reads(p, &name, "k").as_deref() == Some("v") && reads(p, &name, "brief").is_some()
        })
        .await;
    }
    a.delete("k").unwrap();
    for other in others {
        until(other, "the keys to go", |p| {
            reads(p, &name, "k").is_none() && reads(p, &name, "brief").is_none()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn keys_come_and_go_in_memory() {
    keys_come_and_go(&three_in_memory(&MemoryNetwork::new(1)).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_and_go_over_tcp() {
    let mut participants = Vec::new();
    let mut seeds = Vec::new();
    for n in 1..=3 {
        let config = config(&format!("m{n}"), &seeds);
        let network = TcpTransport::default();
        let listen = ANY_PORT;
        let participant = join(network, &secret(), listen, config).await.unwrap();
        seeds.push(participant.id().gossip_advertise_addr);
        participants.push(participant);
    }
    until_all_live(&participants).await;
    keys_come_and_go(&participants).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_gossips_with_its_seeds_as_soon_as_they_are_resolved() {
    const INTERVAL: Duration = Duration::from_secs(10);
    let network = MemoryNetwork::new(12);
    let seed: SocketAddr = ([10, 0, 0, 1], 7000).into();
    let ask = |n: u8, seeds: &[SocketAddr]| {
        let ip = [10, 0, 0, n];
        let config = config(&format!("m{n}"), seeds).with_interval(INTERVAL);
        let host = network.host(ip.into());
        async move { join(host, &secret(), (ip, 7000).into(), config).await }
    };
    let first = ask(1, &[]).await.unwrap();
    // Half an interval later, so that it is not the round of the first member that finds the other.
    tokio::time::sleep(INTERVAL / 2).await;
    let joined = tokio::time::Instant::now();
    let _second = ask(2, &[seed]).await.unwrap();
    until(&first, "the second", |p| sees(p, "m2").is_some()).await;
    assert!(joined.elapsed() < INTERVAL / 4, "{:?}", joined.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_member_that_vanishes_is_found_dead_and_is_live_again_after_a_restart() {
    let network = MemoryNetwork::new(2);
    let mut participants = three_in_memory(&network).await;
    let gone = participants.pop().unwrap();
    let addr = gone.id().gossip_advertise_addr;
    drop(gone);
    for other in &participants {
        until(other, "the death", |p| {
            sees(p, "m3") == Some(Liveness::Dead)
        })
        .await;
    }
    let seed = participants[0].id().gossip_advertise_addr;
    let host = network.host(addr.ip());
    let mut config = config("m3", &[seed]);
    // The default is the system's time, which does not advance with the test's virtual time.
    config.generation_id = Some(u64::MAX);
    let back = join(host, &secret(), addr, config).await.unwrap();
    for other in &participants {
        until(other, "the return", |p| {
            sees(p, "m3") == Some(Liveness::Live)
        })
        .await;
    }
    drop(back);
}

#[tokio::test]
async fn dropping_a_member_frees_its_port_at_once() {
    let listen: SocketAddr = ANY_PORT;
    let config = || config("m", &[]);
    let first = join(TcpTransport::default(), &secret(), listen, config()).await;
    let mut member = first.unwrap();
    let addr = member.id().gossip_advertise_addr;
    for _ in 0..100 {
        drop(member);
        let again = join(TcpTransport::default(), &secret(), addr, config()).await;
        member = again.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_leaves_sends_its_last_changes_to_the_others() {
    let network = MemoryNetwork::new(3);
    let mut participants = three_in_memory(&network).await;
    let leaver = participants.pop().unwrap();
    let mut watch = leaver.watch();
    leaver.set("last", "words").unwrap();
    leaver.leave(Duration::from_secs(1)).await.unwrap();
    // The watch reports earlier changes before the end.
    while watch.changed().await {}
    for other in &participants {
        until(other, "the last words", |p| {
            reads(p, "m3", "last").as_deref() == Some("words")
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn leaving_does_not_wait_for_members_that_are_not_connected() {
    let network = MemoryNetwork::new(3);
    let mut participants = three_in_memory(&network).await;
    drop(participants.pop());
    let leaver = participants.pop().unwrap();
    let queued = |p: &Participant<MemoryTransport>| {
        let stats = p.stats();
        let mut peers = stats.peers.values();
        peers.any(|peer| peer.queued > 0 && peer.state == PeerState::BackingOff)
    };
    while !queued(&leaver) {
        sleep(Duration::from_millis(10)).await;
    }
    let start = Instant::now();
    leaver.leave(Duration::from_secs(30)).await.unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    let left = |p: &Participant<MemoryTransport>| {
        let mut members = p.members().into_iter();
        members.any(|m| &*m.id.node_id == "m2" && m.liveness == Liveness::Left)
    };
    until(&participants[0], "the departure", left).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_without_an_address_advertises_that_of_its_key_and_joins_at_once() {
    let network = MemoryNetwork::new(4);
    let seed: SocketAddr = ([10, 0, 0, 1], 7000).into();
    let absent: SocketAddr = ([10, 0, 0, 9], 7000).into();
    let start = tokio::time::Instant::now();
    let host = DialOnly(network.host([10, 0, 0, 5].into()));
    let tab_config = config("tab", &[absent, seed]).with_dial(DialPolicy::SeedsOnly);
    let tab = join(host, &secret(), UNSPECIFIED, tab_config)
        .await
        .unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    let addr = tab.id().gossip_advertise_addr;
    assert!(is_key_address(addr), "{addr}");
    assert_eq!(tab.stats().peers.len(), 0, "nothing is dialled yet");
    // The seed starts later than the member that looks for it.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let host = DialOnly(network.host([10, 0, 0, 1].into()));
    let node = join(host, &secret(), seed, config("node", &[]))
        .await
        .unwrap();
    timeout(PATIENCE, tab.connected()).await.unwrap().unwrap();
    until(&node, "the tab", |p| sees(p, "tab") == Some(Liveness::Live)).await;
    until(&tab, "the node", |p| {
        sees(p, "node") == Some(Liveness::Live)
    })
    .await;
    assert_eq!(addr, tab.id().gossip_advertise_addr);
}

/// A network whose listeners report the address that was passed to them, as the browser's does.
#[derive(Clone)]
struct DialOnly(MemoryTransport);

impl NetTransport for DialOnly {
    type Listener = dial_only::Listener;
    type Connection = gossip_transport::memory::MemoryConnection;

    async fn create_listener(
        &self,
        bind_addr: SocketAddr,
        alpn_supported: &[gossip_transport::net::Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<dial_only::Listener> {
        let listener = self
            .0
            .create_listener(bind_addr, alpn_supported, credential)
            .await?;
        Ok(dial_only::Listener(listener, bind_addr))
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[gossip_transport::net::Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<Self::Connection> {
        self.0.connect(addr, alpn_preferred, credential).await
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        self.0.resolve(name).await
    }
}

mod dial_only {
    use std::net::SocketAddr;

    use gossip_transport::memory::{MemoryConnection, MemoryIncomingRequest, MemoryListener};
    use gossip_transport::net::NetListener;

    pub struct Listener(pub MemoryListener, pub SocketAddr);

    impl NetListener for Listener {
        type IncomingRequest = MemoryIncomingRequest;
        type Connection = MemoryConnection;

        fn local_addr(&self) -> SocketAddr {
            self.1
        }

        async fn accept(&self) -> anyhow::Result<MemoryIncomingRequest> {
            self.0.accept().await
        }
    }
}

#[tokio::test(start_paused = true)]
async fn joining_with_a_value_out_of_bounds_fails() {
    let host = MemoryNetwork::new(11).host([10, 0, 0, 1].into());
    let rumours = RumourConfig::default().with_interval(Duration::ZERO);
    let config = config("m", &[]).with_rumours(rumours);
    let error = join(host, &secret(), ([10, 0, 0, 1], 1).into(), config).await;
    let error = error.err().unwrap().downcast::<ConfigError>().unwrap();
    assert_eq!(error.field, "rumours.interval");
}

#[tokio::test(start_paused = true)]
async fn joining_with_an_invalid_initial_key_fails() {
    let host = MemoryNetwork::new(6).host([10, 0, 0, 1].into());
    let mut config = config("m", &[]);
    config.initial_key_values = vec![("ß".to_owned(), "v".to_owned())];
    let error = join(host, &secret(), ([10, 0, 0, 1], 1).into(), config).await;
    let error = error.err().unwrap().downcast::<JoinError>().unwrap();
    assert!(matches!(error, JoinError::InitialKey(_)), "{error}");
}

#[tokio::test]
async fn joining_with_a_malformed_seed_fails_at_once_on_every_native_network() {
    async fn refuses<T: NetTransport>(network: T) {
        for seed in [
            "foo",
            "foo:",
            ":7946",
            "foo:99999",
            "127.0.0.1",
            "127.0.0.1:99999",
            "127.0.0.1:0",
            "http://foo:7946",
            "ws://127.0.0.1:7946",
            "",
        ] {
            let mut config = config("m", &[]);
            config.seeds = vec![seed.to_owned()];
            let joined = join(network.clone(), &secret(), ANY_PORT, config).await;
            let error = joined.err().expect(seed).downcast::<JoinError>().unwrap();
            let expected = format!("seeds: {seed:?} must be host:port");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
    let (tcp, udp) = (TcpTransport::default(), PlaintextUdpTransport::default());
    refuses(EitherTransport::new(tcp.clone(), udp.clone())).await;
    refuses(tcp).await;
    refuses(udp).await;
    refuses(MemoryNetwork::new(1).host(ANY_PORT.ip())).await;
}

#[tokio::test(start_paused = true)]
async fn connections_of_a_member_that_has_died_are_given_up_within_seconds() {
    let network = MemoryNetwork::new(8);
    let participants = three_in_memory(&network).await;
    let ip = |n: u8| std::net::IpAddr::from([10, 0, 0, n]);
    let lead_to = |n| {
        let connections = participants[0].stats().connections;
        let to = |c: &&ConnectionInfo| c.remote_addr.ip() == ip(n);
        connections.iter().filter(to).count()
    };
    assert_eq!((lead_to(2), lead_to(3)), (1, 1));
    network.partition(&[ip(1), ip(2)], &[ip(3)]);
    until(&participants[0], "the partition", |p| {
        sees(p, "m3") == Some(Liveness::Dead)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((lead_to(2), lead_to(3)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn each_side_of_a_partition_finds_the_other_dead_until_it_heals() {
    let network = MemoryNetwork::new(7);
    let participants = three_in_memory(&network).await;
    let ip = |n: u8| std::net::IpAddr::from([10, 0, 0, n]);
    network.partition(&[ip(1), ip(2)], &[ip(3)]);
    until(&participants[0], "the partition", |p| {
        sees(p, "m3") == Some(Liveness::Dead)
    })
    .await;
    until(&participants[2], "the partition", |p| {
        sees(p, "m1") == Some(Liveness::Dead)
    })
    .await;
    assert_eq!(sees(&participants[0], "m2"), Some(Liveness::Live));
    participants[2].set("k", "set in the partition").unwrap();
    network.heal();
    let healed = tokio::time::Instant::now();
    until_all_live(&participants).await;
    for other in &participants[..2] {
        until(other, "the key", |p| reads(p, "m3", "k").is_some()).await;
    }
    // All connections of the third member were dead.
    let took = healed.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_does_not_delay_the_others() {
    let network = MemoryNetwork::new(8);
    let participants = three_in_memory(&network).await;
    let ip = |n: u8| std::net::IpAddr::from([10, 0, 0, n]);
    // The third member reads nothing more from the first, while the connection stays open.
    network.set_faults(ip(1), ip(3), Faults::stalled());
    let before = tokio::time::Instant::now();
    participants[0].set("k", "v").unwrap();
    until(&participants[1], "the key", |p| {
        reads(p, "m1", "k").is_some()
    })
    .await;
    let took = before.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    // The third member learns of it from the second.
    until(&participants[2], "the key", |p| {
        reads(p, "m1", "k").is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn members_that_were_suspended_come_back_without_a_restart() {
    let network = MemoryNetwork::new(9);
    let participants = three_in_memory(&network).await;
    let ids: Vec<_> = participants.iter().map(|p| p.id().clone()).collect();
    // The clock of all members jumps, as on a machine that was suspended.
    tokio::time::advance(Duration::from_secs(3600)).await;
    // In the rounds that follow, no member mistakes its own pause for the death of another.
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        for participant in &participants {
            let members = participant.members();
            let all_live = members.iter().all(|m| m.liveness != Liveness::Dead);
            assert!(all_live, "{members:?}");
        }
    }
    participants[2].set("k", "after the pause").unwrap();
    for other in &participants[..2] {
        until(other, "the key", |p| reads(p, "m3", "k").is_some()).await;
    }
    until_all_live(&participants).await;
    for participant in &participants {
        let known: Vec<_> = participant.members().into_iter().map(|m| m.id).collect();
        assert_eq!(known, ids);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_reports_changes_and_no_heartbeats() {
    let network = MemoryNetwork::new(10);
    let participants = three_in_memory(&network).await;
    let mut watch = participants[0].watch();
    let quiet = Duration::from_secs(30);
    // The changes at the start are reported first.
    while timeout(quiet, watch.changed()).await.is_ok() {}
    let heartbeat = |p: &Participant<_>| p.members()[1].heartbeat;
    let before = heartbeat(&participants[0]);
    assert!(timeout(quiet, watch.changed()).await.is_err());
    assert!(heartbeat(&participants[0]) > before);

    participants[1].set("k", "v").unwrap();
    assert!(timeout(PATIENCE, watch.changed()).await.unwrap());
    // Setting the same value again is not a change.
    participants[1].set("k", "v").unwrap();
    assert!(timeout(quiet, watch.changed()).await.is_err());
    drop(participants);
    assert!(!timeout(PATIENCE, watch.changed()).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn of_two_tabs_with_the_secret_and_one_name_a_node_shows_the_earlier_one_as_superseded() {
    let network = MemoryNetwork::new(19);
    let secret = ClusterSecret::generate();
    let at: SocketAddr = ([10, 0, 0, 1], 7000).into();
    let node = join(network.host(at.ip()), &secret, at, config("node", &[]));
    let node = node.await.unwrap();
    let tab = async |host: u8, generation: u64| {
        let network = Tab(network.host([10, 0, 0, host].into()));
        let mut config = config("tab", &[at]);
        config.generation_id = Some(generation);
        join(network, &secret, nowhere(), config).await.unwrap()
    };
    let _tabs = [tab(2, 1).await, tab(3, 2).await];
    until(&node, "two live tabs", |node| {
        let tabs = node.members().into_iter();
        let tabs = tabs.filter(|m| &*m.id.node_id == "tab" && m.liveness.is_live());
        let shown: Vec<_> = tabs.map(|m| (m.id.generation_id, m.superseded)).collect();
        shown == [(1, true), (2, false)]
    })
    .await;
}
