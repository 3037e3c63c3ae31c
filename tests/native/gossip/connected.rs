//! [`Participant::connected`]: the first exchange, or the reason for which there can be none. Over the
//! in-memory network in virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::config::ConfigError;
use gossip_transport::credential::{Claims, Invite, InviteId};
use gossip_transport::gossip::{ConnectedError, DialPolicy, GossipConfig, JoinError, Participant};
use gossip_transport::memory::{MemoryNetwork, MemoryTransport};
use gossip_transport::net::NetTransport;
use gossip_transport::rt::unix_time;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};
use tokio::time::{Instant, timeout};

use crate::support::tab::Tab;
use crate::support::{PATIENCE, guests, member};

type Member = Participant<MemoryTransport>;

fn addr(n: u8) -> SocketAddr {
    ([10, 0, 0, n], 7000).into()
}

fn secret(text: &str) -> ClusterSecret {
    ClusterSecret::from_bytes(format!("{text}, which is long enough").as_bytes()).unwrap()
}

fn config(seeds: &[&str]) -> GossipConfig {
    let mut config = GossipConfig::new("cluster", "member");
    config.seeds = seeds.iter().map(ToString::to_string).collect();
    config
}

async fn join(
    network: &MemoryNetwork,
    n: u8,
    credential: NetCredential,
    config: GossipConfig,
) -> Member {
    let host = network.host(addr(n).ip());
    let transport = TransportLayerTransport::new(host, credential);
    let mut config = config;
    config.node_id = format!("m{n}");
    let socket = transport.open(addr(n)).await.unwrap();
    Participant::join(socket, config).await.unwrap()
}

/// Returns the seed at address 1, without seeds of its own.
async fn seed(network: &MemoryNetwork) -> Member {
    join(network, 1, member(&secret("right")), config(&[])).await
}

