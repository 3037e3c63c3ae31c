//! A member of a cluster. It joins, sets a key, and prints what it learns about other members.
//!
//! The first member prints the secret of the cluster, which the others need:
//!
//! ```sh
//! cargo run --example member -- ada 127.0.0.1:7001
//! CLUSTER_SECRET=... cargo run --example member -- bob 127.0.0.1:7002 127.0.0.1:7001
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;
use gossip_transport::gossip::{GossipConfig, Liveness, Member, Participant};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(listen)) = (args.next(), args.next()) else {
        bail!("usage: member NAME ADDRESS [SEED]...");
    };
    let secret = if let Ok(text) = std::env::var("CLUSTER_SECRET") {
        text.parse()?
    } else {
        let secret = ClusterSecret::generate();
        println!("CLUSTER_SECRET={}", secret.to_text());
        secret
    };
    let member = join(&secret, &name, listen.parse()?, args.collect()).await?;
    println!("{name} listens on {}", member.id().gossip_advertise_addr);
    tokio::select! {
        () = print_changes(&member, |line| println!("{line}")) => {}
        // Fails if no seed lets this member in, for example because it has another secret.
        Err(error) = member.connected() => return Err(error.into()),
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    member.leave(Duration::from_secs(1)).await?;
    Ok(())
}

/// Joins the cluster over TCP and sets a key.
pub(crate) async fn join(
    secret: &ClusterSecret,
    name: &str,
    listen: SocketAddr,
    seeds: Vec<String>,
) -> anyhow::Result<Participant<TcpTransport>> {
    let credential = NetCredential::generate(Trust::secret(secret.clone()));
    let transport = TransportLayerTransport::new(TcpTransport::default(), credential);
    let socket = transport.open(listen).await?;
    let mut config = GossipConfig::new("example", name);
    config.seeds = seeds;
    let member = Participant::join(socket, config).await?;
    member.set("greeting", &format!("hello from {name}"))?;
    Ok(member)
}

/// Prints each other member once, and again whenever its state or its keys have changed. Returns
/// once `member` has left the cluster.
pub(crate) async fn print_changes(
    member: &Participant<TcpTransport>,
    mut print: impl FnMut(String),
) {
    let mut watch = member.watch();
    let mut printed = BTreeMap::new();
    loop {
        let members = member.members().into_iter();
        for other in members.filter(|other| other.liveness != Liveness::Myself) {
            let line = describe(&other);
            let last = printed.insert(other.id, line.clone());
            if last.as_ref() != Some(&line) {
                print(line);
            }
        }
        if !watch.changed().await {
            return;
        }
    }
}

fn describe(member: &Member) -> String {
    let mut line = format!("{} is {}", member.id.node_id, member.liveness.as_str());
    for (key, value) in &member.key_values {
        line += &format!(", {key}: {:?}", value.value);
    }
    line
}
