//! The floor a second time, by hand: bare sockets, without the traits of [`crate::peer`], without an
//! inbox, and with a clock of its own.
//!
//! It exists to check the floor. It sends the same frames (a length in 4 bytes before each message)
//! over the same kind of sockets on the same runtime and hands out each message as `Bytes`, but
//! shares no code with it. One task writes and one task reads for each connection, with nothing in
//! between, and the clock is outside: the main thread sleeps, and reads how many messages have
//! arrived. The ratio of the two rows is what queues and traits cost the floor.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
const READ: usize = 256 << 10;
/// Messages shorter than this, in bytes, are copied together.
const COPY: usize = 4 << 10;

/// See [`crate::scenario::throughput`].
pub fn throughput(
    runtime: &Runtime,
    senders: usize,
    len: usize,
    window: Duration,
) -> anyhow::Result<Throughput> {
    let received = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for _ in 0..senders {
        let (writing, reading) = runtime.block_on(pair())?;
        let stop = Arc::clone(&stop);
        tasks.push(runtime.spawn(async move {
            if len < COPY {
                write_copied(writing, len, &stop).await
            } else {
                write_sliced(writing, len, &stop).await
            }
        }));
        tasks.push(runtime.spawn(read(reading, Arc::clone(&received))));
    }
    std::thread::sleep(WARM_UP);
    let (begin, cpu) = (Instant::now(), ProcessTime::now());
    let before = received.load(Ordering::Relaxed);
    std::thread::sleep(window);
    let count = received.load(Ordering::Relaxed) - before;
    let (elapsed, cpu) = (begin.elapsed(), cpu.elapsed());
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        for task in tasks {
            within_limit(NAME, task).await?;
        }
        anyhow::Ok(())
    })?;
    Ok(Throughput {
        per_second: count as f64 / elapsed.as_secs_f64(),
        cpu_ns: cpu.as_nanos() as f64 / count as f64,
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

/// Reads until the end; adds to `received` once for each read.
async fn read(mut stream: TcpStream, received: Arc<AtomicU64>) -> anyhow::Result<()> {
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

/// See [`crate::scenario::ping`].
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

/// See [`crate::scenario::connect`].
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