async fn connected(member: &Member) -> Result<(), ConnectedError> {
    timeout(PATIENCE, member.connected()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_resolves_at_the_first_exchange_for_every_caller_on_both_sides() {
    let network = MemoryNetwork::new(1);
    let seed = seed(&network).await;
    // Nobody dials the seed yet, so it waits. A call that is dropped does no harm.
    let long = Duration::from_secs(600);
    assert!(timeout(long, seed.connected()).await.is_err());
    let member = join(
        &network,
        2,
        member(&secret("right")),
        config(&["10.0.0.1:7000"]),
    )
    .await;
    let start = Instant::now();
    let both = futures::join!(connected(&member), connected(&member), connected(&seed));
    assert_eq!(both, (Ok(()), Ok(()), Ok(())));
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(connected(&member).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn another_secret_is_reported_once_every_seed_has_closed_twice_and_later_calls_succeed() {
    let network = MemoryNetwork::new(2);
    let seed = seed(&network).await;
    let seeds = config(&["10.0.0.1:7000"]);
    let stranger = join(&network, 2, member(&secret("other")), seeds).await;
    let start = Instant::now();
    let error = connected(&stranger).await.unwrap_err();
    assert_eq!(error.code(), "handshake-refused");
    assert!(error.to_string().contains("same cluster secret"), "{error}");
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(seed.engine_counts().heard, 0);
    // The seed comes back with the secret of the member.
    drop(seed);
    let _seed = join(&network, 1, member(&secret("other")), config(&[])).await;
    let recovered = async {
        while stranger.connected().await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(PATIENCE, recovered).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_seed_that_does_not_parse_or_answer_does_not_matter_if_another_works() {
    let network = MemoryNetwork::new(3);
    let _seed = seed(&network).await;
    let seeds = config(&[
        "unknown:7000",
        "10.0.0.9:7000",
        "0.0.0.0:7000",
        "10.0.0.1:7000",
    ]);
    let member = join(&network, 2, member(&secret("right")), seeds).await;
    assert_eq!(connected(&member).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn seeds_that_are_down_or_unknown_are_waited_for() {
    let network = MemoryNetwork::new(4);
    for seeds in [
        &["unknown:7000"][..],
        &["10.0.0.1:7000"],
        &["unknown:7000", "10.0.0.1:7000"],
    ] {
        let waiting = join(&network, 2, member(&secret("right")), config(seeds)).await;
        let long = Duration::from_secs(120);
        assert!(
            timeout(long, waiting.connected()).await.is_err(),
            "{seeds:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_seed_of_another_cluster_is_reported() {
    let network = MemoryNetwork::new(5);
    let seed = seed(&network).await;
    let mut foreign = config(&["10.0.0.1:7000"]);
    foreign.cluster_id = "other".to_owned();
    let foreign = join(&network, 2, member(&secret("right")), foreign).await;
    assert_eq!(connected(&foreign).await, Err(ConnectedError::WrongCluster));
    assert_eq!(seed.engine_counts().heard, 0);
}

#[tokio::test(start_paused = true)]
async fn an_invite_that_names_another_cluster_than_its_seeds_is_what_the_error_blames() {
    let network = MemoryNetwork::new(5);
    let issuer = ClusterSecret::generate();
    let inviting = Trust::secret(issuer.clone()).accepting_invites();
    let inviting = NetCredential::generate(inviting);
    let _seed = join(&network, 1, inviting, config(&[])).await;
    let id = InviteId::generate(unix_time(), Duration::from_secs(60)).unwrap();
    let seeds = vec!["10.0.0.1:7000".to_owned()];
    let invite = Invite::issue(&issuer, Claims::new(id), "other".to_owned(), seeds).unwrap();
    let holder = || NetCredential::generate(Trust::invite(invite.clone()));

    let mut of_invite = config(&["10.0.0.1:7000"]);
    of_invite.cluster_id = "other".to_owned();
    let guest = join(&network, 2, holder(), of_invite).await;
    let error = connected(&guest).await.unwrap_err();
    assert_eq!(error.code(), "wrong-cluster");
    let text = error.to_string();
    assert!(text.contains("the invite names another cluster"), "{text}");
    assert!(text.contains("get a new invite"), "{text}");

    // Here the holder has named the cluster itself.
    let mut named = config(&["10.0.0.1:7000"]);
    named.cluster_id = "mistyped".to_owned();
    let guest = join(&network, 3, holder(), named).await;
    assert_eq!(connected(&guest).await, Err(ConnectedError::WrongCluster));
}

#[tokio::test(start_paused = true)]
async fn a_seed_whose_key_is_not_trusted_is_reported() {
    let network = MemoryNetwork::new(6);
    let open = NetCredential::generate(Trust::dangerously_anyone());
    let theirs = open.identity();
    let _seed = join(&network, 1, open.clone(), config(&[])).await;
    let listed = NetCredential::generate(Trust::keys([]));
    let member = join(&network, 2, listed, config(&["10.0.0.1:7000"])).await;
    let error = connected(&member).await.unwrap_err();
    let expected = ConnectedError::UntrustedPeer {
        seed: "10.0.0.1:7000".to_owned(),
        identity: theirs,
    };
    assert_eq!(error, expected);
}

/// Returns a holder of an invite, whose name `m{n}` must begin with `prefix`.
fn holder(secret: &ClusterSecret, prefix: &str) -> NetCredential {
    NetCredential::generate(guests(secret, prefix))
}

#[tokio::test(start_paused = true)]
async fn a_holder_of_an_invite_with_the_name_of_a_member_is_told_so_and_met_under_another() {
    let network = MemoryNetwork::new(1);
    let secret = ClusterSecret::generate();
    let credential = NetCredential::generate(Trust::secret(secret.clone()).accepting_invites());
    let seed = join(&network, 1, credential, config(&[])).await;
    let guest = |n| holder(&secret, &format!("m{n}"));
    let open = async |credential| {
        let host = network.host(addr(9).ip());
        let transport = TransportLayerTransport::new(host, credential);
        transport.open(addr(9)).await.unwrap()
    };
    let named = |name: &str| {
        let mut config = GossipConfig::new("cluster", name).with_dial(DialPolicy::SeedsOnly);
        config.seeds = vec!["10.0.0.1:7000".to_owned()];
        config
    };
    let first = Participant::join(open(guest(1)).await, named("m1")).await;
    let first = first.unwrap();
    let start = Instant::now();
    let error = connected(&first).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(error.code(), "name");
    let text = error.to_string();
    assert!(text.contains("10.0.0.1:7000"), "{text}");
    // It keeps trying, in vain, and is no member.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let seeds = first.seeds();
    assert!(seeds[0].failures > 2, "{seeds:?}");
    assert_eq!(seed.members().len(), 1);
    first.leave(Duration::from_secs(1)).await.unwrap();
    let second = Participant::join(open(guest(1)).await, named("m12")).await;
    let second = second.unwrap();
    connected(&second).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(seed.members().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_leaf_is_met_though_the_clock_of_the_member_was_set_since_its_last_round() {
    let network = MemoryNetwork::new(1);
    let secret = ClusterSecret::generate();
    let credential = NetCredential::generate(Trust::secret(secret.clone()).accepting_invites());
    let rare = config(&[]).with_interval(Duration::from_secs(600));
    let _seed = join(&network, 1, credential, rare).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The time of day goes on, and that of the test does not.
    std::thread::sleep(Duration::from_secs(4));
    let latest = unix_time() + Duration::from_secs(119);
    let mut config = config(&["10.0.0.1:7000"]).with_dial(DialPolicy::SeedsOnly);
    config.generation_id = Some(latest.as_micros().try_into().unwrap());
    let leaf = join(&network, 9, holder(&secret, "m"), config).await;
    connected(&leaf).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_name_without_the_prefix_of_the_invite_is_refused_at_once() {
    let network = MemoryNetwork::new(1);
    let credential = holder(&ClusterSecret::generate(), "tab-");
    let transport = TransportLayerTransport::new(network.host(addr(9).ip()), credential);
    let socket = transport.open(addr(9)).await.unwrap();
    let error = Participant::join(socket, config(&["10.0.0.1:7000"])).await;
    let error = error.err().unwrap();
    let Some(JoinError::Name { node_id, prefix }) = error.downcast_ref() else {
        panic!("{error:#}");
    };
    assert_eq!((node_id.as_str(), prefix.as_str()), ("member", "tab-"));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_too_long_for_a_holder_of_an_invite_is_refused_at_once() {
    let network = MemoryNetwork::new(1);
    let secret = ClusterSecret::generate();
    for (len, fits) in [(256, true), (257, false)] {
        let mut config = config(&["10.0.0.1:7000"]);
        config.node_id = "m".repeat(len);
        let join = async |credential, config: &GossipConfig| {
            let transport = TransportLayerTransport::new(network.host(addr(9).ip()), credential);
            let socket = transport.open(addr(9)).await.unwrap();
            Participant::join(socket, config.clone()).await
        };
        let error = join(holder(&secret, "m"), &config).await.err();
        assert_eq!(error.is_none(), fits, "{len}");
        if let Some(error) = error {
            let expected = "node_id is 257 bytes long, but must be at most 256 bytes long";
            assert_eq!(error.to_string(), expected);
            assert!(error.is::<ConfigError>());
        }
        // A member with a secret may have a longer one.
        let core = join(member(&secret), &config).await;
        assert!(core.is_ok(), "{len}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_may_dial_seeds_only_dials_nothing_else() {
    let network = MemoryNetwork::new(7);
    let _seed = seed(&network).await;
    let others = config(&["10.0.0.1:7000"]);
    let limited = others.clone().with_dial(DialPolicy::SeedsOnly);
    let other = join(&network, 2, member(&secret("right")), others).await;
    let limited = join(&network, 3, member(&secret("right")), limited).await;
    for participant in [&other, &limited] {
        let knows_all = async {
            let mut watch = participant.watch();
            while participant.members().len() < 3 {
                assert!(watch.changed().await);
            }
        };
        timeout(PATIENCE, knows_all).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    // It dials its seed. The third member dials it, or is reached through the seed.
    assert_eq!(limited.stats().dials, 1);
}

#[tokio::test]
async fn a_key_that_another_program_uses_is_reported_over_tcp_and_its_owner_notices_nothing() {
    let secret = ClusterSecret::generate();
    let node = tcp(TcpTransport::default(), member(&secret), &[], "node").await;
    let seeds = [node.id().gossip_advertise_addr.to_string()];
    let seeds = [seeds[0].as_str()];
    let shared = member(&secret);
    let first = tcp(
        Tab(TcpTransport::default()),
        shared.clone(),
        &seeds,
        "first",
    )
    .await;
    timeout(PATIENCE, first.connected()).await.unwrap().unwrap();
    let second = tcp(Tab(TcpTransport::default()), shared, &seeds, "second").await;
    let error = timeout(PATIENCE, second.connected())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.code(), "duplicate-key");
    first.set("still", "here").unwrap();
    let id = first.id().clone();
    crate::support::until("the change to arrive", async || {
        node.member_value(&id, "still").is_some()
    })
    .await;
    // The second one takes the place of the first when that has left.
    first.leave(Duration::from_secs(1)).await.unwrap();
    let connected = async || second.connected().await.is_ok();
    crate::support::until("the second to connect", connected).await;
}

/// Joins over TCP, as a node or as a tab.
async fn tcp<T: NetTransport>(
    transport: T,
    credential: NetCredential,
    seeds: &[&str],
    name: &str,
) -> Participant<T> {
    let network = TransportLayerTransport::new(transport, credential);
    let socket = network.open(crate::support::ANY_PORT).await.unwrap();
    let mut config = config(seeds).with_interval(Duration::from_millis(100));
    config.node_id = name.to_owned();
    Participant::join(socket, config).await.unwrap()
}
