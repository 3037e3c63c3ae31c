//! The floor a second time, by hand: bare sockets, without the traits of [`crate::peer`], without an
//! inbox, and with a clock of its own.
//!
//! It exists to check the floor. It sends the same frames (a length in 4 bytes before each message)
//! over the same kind of sockets and hands out each message as `Bytes`, but shares no code with it.
//! One task writes and one task reads for each connection, with nothing in between. The clock is
//! outside: the main thread sleeps, and reads how many messages have arrived. The ratio of the two
//! rows shows how much queues and traits cost the floor.
//!
//! Throughput is measured between two single-threaded runtimes, each on a core of its own, one that
//! writes and one that reads. On the scenarios' runtime, both tasks of a connection would run on one
//! core as often as on two, and nothing crosses between the caches of two cores then, which doubles
//! the rate of large messages; a node with a queue and an inbox always uses both.

use std::future::Future;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use cpu_time::ProcessTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::scenario::{Throughput, WARM_UP, WARM_UP_TRIPS, micros, within_limit};

/// Name in tables.
pub const NAME: &str = "floor, by hand";

/// Bytes of one write.
const WRITE: usize = 256 << 10;
/// Bytes of one read.
const READ: usize = 128 << 10;
/// Messages shorter than this, in bytes, are copied together.
const COPY: usize = 4 << 10;

/// Measures the same as [`crate::scenario::throughput`].
pub fn throughput(senders: usize, len: usize, window: Duration) -> anyhow::Result<Throughput> {
    let received = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    for _ in 0..senders {
        let dialled = std::net::TcpStream::connect(listener.local_addr()?)?;
        let (accepted, _) = listener.accept()?;
        for stream in [&dialled, &accepted] {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
        }
        let stop = Arc::clone(&stop);
        writers.push(async move {
            let stream = TcpStream::from_std(dialled)?;
            if len < COPY {
                write_copied(stream, len, &stop).await
            } else {
                write_sliced(stream, len, &stop).await
            }
        });
        let received = Arc::clone(&received);
        readers.push(async move { read(TcpStream::from_std(accepted)?, &received).await });
    }
    let threads = [run_on(0, writers), run_on(1, readers)];
    std::thread::sleep(WARM_UP);
    let (begin, cpu) = (Instant::now(), ProcessTime::now());
    let before = received.load(Ordering::Relaxed);
    std::thread::sleep(window);
    let count = received.load(Ordering::Relaxed) - before;
    let (elapsed, cpu) = (begin.elapsed(), cpu.elapsed());
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("{NAME} panics"))??;
    }
    Ok(Throughput {
        per_second: count as f64 / elapsed.as_secs_f64(),
        cpu_ns: cpu.as_nanos() as f64 / count as f64,
    })
}

/// Runs `tasks` to their end on a single-threaded runtime on a core of its own.
fn run_on<F>(core: usize, tasks: Vec<F>) -> JoinHandle<anyhow::Result<()>>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    std::thread::spawn(move || {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        if let Some(core) = cores.get(core) {
            core_affinity::set_for_current(*core);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
            for task in tasks {
                task.await??;
            }
            Ok(())
        })
    })
}

async fn write_copied(mut stream: TcpStream, len: usize, stop: &AtomicBool) -> anyhow::Result<()> {
    let message = vec![b'x'; len];
    let header = u32::try_from(len)?.to_be_bytes();
    let mut out = Vec::with_capacity(WRITE + len);
    while !stop.load(Ordering::Relaxed) {
        out.clear();
        while out.len() < WRITE {
            out.extend_from_slice(&header);
            out.extend_from_slice(&message);
        }
        stream.write_all(&out).await?;
    }
    Ok(())
}

async fn write_sliced(mut stream: TcpStream, len: usize, stop: &AtomicBool) -> anyhow::Result<()> {
    let message = vec![b'x'; len];
    let header = u32::try_from(len)?.to_be_bytes();
    let frame = [IoSlice::new(&header), IoSlice::new(&message)];
    while !stop.load(Ordering::Relaxed) {
        let mut slices = frame.repeat(WRITE.div_ceil(len));
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let written = stream.write_vectored(rest).await?;
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    Ok(())
}

/// Reads until the end of the stream, and adds to `received` once for each read.
async fn read(mut stream: TcpStream, received: &AtomicU64) -> anyhow::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let mut count = 0;
        while let Some(message) = take_message(&mut buffer) {
            drop(message);
            count += 1;
        }
        received.fetch_add(count, Ordering::Relaxed);
    }
}

fn take_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let header: [u8; 4] = buffer.get(..4)?.try_into().ok()?;
    let end = 4 + u32::from_be_bytes(header) as usize;
    if buffer.len() < end {
        return None;
    }
    let mut frame = buffer.split_to(end);
    frame.advance(4);
    Some(frame.freeze())
}

/// Measures the same as [`crate::scenario::ping`].
pub fn ping(runtime: &Runtime, len: usize, count: usize) -> anyhow::Result<Vec<f64>> {
    let (mut asking, mut answering) = runtime.block_on(pair())?;
    let frame = frame(len)?;
    let mut answer = frame.clone();
    let answers = runtime.spawn(async move {
        loop {
            answering.read_exact(&mut answer).await?;
            answering.write_all(&answer).await?;
        }
        #[allow(unreachable_code, reason = "names the type of the error")]
        anyhow::Ok(())
    });
    let asked = runtime.spawn(async move {
        let mut buffer = frame.clone();
        let mut trips = Vec::with_capacity(count);
        for n in 0..WARM_UP_TRIPS + count {
            let begin = Instant::now();
            asking.write_all(&frame).await?;
            asking.read_exact(&mut buffer).await?;
            if n >= WARM_UP_TRIPS {
                trips.push(begin.elapsed());
            }
        }
        anyhow::Ok(trips)
    });
    let trips = runtime.block_on(within_limit(NAME, asked))?;
    answers.abort();
    Ok(trips.into_iter().map(micros).collect())
}

/// Measures the same as [`crate::scenario::connect`].
pub fn connect(runtime: &Runtime, count: usize) -> anyhow::Result<Vec<f64>> {
    let connecting = runtime.spawn(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let frame = frame(1)?;
        let mut first = frame.clone();
        let (mut open, mut times) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for _ in 0..count {
            let begin = Instant::now();
            let mut dialled = TcpStream::connect(addr).await?;
            dialled.set_nodelay(true)?;
            dialled.write_all(&frame).await?;
            let (mut accepted, _) = listener.accept().await?;
            accepted.set_nodelay(true)?;
            accepted.read_exact(&mut first).await?;
            times.push(micros(begin.elapsed()));
            open.push((dialled, accepted));
        }
        anyhow::Ok(times)
    });
    runtime.block_on(within_limit(NAME, connecting))
}

fn frame(len: usize) -> anyhow::Result<Vec<u8>> {
    let mut frame = u32::try_from(len)?.to_be_bytes().to_vec();
    frame.resize(4 + len, b'x');
    Ok(frame)
}

/// Returns the dialling and the accepting end of a connection.
async fn pair() -> anyhow::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let dialled = TcpStream::connect(listener.local_addr()?).await?;
    let (accepted, _) = listener.accept().await?;
    dialled.set_nodelay(true)?;
    accepted.set_nodelay(true)?;
    Ok((dialled, accepted))
}
