//! Members that restart under their names: their earlier life is superseded, and soon found dead.

use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::gossip::{GossipConfig, Liveness, Member, Participant};
use gossip_transport::memory::{MemoryNetwork, MemoryTransport};
use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport};
use tokio::time::{Instant, sleep};

use crate::support::{member, until};

const ROUND: Duration = Duration::from_millis(100);

/// A network in memory with two members of one cluster, each on a host of its own. Both keep their keys when
/// they restart.
struct World {
    network: MemoryNetwork,
    keys: [NetCredential; 2],
}

impl World {
    fn new(seed: u64) -> Self {
        let secret = ClusterSecret::generate();
        Self {
            network: MemoryNetwork::new(seed),
            keys: [(); 2].map(|()| member(&secret)),
        }
    }

    async fn start(&self, n: u8, generation: Option<u64>) -> Participant<MemoryTransport> {
        let seed: SocketAddr = ([10, 0, 0, 1], 7000).into();
        let ip = [10, 0, 0, n];
        let host = self.network.host(ip.into());
        let transport = TransportLayerTransport::new(host, self.keys[usize::from(n) - 1].clone());
        let mut config = GossipConfig::new("cluster", format!("m{n}"));
        config.seeds = vec![seed.to_string()];
        let config = config.with_interval(ROUND).with_generation_id(generation);
        let socket = transport.open((ip, 7000).into()).await.unwrap();
        Participant::join(socket, config).await.unwrap()
    }
}

/// Returns the generations of `m2` that a member knows.
fn lives(of: &Participant<MemoryTransport>) -> Vec<Member> {
    let members = of.members().into_iter();
    members.filter(|m| &*m.id.node_id == "m2").collect()
}

fn is_live(member: &Member) -> bool {
    member.liveness == Liveness::Live
}

#[tokio::test(start_paused = true)]
async fn the_earlier_life_of_a_restarted_member_is_superseded_at_once_and_dead_after_some_rounds() {
    let world = World::new(3);
    let stays = world.start(1, Some(1)).await;
    // A member that has been there for long has a short time until it is found dead, a new one a long one.
    for (age, most) in [(5, 25), (600, 8)] {
        let crashes = world.start(2, None).await;
        let generation = crashes.id().generation_id;
        let is_there = async || {
            lives(&stays)
                .iter()
                .any(|m| m.id.generation_id == generation && is_live(m))
        };
        until("the first life", is_there).await;
        sleep(ROUND * age).await;
        drop(crashes);
        let restarted = world.start(2, None).await;
        let later = restarted.id().generation_id;
        let both = async || lives(&stays).iter().filter(|m| is_live(m)).count() == 2;
        until("both lives", both).await;
        let since = Instant::now();
        loop {
            let lives = lives(&stays);
            for life in &lives {
                assert_eq!(life.superseded, life.id.generation_id != later, "{lives:?}");
            }
            if lives.iter().filter(|m| is_live(m)).count() == 1 {
                break;
            }
            sleep(ROUND / 10).await;
        }
        let rounds = since.elapsed().as_secs_f64() / ROUND.as_secs_f64();
        println!("after {age} rounds: two lives for {rounds:.1} rounds");
        assert!(rounds < f64::from(most), "{rounds} rounds");
        drop(restarted);
        let is_dead = async || lives(&stays).iter().all(|m| !is_live(m));
        until("the second life to be dead", is_dead).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_clock_was_set_back_before_its_restart_takes_the_place_of_its_earlier_life()
{
    let world = World::new(2);
    let (stays, restarts) = (
        world.start(1, Some(1)).await,
        world.start(2, Some(5_000_000)).await,
    );
    let is_there = async || lives(&stays).iter().any(is_live);
    until("the first life", is_there).await;
    drop(restarts);
    // An hour earlier, in the unit of the test.
    let restarted = world.start(2, Some(1_400_000)).await;
    restarted.set("life", "second").unwrap();
    let is_current = async || {
        let lives = lives(&stays);
        let mut current = lives.iter().filter(|m| !m.superseded);
        let current = current.next().unwrap();
        current.key_values.contains_key("life") && is_live(current)
    };
    until("the second life", is_current).await;
    assert_eq!(restarted.id().generation_id, 5_000_001);
    let superseded = lives(&stays).into_iter().filter(|m| m.superseded);
    let superseded = superseded.map(|m| m.id.generation_id);
    assert!(superseded.clone().all(|generation| generation <= 5_000_000));
    assert!(superseded.count() > 0);
}
