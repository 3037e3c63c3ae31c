//! The memory of connections, both ends together.
//!
//! One node is the hub; as many nodes as there are connections dial it. A sample is the growth of
//! this process from when all nodes are bound to when all are connected, one message has gone each
//! way, and the memory has stopped changing. Each sample must be taken in a process of its own,
//! since allocators keep freed memory of earlier work.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::peer::{Filled, Node, SendHalf as _};
use crate::peers::keep_alive_every;
use crate::process::{raise_descriptors, resident};
use crate::scenario;

/// The argument that makes a program take one sample in its own process.
pub const CHILD: &str = "--take-memory-sample";
/// Connections of a sample, unless the user chooses another number.
pub const CONNECTIONS: usize = 500;

/// This crate frees the buffers of a burst with the next keepalive. The default interval of 25 s is
/// shortened, so that a sample need not wait for it.
const KEEPALIVE: Duration = Duration::from_millis(500);
/// Memory that has changed by at most [`NOISE`] for this long has stopped changing.
const CALM: Duration = Duration::from_millis(1500);
const CALM_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Bytes per connection.
const NOISE: usize = 64;

/// Messages of a burst, each way on each connection.
const BURST: usize = 1000;
const BURST_LEN: usize = 1 << 10;
const STALL_LIMIT: Duration = Duration::from_secs(300);

/// The memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes that Rust code has allocated, or 0 if the program does not count them.
    pub allocated: u64,
    /// Bytes that the system has provided. Includes the allocations of C code and the waste of the
    /// allocator, and excludes pages that were never touched.
    pub resident: u64,
}

/// The growth of the memory, in bytes per connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sample {
    /// While the connections are idle.
    pub idle: [f64; 2],
    /// While they are idle again after a burst of messages.
    pub after_burst: [f64; 2],
}

/// The index of allocated memory in the fields of a [`Sample`].
pub const ALLOCATED: usize = 0;
/// The index of resident memory in the fields of a [`Sample`].
pub const RESIDENT: usize = 1;

/// Takes a sample of peer `name` in a child process, which must run this program's `main` and call
/// [`sample`] when its first argument is [`CHILD`]. `burst` adds the second half of the sample.
pub fn in_child(name: &str, connections: usize, burst: bool) -> anyhow::Result<Sample> {
    let output = Command::new(std::env::current_exe()?)
        .args([CHILD, name, &connections.to_string(), &burst.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(output.status.success(), "{name}: no sample");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Takes a sample in this process. `allocated` returns the bytes that Rust code has allocated, or 0
/// if the program does not count them.
pub fn sample<N>(connections: usize, burst: bool, allocated: fn() -> u64) -> anyhow::Result<Sample>
where
    N: Node<Message: Filled>,
{
    // Two ends and two listeners; quinn has some of its own.
    raise_descriptors(connections as u64 * 5 + 100)?;
    keep_alive_every(KEEPALIVE);
    let sample = async move {
        // Memory that is taken once and stays (keys, tables, the runtime's own) belongs to no
        // connection.
        let warm = Star::<N>::bind(2).await?.connect().await?;
        let star = Star::<N>::bind(connections).await?;
        let base = calm(connections, allocated).await?;
        let mut star = star.connect().await?;
        let idle = calm(connections, allocated).await?;
        let mut after_burst = Memory::default();
        if burst {
            star.burst().await?;
            after_burst = calm(connections, allocated).await?;
        }
        drop(warm);
        let growth = |bytes: u64, base: u64| bytes.saturating_sub(base) as f64 / connections as f64;
        let growth = |now: Memory| {
            [
                growth(now.allocated, base.allocated),
                growth(now.resident, base.resident),
            ]
        };
        anyhow::Ok(Sample {
            idle: growth(idle),
            after_burst: growth(after_burst),
        })
    };
    scenario::runtime()?.block_on(async {
        tokio::time::timeout(STALL_LIMIT, sample)
            .await
            .with_context(|| format!("{} stalls", N::NAME))?
    })
}

/// A hub that sends back what it receives, and the nodes that dial it.
struct Star<N: Node> {
    hub: tokio::task::JoinHandle<anyhow::Result<()>>,
    addr: SocketAddr,
    spokes: Vec<(N, Option<N::SendHalf>)>,
}

impl<N: Node<Message: Filled>> Star<N> {
    async fn bind(spokes: usize) -> anyhow::Result<Self> {
        let mut hub = N::bind().await?;
        let addr = hub.addr();
        let mut bound = Vec::with_capacity(spokes);
        for _ in 0..spokes {
            bound.push((N::bind_dialler().await?, None));
        }
        let hub = tokio::spawn(async move {
            loop {
                let (from, message) = hub.recv().await?;
                hub.send_half_to(from)?.send(message).await?;
            }
        });
        Ok(Self {
            hub,
            addr,
            spokes: bound,
        })
    }

    async fn connect(mut self) -> anyhow::Result<Self> {
        let message = N::Message::filled(5);
        for (spoke, send_half) in &mut self.spokes {
            let send_half = send_half.insert(spoke.connect(self.addr).await?);
            send_half.send(message.clone()).await?;
            spoke.recv().await?;
        }
        Ok(self)
    }

    /// Exchanges [`BURST`] messages on each connection in turn.
    async fn burst(&mut self) -> anyhow::Result<()> {
        let message = N::Message::filled(BURST_LEN);
        for (spoke, send_half) in &mut self.spokes {
            let send_half = send_half.as_ref().context("not connected")?;
            let sent = async {
                for _ in 0..BURST {
                    send_half.send(message.clone()).await?;
                }
                anyhow::Ok(())
            };
            let received = async {
                for _ in 0..BURST {
                    spoke.recv().await?;
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

/// Waits until the memory has stopped changing, and returns it.
async fn calm(connections: usize, allocated: fn() -> u64) -> anyhow::Result<Memory> {
    let begin = Instant::now();
    let mut recent = VecDeque::new();
    loop {
        let now = Memory {
            allocated: allocated(),
            resident: resident()?,
        };
        recent.push_back(now);
        if recent.len() > (CALM.as_millis() / LOOK_EVERY.as_millis()) as usize {
            recent.pop_front();
            if is_calm(&recent, connections) {
                return Ok(now);
            }
        }
        anyhow::ensure!(begin.elapsed() < CALM_LIMIT, "the memory goes on changing");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn is_calm(recent: &VecDeque<Memory>, connections: usize) -> bool {
    let fields: [fn(&Memory) -> u64; 2] = [|memory| memory.allocated, |memory| memory.resident];
    fields.into_iter().all(|field| {
        let values = || recent.iter().map(field);
        let noise = values().max().zip(values().min());
        noise.is_some_and(|(most, least)| most - least <= (NOISE * connections) as u64)
    })
}
