//! What an idle connection holds, both ends, beside the floor and the peers.
//!
//! `memory [--rounds N] [--connections N] [--only TEXT]`: the floor is always measured, `--only`
//! chooses the others by their names. Each sample is taken in a process of its own: one hub and as
//! many spokes as there are connections. What is counted is the growth from when all are bound to
//! when all are connected, a message has gone each way, and nothing has changed for a while.
//!
//! `allocated` is what Rust code has asked of the allocator. `resident` is what the system has given:
//! with what C code (aws-lc) has allocated and the allocator's waste, and without pages that were
//! never touched.

use std::collections::VecDeque;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use gossip_benches::peer::{Link as _, Node};
use gossip_benches::peers::{
    Floor, Framed, OurWebSocket, Ours, Quic, Tls, WebSocket, keep_alive_every,
};
use gossip_benches::process::{raise_descriptors, resident};
use gossip_benches::report::{Samples, write_json};
use gossip_benches::scenario;
use peak_alloc::PeakAlloc;
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Ours gives back what a burst has taken with the next keepalive: the default of 15 s, shortened.
const KEEPALIVE: Duration = Duration::from_millis(500);
/// Calm is when the memory has not changed for so long.
const CALM: Duration = Duration::from_millis(1500);
const CALM_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How much it may have changed, in bytes a connection.
const NOISE: usize = 64;

const BURST: usize = 1000;
const BURST_LEN: usize = 1 << 10;
const RECV_LIMIT: Duration = Duration::from_secs(30);

/// The argument that makes a process take one sample.
const CHILD: &str = "--take-sample";

type Sampler = fn(usize) -> anyhow::Result<Sample>;

/// Bytes for each connection.
#[derive(Debug, Serialize, Deserialize)]
struct Sample {
    idle: f64,
    after_burst: f64,
    idle_resident: f64,
    after_burst_resident: f64,
}

fn main() -> anyhow::Result<()> {
    let peers: [(&str, Sampler); 7] = [
        (Floor::NAME, sample::<Floor>),
        (Ours::NAME, sample::<Ours>),
        (OurWebSocket::NAME, sample::<OurWebSocket>),
        (Framed::NAME, sample::<Framed>),
        (Tls::NAME, sample::<Tls>),
        (WebSocket::NAME, sample::<WebSocket>),
        (Quic::NAME, sample::<Quic>),
    ];
    let options = options()?;
    if let Some(name) = &options.child {
        let (_, sample) = peers
            .iter()
            .find(|(known, _)| known == name)
            .context("a peer that nobody knows")?;
        println!("{}", serde_json::to_string(&sample(options.connections)?)?);
        return Ok(());
    }
    let mut samples = Samples::default();
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for (name, _) in peers {
            let wanted = options.only.as_ref().is_none_or(|text| name.contains(text));
            if name == Floor::NAME || wanted {
                let sample = in_child(name, options.connections)?;
                samples.add("allocated", name, sample.idle);
                samples.add("allocated after a burst", name, sample.after_burst);
                samples.add("resident", name, sample.idle_resident);
                samples.add("resident after a burst", name, sample.after_burst_resident);
            }
        }
    }
    println!(
        "Memory of a connection, both ends, ratio to the floor (less is better):\n\n{}\n",
        samples.ratios(Floor::NAME)
    );
    println!("Bytes:\n\n{}\n", samples.medians());
    println!("wrote {}", write_json("memory", &samples)?.display());
    Ok(())
}

