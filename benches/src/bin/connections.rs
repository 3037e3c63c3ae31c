//! One node with as many connections as it is asked for, all of them gossiping.
//!
//! `connections [--connections N] [--dialling N]`: the listening node is this process; those who
//! dial are sockets of child processes, since descriptors are bounded a process. Once it is
//! connected, each sends chitchat's Syn once a second and gets it back, decoded and encoded at each
//! step. One more connection measures round trips all the while.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cpu_time::ProcessTime;
use gossip_benches::process::{raise_descriptors, resident};
use gossip_benches::report::{median, write_json};
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
/// Dials at a time, of each child.
const AT_ONCE: usize = 32;
/// How long rest and gossip are looked at.
const WINDOW: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(600);
/// Members that a Syn speaks of.
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
    let mut config = TransportLayerConfig::default();
    config.max_connections = room;
    config.max_peers = room * 2;
    config.max_pending_handshakes = 1024;
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
    let probe = Probe::start(addr, &secret).await?;
    let cpu = ProcessTime::now();
    let begin = Instant::now();
    let mut children = Vec::new();
    let mut left = count;
    while left > 0 {
        let part = left.min(PER_CHILD);
        children.push(Dialling::start(addr, &secret, part)?);
        left -= part;
    }
    while socket.stats().connections.len() < count {
        anyhow::ensure!(
            begin.elapsed() < PATIENCE,
            "only {} connections",
            socket.stats().connections.len()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = begin.elapsed();
    let storm_cpu = cpu.elapsed();
    let storm = probe.trips();
    for child in &mut children {
        child.wait_for("connected")?;
    }
    let rss_connected = resident()?;
    let rest_cpu = watch().await;
    let rest = probe.trips();
    for child in &mut children {
        child.say("gossip")?;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let received = socket.stats().total.received;
    probe.trips();
    let gossip_cpu = watch().await;
    let received = socket.stats().total.received - received;
    let gossip = probe.trips();
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
        "| handshakes a second, dialling and accepting on the same cores | {:.0} |",
        count as f64 / took.as_secs_f64()
    );
    println!(
        "| the listener's CPU time a handshake | {:.0} us |",
        storm_cpu.as_secs_f64() * 1e6 / count as f64
    );
    println!(
        "| resident memory a connection, one end | {:.1} KiB |",
        memory / 1024.0
    );
    println!(
        "| CPU at rest (keepalives every 15 s) | {:.1} % of a core |",
        rest_cpu * 100.0
    );
    println!(
        "| CPU with {:.0} messages a second in, as many out | {:.1} % of a core |",
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
    println!("| dials or handshakes failed | {} |", stats.accept_failed);
    let results = json!({
        "connections": count, "seconds": took.as_secs_f64(), "rss_per_connection": memory,
        "cpu_at_rest": rest_cpu, "cpu_gossiping": gossip_cpu,
        "round_trips_us": { "storm": storm, "rest": rest, "gossip": gossip },
    });
    println!("\nwrote {}", write_json("connections", &results)?.display());
    Ok(())
}

/// Sockets that dial `to`, each once; they speak once they are told to.
async fn dial(to: SocketAddr, secret: &ClusterSecret, count: usize) -> anyhow::Result<()> {
    use futures::StreamExt as _;

    let secret = &secret;
    let sockets = futures::stream::iter(0..count).map(|_| async move {
        let socket: Socket = transport(secret, 16).open("127.0.0.1:0".parse()?).await?;
        let outgoing = socket.get_or_create_outgoing_connection(to)?;
        outgoing.connected(PATIENCE).await?;
        socket.send(to, syn(ProtocolVersion::V0, 1)).await?;
        socket.recv().await?;
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
            // Not all at the same moment.
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
    // Until the parent ends us.
    futures::future::join_all(gossiping).await;
    Ok(())
}

/// A child process. Dropping it ends it.
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
        let words = child.stdout.take().context("a child without words")?;
        Ok(Self {
            child,
            lines: BufReader::new(words).lines(),
        })
    }

    fn wait_for(&mut self, word: &str) -> anyhow::Result<()> {
        let line = self.lines.next().context("a child has ended")??;
        anyhow::ensure!(line == word, "a child says {line}");
        Ok(())
    }

    fn say(&mut self, word: &str) -> anyhow::Result<()> {
        let stdin = self.child.stdin.as_mut().context("a child without ears")?;
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

/// One more connection, which asks and waits all the time.
struct Probe {
    trips: Arc<std::sync::Mutex<Vec<f64>>>,
    stop: Arc<AtomicBool>,
}

impl Probe {
    async fn start(to: SocketAddr, secret: &ClusterSecret) -> anyhow::Result<Self> {
        let socket: Socket = transport(secret, 16).open("127.0.0.1:0".parse()?).await?;
        let probe = Self {
            trips: Arc::default(),
            stop: Arc::default(),
        };
        let (trips, stop) = (Arc::clone(&probe.trips), Arc::clone(&probe.stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let begin = Instant::now();
                socket.send(to, syn(ProtocolVersion::V0, 1)).await?;
                socket.recv().await?;
                let trip = begin.elapsed().as_secs_f64() * 1e6;
                trips
                    .lock()
                    .map_err(|_| anyhow::anyhow!("poisoned"))?
                    .push(trip);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            anyhow::Ok(())
        });
        Ok(probe)
    }

    /// The round trips since the last time, in microseconds.
    fn trips(&self) -> Vec<f64> {
        self.trips
            .lock()
            .map(|mut trips| std::mem::take(&mut *trips))
            .unwrap_or_default()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Our share of a core over a while.
async fn watch() -> f64 {
    let (begin, cpu) = (Instant::now(), ProcessTime::now());
    tokio::time::sleep(WINDOW).await;
    cpu.elapsed().as_secs_f64() / begin.elapsed().as_secs_f64()
}

fn quantiles(trips: &[f64]) -> String {
    let mut sorted = trips.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.last().copied().unwrap_or(f64::NAN);
    let p99 = sorted.get(sorted.len() * 99 / 100).copied().unwrap_or(last);
    let text = |us: f64| {
        if us < 1000.0 {
            format!("{us:.0} us")
        } else {
            format!("{:.1} ms", us / 1000.0)
        }
    };
    format!("{} / {} / {}", text(median(sorted)), text(p99), text(last))
}
