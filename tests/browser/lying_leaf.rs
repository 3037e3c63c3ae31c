//! A leaf that lies: it joins with an invite, learns of all members, and says false things about each of them.
//!
//! `lying_leaf WORD ADDR` connects to the member at ADDR. It prints the number of its lies once the member has answered
//! a question that it asked after them. `cargo xtask demo --check` runs it, and looks at what it has changed.
#![allow(missing_docs, reason = "a program of the demo's check")]

#[cfg(not(target_family = "wasm"))]
mod leaf {
    use std::net::SocketAddr;
    use std::time::Duration;

    use anyhow::Context as _;
    use futures::FutureExt as _;
    use gossip_transport::credential::Invite;
    use gossip_transport::message::{
        ChitchatId, ChitchatMessage, DeletionStatus, Delta, Digest, KeyValueMutation, NodeDelta,
        NodeDigest, ProtocolVersion,
    };
    use gossip_transport::tcp::TcpTransport;
    use gossip_transport::{NetCredential, TransportLayerSocket, TransportLayerTransport, Trust};

    type Socket = TransportLayerSocket<TcpTransport, ChitchatMessage>;

    const VERSION: ProtocolVersion = ProtocolVersion::V1;
    const ROUNDS: u64 = 100;
    /// The time in which all answers to lies have arrived.
    const PAUSE: Duration = Duration::from_secs(1);

    pub(super) async fn run(word: &str, to: SocketAddr) -> anyhow::Result<()> {
        let invite: Invite = word.parse()?;
        let cluster = invite.cluster_id().to_owned();
        let credential = NetCredential::generate(Trust::invite(invite));
        let transport = TransportLayerTransport::new(TcpTransport::default(), credential);
        let socket: Socket = transport.open(([127, 0, 0, 1], 0).into()).await?;
        let syn = |digest| ChitchatMessage::Syn {
            version: VERSION,
            cluster_id: cluster.clone(),
            digest,
        };
        let members = ask(&socket, to, syn(Digest::default())).await?;
        let mut lies = 0_usize;
        for round in 1..=ROUNDS {
            let node_digests = members.node_digests.iter().map(|(id, known)| {
                let later = ChitchatId {
                    generation_id: id.generation_id + round,
                    ..id.clone()
                };
                let id = if round.is_multiple_of(2) {
                    later
                } else {
                    id.clone()
                };
                let heartbeat = known.heartbeat + 1_000_000 * round;
                let known = NodeDigest {
                    heartbeat,
                    ..*known
                };
                (id, known)
            });
            let node_digests: Vec<_> = node_digests.collect();
            lies += node_digests.len();
            socket.send(to, syn(Digest::from(node_digests))).await?;
            let node_deltas = members.node_digests.iter();
            let node_deltas = node_deltas.map(|(id, known)| lie(id, known, round));
            let delta = Delta {
                node_deltas: node_deltas.collect(),
            };
            lies += delta.node_deltas.len();
            let version = VERSION;
            socket
                .send(to, ChitchatMessage::Ack { version, delta })
                .await?;
        }
        // The member handles what it receives in order. It answers few questions that come at once, so this one waits.
        tokio::time::sleep(PAUSE).await;
        while socket.recv().now_or_never().is_some() {}
        ask(&socket, to, syn(Digest::default())).await?;
        println!("{lies}");
        Ok(())
    }

    /// Returns the digest with which the member answers.
    async fn ask(
        socket: &Socket,
        to: SocketAddr,
        question: ChitchatMessage,
    ) -> anyhow::Result<Digest> {
        socket.send(to, question).await?;
        loop {
            let (_, message) = socket.recv().await.context("no answer")?;
            if let ChitchatMessage::SynAck { digest, .. } = message {
                return Ok(digest);
            }
        }
    }

    /// Returns a change, a deletion or a reset of all keys that the member never made.
    fn lie(id: &ChitchatId, known: &NodeDigest, round: u64) -> NodeDelta {
        let version = known.max_version + round;
        let is_reset = round.is_multiple_of(3);
        let status = match round % 3 {
            1 => DeletionStatus::Set,
            _ => DeletionStatus::DeleteAfterTtl,
        };
        let key_values = ["lie", "kind", "mood"].map(|key| KeyValueMutation {
            key: key.to_owned(),
            value: "lie".to_owned(),
            version,
            status,
        });
        NodeDelta {
            chitchat_id: id.clone(),
            last_gc_version: if is_reset {
                version
            } else {
                known.last_gc_version
            },
            from_version_excluded: if is_reset { 0 } else { known.max_version },
            key_values: if is_reset {
                Vec::new()
            } else {
                key_values.to_vec()
            },
            max_version: version,
        }
    }
}

#[cfg(not(target_family = "wasm"))]
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(word), Some(to)) = (words.next(), words.next()) else {
        anyhow::bail!("usage: lying_leaf WORD ADDR");
    };
    leaf::run(&word, to.parse()?).await
}

#[cfg(target_family = "wasm")]
fn main() {}
