//! The measurements between nodes: throughput, round trips, connecting.
//!
//! All nodes live in one process, on a runtime with two workers, each pinned to a core of its own
//! where the system allows that. Each function takes one sample; the caller repeats it in rounds
//! and takes medians.
//!
//! The measured loops are the same for every peer and contain nothing but the peer's own `send` and
//! `recv`:
//!
//! - The receiving loop calls `recv`, adds up the sizes of the messages, and looks at the clock every
//!   `LOOK_EVERY` messages. The sum is compared with the expected one after the measurement.
//! - A sending loop calls `send` with a clone of one message, and reads one flag every
//!   `LOOK_EVERY` messages.
//! - There is no timer, no assertion and no lookup in either. One timeout around the whole sample
//!   notices a peer that stalls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cpu_time::ProcessTime;
use serde::Serialize;

use crate::peer::{Filled, Node, Payload, SendHalf};

/// The time for which traffic flows before it is measured.
pub(crate) const WARM_UP: Duration = Duration::from_millis(200);
/// Messages between two readings of the clock, or of the flag that ends the sending. A reading
/// takes about 40 ns: at ten million messages a second, 0.2 % of the loop.
pub(crate) const LOOK_EVERY: u64 = 256;
/// Round trips before the measured ones.
pub(crate) const WARM_UP_TRIPS: usize = 500;
/// A sample that takes longer has stalled.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// The rate of messages in one direction.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Throughput {
    /// Messages received per second.
    pub per_second: f64,
    /// CPU time of all cores per received message, in nanoseconds.
    pub cpu_ns: f64,
}

/// Builds a runtime with two pinned workers.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let next = AtomicUsize::new(0);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(move || {
            let index = next.fetch_add(1, Ordering::Relaxed);
            // Only workers are pinned. Threads for blocking work start later and run anywhere.
            if let Some(core) = cores.get(index).filter(|_| index < 2) {
                core_affinity::set_for_current(*core);
            }
        })
        .enable_all()
        .build()
}

/// Measures how fast one node receives while each of `senders` nodes sends `message` again and
/// again, for `window`.
pub async fn throughput<N: Node>(
    senders: usize,
    message: N::Message,
    window: Duration,
) -> anyhow::Result<Throughput> {
    let mut node = N::bind().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let size = message.size();
    let mut sending = Vec::new();
    for _ in 0..senders {
        let sender = N::bind_dialler().await?;
        let send_half = sender.connect(node.addr()).await?;
        let (stop, message) = (Arc::clone(&stop), message.clone());
        sending.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..LOOK_EVERY {
                    send_half.send(message.clone()).await?;
                }
            }
            drop(sender);
            anyhow::Ok(())
        }));
    }
    let receiving = tokio::spawn(async move {
        let received = receive(&mut node, window).await;
        drop(node);
        received
    });
    let received = within_limit(N::NAME, receiving).await;
    stop.store(true, Ordering::Relaxed);
    for task in sending {
        task.abort();
        // Fails if the receiver has gone first, which is the usual case.
        let _ = task.await;
    }
    let Received {
        count,
        sizes,
        elapsed,
        cpu,
    } = received?;
    ensure!(
        sizes == count * size as u64,
        "{}: {count} messages of {sizes} bytes in all, but each was sent with {size}",
        N::NAME
    );
    Ok(Throughput {
        per_second: count as f64 / elapsed.as_secs_f64(),
        cpu_ns: cpu.as_nanos() as f64 / count as f64,
    })
}

struct Received {
    count: u64,
    sizes: u64,
    elapsed: Duration,
    cpu: Duration,
}

/// The measured loop.
async fn receive<N: Node>(node: &mut N, window: Duration) -> anyhow::Result<Received> {
    let begin = Instant::now();
    while begin.elapsed() < WARM_UP {
        for _ in 0..LOOK_EVERY {
            node.recv().await?;
        }
    }
    let (mut count, mut sizes) = (0, 0);
    let (begin, cpu) = (Instant::now(), ProcessTime::now());
    // At least once, also on a machine that is so busy that the window has passed by now.
    loop {
        for _ in 0..LOOK_EVERY {
            let (_, message) = node.recv().await?;
            sizes += message.size() as u64;
        }
        count += LOOK_EVERY;
        if begin.elapsed() >= window {
            break;
        }
    }
    Ok(Received {
        count,
        sizes,
        elapsed: begin.elapsed(),
        cpu: cpu.elapsed(),
    })
}

/// Measures `count` round trips of one message at a time, in microseconds each.
///
/// The answering node looks up its way back once, with the first message, so that the loops of both
/// nodes consist of `send` and `recv`.
pub async fn ping<N>(len: usize, count: usize) -> anyhow::Result<Vec<f64>>
where
    N: Node<Message: Filled>,
{
    let mut answering = N::bind().await?;
    let mut asking = N::bind_dialler().await?;
    let send_half = asking.connect(answering.addr()).await?;
    let answers = tokio::spawn(async move {
        let (from, message) = answering.recv().await?;
        let back = answering.send_half_to(from)?;
        back.send(message).await?;
        loop {
            let (_, message) = answering.recv().await?;
            back.send(message).await?;
        }
        #[allow(unreachable_code, reason = "names the type of the error")]
        anyhow::Ok(())
    });
    let message = N::Message::filled(len);
    let asked = tokio::spawn(async move {
        for _ in 0..WARM_UP_TRIPS {
            send_half.send(message.clone()).await?;
            asking.recv().await?;
        }
        let mut trips = Vec::with_capacity(count);
        for _ in 0..count {
            let begin = Instant::now();
            send_half.send(message.clone()).await?;
            asking.recv().await?;
            trips.push(begin.elapsed());
        }
        anyhow::Ok(trips)
    });
    let trips = within_limit(N::NAME, asked).await;
    answers.abort();
    let _ = answers.await;
    Ok(trips?.iter().map(|trip| micros(*trip)).collect())
}

/// Measures how long `count` connections take, each with a first message through it, in
/// microseconds each. Nodes are bound beforehand, and connections stay open until all are measured.
pub async fn connect<N>(count: usize) -> anyhow::Result<Vec<f64>>
where
    N: Node<Message: Filled>,
{
    let mut node = N::bind().await?;
    let mut dialling = Vec::with_capacity(count);
    for _ in 0..count {
        dialling.push(N::bind_dialler().await?);
    }
    let message = N::Message::filled(1);
    let connecting = tokio::spawn(async move {
        let to = node.addr();
        let mut send_halves = Vec::with_capacity(count);
        let mut times = Vec::with_capacity(count);
        for other in dialling {
            let begin = Instant::now();
            let send_half = other.connect(to).await?;
            send_half.send(message.clone()).await?;
            node.recv().await?;
            times.push(micros(begin.elapsed()));
            send_halves.push((other, send_half));
        }
        anyhow::Ok(times)
    });
    within_limit(N::NAME, connecting).await
}

/// Waits for a task that takes a sample, and fails if it stalls.
pub(crate) async fn within_limit<T>(
    name: &str,
    task: tokio::task::JoinHandle<anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let stop = task.abort_handle();
    let sample = tokio::time::timeout(STALL_LIMIT, task).await;
    stop.abort();
    sample.with_context(|| format!("{name} stalls"))??
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
