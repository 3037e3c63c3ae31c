//! A cluster of this crate's participants over encrypted TCP.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use gossip_transport::gossip::{GossipConfig, Liveness, Participant};
use gossip_transport::message::{ChitchatMessage, ProtocolVersion};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{NetCredential, TransportLayerTransport, Trust};

use super::{Cluster, LOOK_EVERY, PATIENCE, STAGGER, Version};
use crate::peers::secret;

/// A cluster of this crate.
#[derive(Debug)]
pub struct OurCluster(Vec<Participant<TcpTransport>>);

impl OurCluster {
    /// Lets the last member leave; returns the time until every other one has seen that it has left.
    pub async fn leave(&mut self) -> anyhow::Result<Duration> {
        let leaving = self.0.pop().context("nobody is left")?;
        let left = (leaving.id(), Liveness::Left);
        let start = Instant::now();
        let leaving = leaving.leave(PATIENCE);
        let mut waiting: Vec<_> = self.0.iter().collect();
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
}

impl Cluster for OurCluster {
    const NAME: &'static str = "gossip-transport, TCP, encrypted";

    async fn start(members: usize, version: Version) -> anyhow::Result<Self> {
        let mut participants = Vec::with_capacity(members);
        let mut seeds = Vec::new();
        for n in 0..members {
            tokio::time::sleep(STAGGER / members as u32).await;
            let credential = NetCredential::generate(Trust::secret(secret()));
            let transport = TransportLayerTransport::<_, ChitchatMessage>::new(
                TcpTransport::default(),
                credential,
            );
            let socket = transport.open("127.0.0.1:0".parse()?).await?;
            let addr = socket.local_addr().to_string();
            let mut config = GossipConfig::new("bench", format!("node-{n:04}"));
            config.seeds.clone_from(&seeds);
            config.generation_id = Some(1);
            config.protocol_version = match version {
                Version::V0 => ProtocolVersion::V0,
                Version::V1 => ProtocolVersion::V1,
            };
            if seeds.is_empty() {
                seeds.push(addr);
            }
            participants.push(Participant::join(socket, config).await?);
        }
        Ok(Self(participants))
    }

    async fn is_complete(&self) -> bool {
        self.0.iter().all(|participant| {
            let members = participant.members();
            let alive = members.iter().filter(|member| member.liveness.is_live());
            alive.count() == self.0.len()
        })
    }

    async fn set(&self, member: usize, value: &str) -> anyhow::Result<()> {
        Ok(self.0[member].set("k", value)?)
    }

    async fn all_have(&self, member: usize, value: &str) -> bool {
        let id = self.0[member].id();
        let has = |other: &Participant<_>| other.member_value(&id, "k").as_deref() == Some(value);
        self.0.iter().all(has)
    }

    fn sent_messages(&self) -> u64 {
        self.0.iter().map(|one| one.stats().total.sent).sum()
    }

    fn sent_bytes(&self) -> u64 {
        self.0.iter().map(|one| one.stats().total.sent_bytes).sum()
    }
}
