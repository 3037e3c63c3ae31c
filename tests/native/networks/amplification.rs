//! Forged datagrams that ask a node for more than they are long, on real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::Identity;
use gossip_transport::gossip::{GossipConfig, Participant};
use gossip_transport::message::{
    ChitchatId, ChitchatMessage, Digest, Message as _, NodeDigest, ProtocolVersion,
};
use gossip_transport::udp::{PlaintextUdpTransport, UdpConfig};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::support::upstream::{Release, Settings, our_config};
use crate::support::{self, ANY_PORT, anyone, own_cluster, soon, until};

const INTERVAL: Duration = Duration::from_millis(100);
const CLUSTER: &str = "c";

type Member = Participant<PlaintextUdpTransport>;

/// A member with 47 KB of keys, which take about 36 KB in a message.
async fn victim(rate: usize) -> (PlaintextUdpTransport, Member) {
    let config = UdpConfig::default().with_max_unechoed_bytes_per_second(rate);
    let network = PlaintextUdpTransport::new(config);
    let mut config = our_config(CLUSTER, "victim", INTERVAL, &[]);
    for n in 0..47 {
        config
            .initial_key_values
            .push((format!("key-{n}"), incompressible(1000)));
    }
    (network.clone(), join(network, config).await)
}

fn syn(cluster: &str, digest: Digest) -> Bytes {
    let syn = ChitchatMessage::Syn {
        version: ProtocolVersion::V0,
        cluster_id: cluster.to_owned(),
        digest,
    };
    syn.into_bytes().unwrap()
}

fn incompressible(len: usize) -> String {
    (0..len).map(|_| fastrand::alphanumeric()).collect()
}

async fn join(network: PlaintextUdpTransport, config: GossipConfig) -> Member {
    let socket = support::open(network, anyone()).await;
    Participant::join(socket, config).await.unwrap()
}

/// An address that asks and does not read the answers: their bytes are counted.
struct Forged {
    socket: UdpSocket,
    sent: usize,
    received: usize,
}

impl Forged {
    async fn new() -> Self {
        Self {
            socket: UdpSocket::bind(ANY_PORT).await.unwrap(),
            sent: 0,
            received: 0,
        }
    }

    async fn ask(&mut self, to: SocketAddr) {
        let syn = syn(CLUSTER, Digest::default());
        assert_eq!(syn.len(), 9);
        self.socket.send_to(&syn, to).await.unwrap();
        self.sent += syn.len();
        self.count();
    }

    fn count(&mut self) {
        let mut buffer = [0; 1 << 16];
        while let Ok((len, _)) = self.socket.try_recv_from(&mut buffer) {
            self.received += len;
        }
    }
}

#[tokio::test]
async fn an_address_that_echoes_nothing_gets_three_times_what_it_has_sent() {
    let (network, member) = victim(0).await;
    let mut forged = Forged::new().await;
    for asked in 1..=100 {
        forged.ask(member.id().gossip_advertise_addr).await;
        until("the answer", async || {
            member.stats().total.received == asked && member.stats().total.queued == 0
        })
        .await;
    }
    forged.count();
    assert!(
        forged.received <= 3 * forged.sent,
        "{} bytes for {}",
        forged.received,
        forged.sent
    );
    assert!(network.counts().withheld >= 90);
}

/// A node that reads the answers, and lists the members of the last one in its next digest.
struct Reader {
    socket: UdpSocket,
    known: Digest,
}

impl Reader {
    async fn new() -> Self {
        Self {
            socket: UdpSocket::bind(ANY_PORT).await.unwrap(),
            known: Digest::default(),
        }
    }

    /// Asks until there is an answer, which contains all keys.
    async fn exchange(&mut self, with: SocketAddr) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let syn = syn(CLUSTER, self.known.clone());
            self.socket.send_to(&syn, with).await.unwrap();
            let answer = tokio::time::timeout(INTERVAL, self.socket.recv_from(&mut buffer));
            let Ok(answer) = answer.await else {
                continue;
            };
            let bytes = Bytes::copy_from_slice(&buffer[..answer.unwrap().0]);
            let answer = ChitchatMessage::decode(bytes).unwrap();
            if let ChitchatMessage::SynAck { digest, delta, .. } = answer {
                assert_eq!(delta.node_deltas[0].key_values.len(), 47);
                self.known = digest;
                for known in self.known.node_digests.values_mut() {
                    known.max_version = 0;
                }
                return;
            }
        }
    }
}

#[tokio::test]
async fn addresses_that_echo_nothing_get_a_bounded_rate_and_others_are_not_limited() {
    const RATE: usize = 70_000;
    let (network, member) = victim(RATE).await;
    let addr = member.id().gossip_advertise_addr;
    let mut reader = Reader::new().await;
    for _ in 0..2 {
        reader.exchange(addr).await;
    }

    let begin = Instant::now();
    let mut forged = Vec::new();
    for _ in 0..10 {
        forged.push(Forged::new().await);
    }
    let asking = async {
        loop {
            for forged in &mut forged {
                forged.ask(addr).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reading = async {
        // 1 MB for an address that has shown that it reads: 15 s at the rate of the others.
        for _ in 0..30 {
            reader.exchange(addr).await;
        }
        let took = begin.elapsed();
        until("many messages to be withheld", async || {
            network.counts().withheld > 100
        })
        .await;
        took
    };
    let took = tokio::select! {
        never = asking => never,
        took = soon(reading) => took,
    };
    assert!(took < Duration::from_secs(10), "{took:?}");
    let elapsed = begin.elapsed();
    let (mut sent, mut received) = (0, 0);
    for forged in &mut forged {
        forged.count();
        sent += forged.sent;
        received += forged.received;
    }
    let allowed = RATE as f64 * (elapsed.as_secs_f64() + 1.0);
    assert!(
        received as f64 <= 3.0 * sent as f64 + allowed,
        "{received} bytes"
    );
}

/// With three times what it has sent alone, this takes 250 rounds.
#[tokio::test]
async fn an_upstream_node_that_joins_a_node_with_600_tabs_is_served_within_a_few_rounds() {
    let network = PlaintextUdpTransport::default();
    let member = join(
        network.clone(),
        our_config(&own_cluster(), "node", INTERVAL, &[]),
    )
    .await;
    let addr = member.id().gossip_advertise_addr;
    let mut digest = Digest::default();
    for n in 0..600_u64 {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        let tab = Identity::from_bytes(key).address();
        let id = ChitchatId::new(format!("tab-{n:016}"), 1, tab);
        let known = NodeDigest {
            heartbeat: 1,
            ..NodeDigest::default()
        };
        digest.node_digests.insert(id, known);
    }
    let bridge = UdpSocket::bind(ANY_PORT).await.unwrap();
    bridge
        .send_to(&syn(&own_cluster(), digest), addr)
        .await
        .unwrap();
    until("the tabs to be known", async || {
        member.members().len() > 600
    })
    .await;
    member.set("key", "value").unwrap();
    let settings = Settings::new(&own_cluster(), "upstream", INTERVAL, &[addr]);
    let upstream = settings.on_udp(Release::V013(ProtocolVersion::V0)).await;
    let begin = Instant::now();
    until("the key to arrive", async || {
        upstream.read("node", "key").await.is_some()
    })
    .await;
    assert!(begin.elapsed() < INTERVAL * 30, "{:?}", begin.elapsed());
    assert_eq!(network.counts().withheld, 0);
}
