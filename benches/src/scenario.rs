//! What is done with two nodes, and what it costs.
//!
//! All nodes live in one process, on a runtime with two workers, each pinned to a core of its own
//! where the system allows that. Every function gives one sample; rounds and medians are made by
//! the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cpu_time::ProcessTime;
use serde::Serialize;
use tokio::time::timeout;

use crate::peer::{Link, Node};

/// How long traffic flows before it is measured.
const WARM_UP: Duration = Duration::from_millis(150);
/// Messages between two looks at the clock.
const LOOK_EVERY: u64 = 64;
/// A datagram that has not come back by then is lost.
const LOST_AFTER: Duration = Duration::from_millis(200);

/// One way, as many as go through.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Throughput {
    /// Messages received a second.
    pub per_second: f64,
    /// Time of all cores for each message received, in nanoseconds.
    pub cpu_ns: f64,
}

/// A runtime with two pinned workers.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let next = AtomicUsize::new(0);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(move || {
            let index = next.fetch_add(1, Ordering::Relaxed);
            // Only the workers: later threads (for blocking work) run where there is room.
            if let Some(core) = cores.get(index).filter(|_| index < 2) {
                core_affinity::set_for_current(*core);
            }
        })
        .enable_all()
        .build()
}

/// `senders` nodes send messages of `len` bytes to one, for `window`.
pub async fn throughput<N: Node>(
    senders: usize,
    len: usize,
    window: Duration,
) -> anyhow::Result<Throughput> {
    let mut node = N::bind().await?;
    let stop = Arc::new(AtomicBool::new(false));
    // Leaked once a sample: so that a copy of the message costs nobody anything.
    let message = Bytes::from_static(vec![b'x'; len].leak());
    let mut tasks = Vec::new();
    for _ in 0..senders {
        let sender = N::bind().await?;
        let link = sender.connect(node.addr()).await?;
        let (stop, message) = (Arc::clone(&stop), message.clone());
        tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..LOOK_EVERY {
                    link.send(message.clone()).await?;
                }
                if !N::RELIABLE {
                    tokio::task::yield_now().await;
                }
            }
            drop(sender);
            anyhow::Ok(())
        }));
    }
    let receiving = tokio::spawn(async move {
        let begin = Instant::now();
        let mut measured: Option<(Instant, ProcessTime)> = None;
        let mut count = 0;
        loop {
            for _ in 0..LOOK_EVERY {
                let received = timeout(LOST_AFTER, node.recv()).await;
                if let Ok(received) = received {
                    assert_eq!(
                        received?.1.len(),
                        len.min(65_400).max(len * usize::from(N::RELIABLE))
                    );
                    count += 1;
                } else if N::RELIABLE {
                    anyhow::bail!("{} stalls", N::NAME);
                }
            }
            match measured {
                None if begin.elapsed() >= WARM_UP => {
                    measured = Some((Instant::now(), ProcessTime::now()));
                    count = 0;
                }
                Some((since, cpu)) if since.elapsed() >= window => {
                    let (elapsed, cpu) = (since.elapsed(), cpu.elapsed());
                    drop(node);
                    return Ok(Throughput {
                        per_second: count as f64 / elapsed.as_secs_f64(),
                        cpu_ns: cpu.as_nanos() as f64 / f64::max(count as f64, 1.0),
                    });
                }
                _ => {}
            }
        }
    });
    let measured = receiving.await?;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.abort();
        let _ = task.await;
    }
    measured
}

/// The median round trip of one message at a time, in microseconds.
pub async fn ping<N: Node>(len: usize, count: usize) -> anyhow::Result<f64> {
    let mut answering = N::bind().await?;
    let mut asking = N::bind().await?;
    let link = asking.connect(answering.addr()).await?;
    let answers = tokio::spawn(async move {
        while let Ok((from, message)) = answering.recv().await {
            if answering.link_to(from).send(message).await.is_err() {
                break;
            }
        }
    });
    let message = Bytes::from(vec![b'x'; len]);
    let trips = tokio::spawn(async move {
        let mut trips = Vec::with_capacity(count);
        for _ in 0..count {
            let begin = Instant::now();
            link.send(message.clone()).await?;
            if timeout(LOST_AFTER, asking.recv()).await.is_ok() {
                trips.push(begin.elapsed().as_secs_f64() * 1e6);
            }
        }
        anyhow::Ok(trips)
    });
    let trips = trips.await??;
    answers.abort();
    let _ = answers.await;
    Ok(crate::report::median(trips))
}

/// What one connection costs, with a first message through it, in microseconds.
pub async fn connect<N: Node>(count: usize) -> anyhow::Result<f64> {
    let mut node = N::bind().await?;
    let mut dialling = Vec::with_capacity(count);
    for _ in 0..count {
        dialling.push(N::bind().await?);
    }
    let task = tokio::spawn(async move {
        let begin = Instant::now();
        let mut links = Vec::with_capacity(count);
        for other in dialling {
            let link = other.connect(node.addr()).await?;
            link.send(Bytes::from_static(b"x")).await?;
            node.recv().await?;
            links.push((other, link));
        }
        anyhow::Ok(begin.elapsed().as_secs_f64() * 1e6 / count as f64)
    });
    task.await?
}
