//! Measures how fast a mesh, in which every node talks to every other, comes up and settles.
//!
//! `mesh [--nodes N] [--rounds N]`: in each round, three meshes of N nodes in this process take turns. In
//! the first, one node of each pair opens a plain TCP connection, which is the floor. In the second, one
//! node of each pair sends a message through this crate, and the other one answers. In the third, both
//! send at once, so that both dial. A mesh is up when every node has received a message from every other
//! node, and has settled when one connection is left for each pair.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use cpu_time::ProcessTime;
use futures::future::try_join_all;
use gossip_benches::options::pairs;
use gossip_benches::process::raise_descriptors;
use gossip_benches::report::{Samples, Unit, order, write_json};
use gossip_transport::tcp::{TcpConfig, TcpTransport};
use gossip_transport::{
    ClusterSecret, NetCredential, TransportLayerConfig, TransportLayerSocket,
    TransportLayerTransport, Trust,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const NAMES: [&str; 3] = ["TCP, one dials", "one dials", "both dial"];
/// A mesh that takes longer than this to come up or to settle fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks at the number of connections.
const LOOK: Duration = Duration::from_millis(5);

type Socket = TransportLayerSocket<TcpTransport, Bytes>;

/// What a mesh has taken, from the first dial.
struct Sample {
    up: Duration,
    settled: Duration,
    cpu: Duration,
    dials: u64,
}

fn main() -> anyhow::Result<()> {
    let (mut nodes, mut rounds) = (64, 5);
    for pair in pairs(std::env::args().skip(1)) {
        let (name, value) = pair?;
        match name.as_str() {
            "--nodes" => nodes = value.parse()?,
            "--rounds" => rounds = value.parse()?,
            _ => anyhow::bail!("{name}: unknown"),
        }
    }
    anyhow::ensure!(nodes > 1, "a mesh takes two nodes");
    let limit = nodes * nodes * 2 + 1000;
    raise_descriptors(limit as u64)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut samples = Samples::new(NAMES);
    for round in 0..rounds {
        for index in order(NAMES.len(), round) {
            let mesh = runtime.block_on(async {
                match index {
                    0 => plain(nodes).await,
                    1 => ours(nodes, false).await,
                    _ => ours(nodes, true).await,
                }
            });
            let sample = mesh.with_context(|| NAMES[index])?;
            let mut add = |column, time: Duration| {
                let micros = time.as_secs_f64() * 1e6;
                samples.add(column, Unit::Micros, NAMES[index], micros);
            };
            let pairs = nodes * (nodes - 1) / 2;
            add("all have heard from all", sample.up);
            add("one connection for each pair", sample.settled);
            add("CPU for each pair", sample.cpu / u32::try_from(pairs)?);
            eprintln!(
                "round {} of {rounds}, {}: {} dials for {pairs} pairs",
                round + 1,
                NAMES[index],
                sample.dials,
            );
        }
    }
    println!("{nodes} nodes, {rounds} rounds, medians:\n");
    println!("{}\n", samples.medians());
    println!("Ratio to TCP of the same round:\n");
    println!("{}\n", samples.ratios(NAMES[0]));
    println!("wrote {}", write_json("mesh", &samples)?.display());
    Ok(())
}

/// One node of each pair dials, and both write 8 bytes and read those of the other.
async fn plain(nodes: usize) -> anyhow::Result<Sample> {
    async fn greet(mut stream: TcpStream) -> anyhow::Result<TcpStream> {
        stream.set_nodelay(true)?;
        stream.write_all(&[0; 8]).await?;
        stream.read_exact(&mut [0; 8]).await?;
        Ok(stream)
    }
    let bind = || TcpListener::bind("127.0.0.1:0");
    let listeners = try_join_all((0..nodes).map(|_| bind())).await?;
    let addrs: Result<Vec<_>, _> = listeners.iter().map(TcpListener::local_addr).collect();
    let addrs = addrs?;
    let (begin, cpu) = (Instant::now(), ProcessTime::now());
    let mut tasks = Vec::new();
    for (n, listener) in listeners.into_iter().enumerate() {
        let dialled = addrs[n + 1..].to_vec();
        tasks.push(tokio::spawn(async move {
            let accepted = async {
                let mut greetings = Vec::new();
                for _ in 0..n {
                    let (stream, _) = listener.accept().await?;
                    greetings.push(tokio::spawn(greet(stream)));
                }
                try_join_all(greetings).await?.into_iter().collect()
            };
            let dialled = try_join_all(dialled.into_iter().map(async |addr| {
                let stream = TcpStream::connect(addr).await?;
                tokio::spawn(greet(stream)).await?
            }));
            let (accepted, dialled): (anyhow::Result<Vec<_>>, _) =
                futures::future::join(accepted, dialled).await;
            anyhow::Ok((accepted?, dialled?))
        }));
    }
    let all = tokio::time::timeout(PATIENCE, try_join_all(tasks)).await??;
    let (up, cpu) = (begin.elapsed(), cpu.elapsed());
    let all = all.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let dials: usize = all.iter().map(|(_, dialled)| dialled.len()).sum();
    Ok(Sample {
        up,
        settled: up,
        cpu,
        dials: dials as u64,
    })
}

/// One node of each pair sends a message to the other one, which answers; or `both` send at once.
async fn ours(nodes: usize, both: bool) -> anyhow::Result<Sample> {
    let secret = ClusterSecret::generate();
    let sockets = try_join_all((0..nodes).map(|_| open(&secret, nodes))).await?;
    let addrs: Vec<_> = sockets.iter().map(Socket::local_addr).collect();
    let (begin, cpu) = (Instant::now(), ProcessTime::now());
    let mut tasks = Vec::new();
    for (n, socket) in sockets.into_iter().enumerate() {
        let addrs = addrs.clone();
        tasks.push(tokio::spawn(async move {
            let message = Bytes::from_static(&[0; 8]);
            let first = if both { 0 } else { n + 1 };
            for (other, addr) in addrs.iter().enumerate().skip(first) {
                if other != n {
                    socket.send(*addr, message.clone()).await?;
                }
            }
            for _ in 1..addrs.len() {
                let (from, _) = socket.recv().await?;
                let asked_us = addrs.iter().position(|addr| *addr == from) < Some(n);
                if !both && asked_us {
                    socket.send(from, message.clone()).await?;
                }
            }
            anyhow::Ok(socket)
        }));
    }
    let sockets = tokio::time::timeout(PATIENCE, try_join_all(tasks)).await??;
    let (up, cpu) = (begin.elapsed(), cpu.elapsed());
    let sockets = sockets.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let ends = || {
        sockets
            .iter()
            .map(|socket| socket.stats().connections.len())
    };
    while ends().sum::<usize>() != nodes * (nodes - 1) {
        anyhow::ensure!(begin.elapsed() < PATIENCE, "it has not settled");
        tokio::time::sleep(LOOK).await;
    }
    let settled = begin.elapsed();
    let dials = sockets.iter().map(|socket| socket.stats().dials).sum();
    Ok(Sample {
        up,
        settled,
        cpu,
        dials,
    })
}

async fn open(secret: &ClusterSecret, nodes: usize) -> anyhow::Result<Socket> {
    let config = TransportLayerConfig::default()
        .with_max_connections(nodes * 4)
        .with_max_connections_per_host(nodes * 4)
        .with_max_pending_handshakes(nodes * 4);
    let mut tcp = TcpConfig::default();
    tcp.max_unauthenticated = nodes * 4;
    tcp.max_unauthenticated_per_ip = nodes * 4;
    let credential = NetCredential::generate(Trust::secret(secret.clone()));
    let network = TcpTransport::new(tcp);
    let transport = TransportLayerTransport::with_config(network, credential, config);
    transport.open("127.0.0.1:0".parse()?).await
}