fn in_child(name: &str, connections: usize) -> anyhow::Result<Sample> {
    let output = Command::new(std::env::current_exe()?)
        .args([CHILD, name, "--connections", &connections.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(output.status.success(), "{name}: no sample");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn sample<N: Node>(connections: usize) -> anyhow::Result<Sample> {
    // Two ends and two listeners; quinn has some of its own.
    raise_descriptors(connections as u64 * 5 + 100)?;
    keep_alive_every(KEEPALIVE);
    scenario::runtime()?.block_on(async move {
        // What is made once and stays (keys, tables, the runtime's own) is no connection's.
        let warm = Star::<N>::bind(2).await?.connect().await?;
        let mut hub = Star::<N>::bind(connections).await?;
        let base = calm(connections).await?;
        hub = hub.connect().await?;
        let idle = calm(connections).await?;
        hub.burst().await?;
        let after_burst = calm(connections).await?;
        drop(warm);
        let each = |bytes: u64, base: u64| bytes.saturating_sub(base) as f64 / connections as f64;
        Ok(Sample {
            idle: each(idle.allocated, base.allocated),
            after_burst: each(after_burst.allocated, base.allocated),
            idle_resident: each(idle.resident, base.resident),
            after_burst_resident: each(after_burst.resident, base.resident),
        })
    })
}

/// A hub that gives back what it gets, and its spokes.
struct Star<N: Node> {
    hub: tokio::task::JoinHandle<anyhow::Result<()>>,
    addr: std::net::SocketAddr,
    spokes: Vec<(N, Option<N::Link>)>,
}

impl<N: Node> Star<N> {
    async fn bind(spokes: usize) -> anyhow::Result<Self> {
        let mut hub = N::bind().await?;
        let addr = hub.addr();
        let mut bound = Vec::with_capacity(spokes);
        for _ in 0..spokes {
            bound.push((N::bind().await?, None));
        }
        let hub = tokio::spawn(async move {
            loop {
                let (from, message) = hub.recv().await?;
                hub.link_to(from).send(message).await?;
            }
        });
        Ok(Self {
            hub,
            addr,
            spokes: bound,
        })
    }

    async fn connect(mut self) -> anyhow::Result<Self> {
        for (spoke, link) in &mut self.spokes {
            let link = link.insert(spoke.connect(self.addr).await?);
            link.send(Bytes::from_static(b"hello")).await?;
            tokio::time::timeout(RECV_LIMIT, spoke.recv()).await??;
        }
        Ok(self)
    }

    async fn burst(&mut self) -> anyhow::Result<()> {
        let message = Bytes::from(vec![b'x'; BURST_LEN]);
        for (spoke, link) in &mut self.spokes {
            let link = link.as_ref().context("not connected")?;
            let sent = async {
                for _ in 0..BURST {
                    link.send(message.clone()).await?;
                }
                anyhow::Ok(())
            };
            let received = async {
                for _ in 0..BURST {
                    tokio::time::timeout(RECV_LIMIT, spoke.recv()).await??;
                }
                anyhow::Ok(())
            };
            futures::try_join!(sent, received)?;
        }
        Ok(())
    }
}

impl<N: Node> Drop for Star<N> {
    fn drop(&mut self) {
        self.hub.abort();
    }
}

#[derive(Debug, Clone, Copy)]
struct Memory {
    allocated: u64,
    resident: u64,
}

/// The memory once it has stopped changing.
async fn calm(connections: usize) -> anyhow::Result<Memory> {
    let begin = Instant::now();
    let mut recent = VecDeque::new();
    loop {
        let now = ALLOCATOR.current_usage();
        recent.push_back(now);
        if recent.len() > (CALM.as_millis() / LOOK_EVERY.as_millis()) as usize {
            recent.pop_front();
            let (most, least) = (recent.iter().max(), recent.iter().min());
            let noise = most.zip(least).map_or(0, |(most, least)| most - least);
            if noise <= NOISE * connections {
                return Ok(Memory {
                    allocated: now as u64,
                    resident: resident()?,
                });
            }
        }
        anyhow::ensure!(begin.elapsed() < CALM_LIMIT, "the memory goes on changing");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

struct Options {
    rounds: usize,
    connections: usize,
    only: Option<String>,
    child: Option<String>,
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options {
        rounds: 3,
        connections: 500,
        only: None,
        child: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next();
        match (arg.as_str(), value) {
            ("--rounds", Some(value)) => options.rounds = value.parse()?,
            ("--connections", Some(value)) => options.connections = value.parse()?,
            ("--only", value @ Some(_)) => options.only = value,
            (CHILD, value @ Some(_)) => options.child = value,
            (arg, _) => anyhow::bail!("{arg}: unknown, or without its value"),
        }
    }
    Ok(options)
}
