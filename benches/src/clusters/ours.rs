//! A cluster of this crate's participants over encrypted TCP.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use gossip_transport::gossip::{GossipConfig, Liveness, Participant};
use gossip_transport::message::{ChitchatMessage, ProtocolVersion};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{NetCredential, TransportLayerTransport, Trust};

use super::{Cluster, LOOK_EVERY, PATIENCE, STAGGER, Version};
use crate::peers::secret;

/// Limit until a member that leaves has closed its connections. It waits so long for what it cannot send any more,
/// such as a message to a member that has left before.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A cluster of this crate.
#[derive(Debug)]
pub struct OurCluster {
    members: Vec<Participant<TcpTransport>>,
    version: Version,
    seeds: Vec<String>,
    /// The number of members that have ever joined.
    joined: usize,
}

impl OurCluster {
    /// Starts `count` more members, and waits until all know each other.
    pub async fn grow(&mut self, count: usize) -> anyhow::Result<()> {
        let start = Instant::now();
        for _ in 0..count {
            self.join().await?;
        }
        super::complete(self, start).await?;
        Ok(())
    }

    /// Lets the last member leave; returns the time until every other one has seen that it has left.
    pub async fn leave(&mut self) -> anyhow::Result<Duration> {
        let leaving = self.members.pop().context("nobody is left")?;
        let left = (leaving.id(), Liveness::Left);
        let start = Instant::now();
        let leaving = leaving.leave(CLOSE_WITHIN);
        let mut waiting: Vec<_> = self.members.iter().collect();
        loop {
            waiting.retain(|member| !member.liveness_of_members().contains(&left));
            if waiting.is_empty() {
                break;
            }
            anyhow::ensure!(start.elapsed() < PATIENCE, "not all see a member leave");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let took = start.elapsed();
        leaving.await?;
        Ok(took)
    }

    async fn join(&mut self) -> anyhow::Result<()> {
        let credential = NetCredential::generate(Trust::secret(secret()));
        let transport =
            TransportLayerTransport::<_, ChitchatMessage>::new(TcpTransport::default(), credential);
        let socket = transport.open("127.0.0.1:0".parse()?).await?;
        let addr = socket.local_addr().to_string();
        let mut config = GossipConfig::new("bench", format!("node-{:04}", self.joined));
        config.seeds.clone_from(&self.seeds);
        config.generation_id = Some(1);
        config.protocol_version = match self.version {
            Version::V0 => ProtocolVersion::V0,
            Version::V1 => ProtocolVersion::V1,
        };
        if self.seeds.is_empty() {
            self.seeds.push(addr);
        }
        self.members.push(Participant::join(socket, config).await?);
        self.joined += 1;
        Ok(())
    }
}

impl Cluster for OurCluster {
    const NAME: &'static str = "gossip-transport, TCP, encrypted";

    async fn start(members: usize, version: Version) -> anyhow::Result<Self> {
        let mut cluster = Self {
            members: Vec::with_capacity(members),
            version,
            seeds: Vec::new(),
            joined: 0,
        };
        for _ in 0..members {
            tokio::time::sleep(STAGGER / members as u32).await;
            cluster.join().await?;
        }
        Ok(cluster)
    }

    async fn is_complete(&self) -> bool {
        self.members.iter().all(|participant| {
            let members = participant.members();
            let alive = members.iter().filter(|member| member.liveness.is_live());
            alive.count() == self.members.len()
        })
    }

    async fn set(&self, member: usize, value: &str) -> anyhow::Result<()> {
        Ok(self.members[member].set("k", value)?)
    }

    async fn all_have(&self, member: usize, value: &str) -> bool {
        let id = self.members[member].id();
        let has = |other: &Participant<_>| other.member_value(&id, "k").as_deref() == Some(value);
        self.members.iter().all(has)
    }

    fn sent_messages(&self) -> u64 {
        self.members.iter().map(|one| one.stats().total.sent).sum()
    }

    fn sent_bytes(&self) -> u64 {
        self.members
            .iter()
            .map(|one| one.stats().total.sent_bytes)
            .sum()
    }
}
