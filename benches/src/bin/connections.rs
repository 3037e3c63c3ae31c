//! Measures one node with thousands of connections, all of which gossip.
//!
//! `connections [--connections N]`: the listening node is this process. The nodes that dial it are
//! sockets of child processes, since the number of descriptors of a process is limited. Once all are
//! connected, each sends chitchat's Syn once per second and receives it back, decoded and encoded at
//! each step. One more connection, the probe, measures round trips: while all connect, at rest, and
//! while all gossip. It pauses while the CPU time at rest and while gossiping is measured, since its
//! own end is in this process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cpu_time::ProcessTime;
use gossip_benches::process::{raise_descriptors, resident};
use gossip_benches::report::{quantile, write_json};
use gossip_benches::typed::syn;
use gossip_transport::message::{ChitchatMessage, ProtocolVersion};
use gossip_transport::tcp::{TcpConfig, TcpTransport};
use gossip_transport::transport_layer::OverflowPolicy;
use gossip_transport::{
    ClusterSecret, NetCredential, TransportLayerConfig, TransportLayerSocket,
    TransportLayerTransport, Trust,
};
use serde_json::json;

/// Dialling sockets of one child.
const PER_CHILD: usize = 2500;
/// Dials that each child runs at a time.
const AT_ONCE: usize = 32;
/// The time for which the node is observed at rest, and while all gossip.
const WINDOW: Duration = Duration::from_secs(10);
/// A step that takes longer fails.
const PATIENCE: Duration = Duration::from_secs(600);
/// Members in a Syn.
const DIGEST: u16 = 6;

type Socket = TransportLayerSocket<TcpTransport, ChitchatMessage>;

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["--child", to, secret, count] => {
            runtime.block_on(dial(to.parse()?, &secret.parse()?, count.parse()?))
        }
        ["--connections", count] => runtime.block_on(listen(count.parse()?)),
        [] => runtime.block_on(listen(10_000)),
        _ => anyhow::bail!("usage: connections [--connections N]"),
    }
}

fn transport(
    secret: &ClusterSecret,
    room: usize,
) -> TransportLayerTransport<TcpTransport, ChitchatMessage> {
    let mut config = TransportLayerConfig::default()
        .with_max_connections(room)
        .with_max_connections_per_host(room)
        .with_max_peers(room * 2)
        .with_max_pending_handshakes(1024);
    config.incoming.max_messages = room.max(config.incoming.max_messages);
    config.outgoing.overflow = OverflowPolicy::DropOldest;
    let mut tcp = TcpConfig::default();
    tcp.max_unauthenticated = 1024;
    tcp.max_unauthenticated_per_ip = 1024;
    let credential = NetCredential::generate(Trust::secret(secret.clone()));
    TransportLayerTransport::with_config(TcpTransport::new(tcp), credential, config)
}

async fn listen(count: usize) -> anyhow::Result<()> {
    let secret = ClusterSecret::generate();
    let socket: Arc<Socket> = Arc::new(
        transport(&secret, count + 100)
            .open("127.0.0.1:0".parse()?)
            .await?,
    );
    let addr = socket.local_addr();
    let echoing = Arc::clone(&socket);
    tokio::spawn(async move {
        while let Ok((from, message)) = echoing.recv().await {
            if echoing.send(from, message).await.is_err() {
                return;
            }
        }
    });
    raise_descriptors(count as u64 + 200)?;
    let rss_before = resident()?;
    let probe = Probe::connect(addr, &secret).await?;
    let probing = probe.start();
    let cpu = ProcessTime::now();
    let begin = Instant::now();
    let mut children = Vec::new();
    let mut left = count;
    while left > 0 {
        let part = left.min(PER_CHILD);
        children.push(Dialling::start(addr, &secret, part)?);
        left -= part;
    }
    // The children report when they are done; polling the socket would be work that is measured
    // with it. This thread is not one of the runtime's workers.
    for child in &mut children {
        child.wait_for("connected")?;
    }
    let took = begin.elapsed();
    let storm_cpu = cpu.elapsed();
    let storm = probing.stop().await?;
    let connected = socket.stats().connections.len();
    anyhow::ensure!(connected > count, "only {connected} connections");
    let rss_connected = resident()?;
    let rest_cpu = watch().await;
    let rest = probe.watch().await?;
    for child in &mut children {
        child.say("gossip")?;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let received = socket.stats().total.received;
    let gossip_cpu = watch().await;
    let received = socket.stats().total.received - received;
    let gossip = probe.watch().await?;
    let stats = socket.stats();
    let memory = rss_connected.saturating_sub(rss_before) as f64 / count as f64;
    println!(
        "{count} connections from {} processes to one socket, one port:\n",
        children.len()
    );
    println!("| | |\n|---|--:|");
    println!(
        "| all accepted, authenticated and answered | {:.1} s |",
        took.as_secs_f64()
    );
    println!(
        "| handshakes per second, dialling and accepting on the same cores | {:.0} |",
        count as f64 / took.as_secs_f64()
    );
    println!(
        "| the listener's CPU time per handshake, the probe's included | {:.0} us |",
        storm_cpu.as_secs_f64() * 1e6 / count as f64
    );
    println!(
        "| resident memory per connection, one end | {:.1} KiB |",
        memory / 1024.0
    );
    println!(
        "| CPU at rest (keepalives every 25 s) | {:.1} % of a core |",
        rest_cpu * 100.0
    );
    println!(
        "| CPU with {:.0} messages per second in and as many out | {:.1} % of a core |",
        received as f64 / WINDOW.as_secs_f64(),
        gossip_cpu * 100.0
    );
    for (name, trips) in [
        ("while all connect", &storm),
        ("at rest", &rest),
        ("while all gossip", &gossip),
    ] {
        println!(
            "| round trip {name}, p50 / p99 / max | {} |",
            quantiles(trips)
        );
    }
    println!(
        "| messages dropped | {} |",
        stats.total.dropped.total() + stats.total.incoming_dropped.total()
    );
    println!("| handshakes failed | {} |", stats.accept_failed);
    let results = json!({
        "connections": count, "seconds": took.as_secs_f64(), "rss_per_connection": memory,
        "cpu_at_rest": rest_cpu, "cpu_gossiping": gossip_cpu,
        "round_trips_us": { "storm": storm, "rest": rest, "gossip": gossip },
    });
    println!("\nwrote {}", write_json("connections", &results)?.display());
    Ok(())
}

/// Opens `count` sockets, each of which dials `to`. They begin to gossip when a line arrives on the
/// standard input.
async fn dial(to: SocketAddr, secret: &ClusterSecret, count: usize) -> anyhow::Result<()> {
    use futures::StreamExt as _;

    let secret = &secret;
    let sockets = futures::stream::iter(0..count).map(|_| async move {
        let socket: Socket = transport(secret, 16).open("127.0.0.1:0".parse()?).await?;
        let outgoing = socket.get_or_create_outgoing_connection(to)?;
        outgoing.connected(PATIENCE).await?;
        socket.send(to, syn(ProtocolVersion::V0, 1)).await?;
        tokio::time::timeout(PATIENCE, socket.recv()).await??;
        anyhow::Ok(socket)
    });
    let sockets: Vec<_> = sockets.buffer_unordered(AT_ONCE).collect().await;
    let sockets = sockets.into_iter().collect::<Result<Vec<_>, _>>()?;
    println!("connected");
    tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?;
    let message = syn(ProtocolVersion::V0, DIGEST);
    let gossiping = sockets.into_iter().enumerate().map(|(n, socket)| {
        let message = message.clone();
        tokio::spawn(async move {
            // Spreads the rounds over the second.
            tokio::time::sleep(Duration::from_secs(1) * n as u32 / count as u32).await;
            loop {
                socket.send(to, message.clone()).await?;
                let second = tokio::time::sleep(Duration::from_secs(1));
                let answers = async { while socket.recv().await.is_ok() {} };
                futures::future::select(Box::pin(second), Box::pin(answers)).await;
            }
            #[allow(unreachable_code, reason = "names the type of the error")]
            anyhow::Ok(())
        })
    });
    let gossiping: Vec<_> = gossiping.collect();
    // Ends when the parent kills this process.
    futures::future::join_all(gossiping).await;
    Ok(())
}

/// A child process, which is killed when this is dropped.
struct Dialling {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Dialling {
    fn start(to: SocketAddr, secret: &ClusterSecret, count: usize) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([
                "--child",
                &to.to_string(),
                &secret.to_text(),
                &count.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let words = child.stdout.take().context("no standard output")?;
        Ok(Self {
            child,
            lines: BufReader::new(words).lines(),
        })
    }

    fn wait_for(&mut self, word: &str) -> anyhow::Result<()> {
        let line = self.lines.next().context("a child has ended")??;
        anyhow::ensure!(line == word, "a child printed {line:?}");
        Ok(())
    }

    fn say(&mut self, word: &str) -> anyhow::Result<()> {
        let stdin = self.child.stdin.as_mut().context("no standard input")?;
        writeln!(stdin, "{word}")?;
        Ok(())
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One more connection to the node, for measuring round trips.
struct Probe {
    socket: Arc<Socket>,
    to: SocketAddr,
}

/// A probe that measures until it is stopped.
struct Probing {
    stop: Arc<AtomicBool>,
    trips: tokio::task::JoinHandle<anyhow::Result<Vec<f64>>>,
}

impl Probe {
    async fn connect(to: SocketAddr, secret: &ClusterSecret) -> anyhow::Result<Self> {
        let socket: Socket = transport(secret, 16).open("127.0.0.1:0".parse()?).await?;
        let outgoing = socket.get_or_create_outgoing_connection(to)?;
        outgoing.connected(PATIENCE).await?;
        let socket = Arc::new(socket);
        Ok(Self { socket, to })
    }

    /// Starts to measure a round trip every 5 ms.
    fn start(&self) -> Probing {
        let (socket, to) = (Arc::clone(&self.socket), self.to);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let trips = tokio::spawn(async move {
            let mut trips = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                socket.send(to, syn(ProtocolVersion::V0, 1)).await?;
                socket.recv().await?;
                trips.push(begin.elapsed().as_secs_f64() * 1e6);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(trips)
        });
        Probing { stop, trips }
    }

    /// Measures for [`WINDOW`].
    async fn watch(&self) -> anyhow::Result<Vec<f64>> {
        let probing = self.start();
        tokio::time::sleep(WINDOW).await;
        probing.stop().await
    }
}

impl Probing {
    /// Returns the round trips, in microseconds each.
    async fn stop(self) -> anyhow::Result<Vec<f64>> {
        self.stop.store(true, Ordering::Relaxed);
        tokio::time::timeout(PATIENCE, self.trips).await??
    }
}

/// Returns the CPU time of this process during [`WINDOW`], as a share of one core.
async fn watch() -> f64 {
    let (begin, cpu) = (Instant::now(), ProcessTime::now());
    tokio::time::sleep(WINDOW).await;
    cpu.elapsed().as_secs_f64() / begin.elapsed().as_secs_f64()
}

fn quantiles(trips: &[f64]) -> String {
    let text = |share| {
        let us = quantile(trips, share);
        if us < 1000.0 {
            format!("{us:.0} us")
        } else {
            format!("{:.1} ms", us / 1000.0)
        }
    };
    format!("{} / {} / {}", text(0.5), text(0.99), text(1.0))
}
