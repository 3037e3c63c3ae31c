//! The native end of the browser's exercises, over any carrier of messages.
//!
//! The page sends an order first. After `up` it sends messages and then `end`, and receives the
//! number of messages per second that arrived. After `down LEN MILLIS` it receives messages of that
//! length for that long, and then `end`. After `echo` it receives what it sends, until `end`.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;

/// Messages between two readings of the clock; as many as in `page/`.
const LOOK_EVERY: usize = 64;

/// A connection with the page.
pub trait Talk: Send {
    /// Returns the next message, or `None` once the page has closed the connection.
    fn recv(&mut self) -> impl Future<Output = anyhow::Result<Option<Bytes>>> + Send;
    /// Queues a message, which may wait for others.
    fn send(&mut self, message: Bytes) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Writes what is queued.
    fn flush(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Carries out the orders of the page until it closes the connection.
pub async fn serve(mut page: impl Talk) -> anyhow::Result<()> {
    while let Some(order) = page.recv().await? {
        let order = std::str::from_utf8(&order).context("an order that is no text")?;
        let mut words = order.split(' ');
        let number = |words: &mut std::str::Split<'_, char>| -> anyhow::Result<u64> {
            Ok(words
                .next()
                .context("an order without its numbers")?
                .parse()?)
        };
        match words.next() {
            Some("up") => receive(&mut page).await?,
            Some("down") => {
                let len = number(&mut words)?.try_into()?;
                let limit = Duration::from_millis(number(&mut words)?);
                send(&mut page, len, limit).await?;
            }
            Some("echo") => echo(&mut page).await?,
            _ => anyhow::bail!("unknown order {order:?}"),
        }
    }
    Ok(())
}

async fn receive(page: &mut impl Talk) -> anyhow::Result<()> {
    let mut count = 0_u64;
    let mut begin = None;
    while let Some(message) = page.recv().await? {
        let begin = *begin.get_or_insert_with(Instant::now);
        if message == "end" {
            let rate = count as f64 / begin.elapsed().as_secs_f64();
            page.send(rate.to_string().into()).await?;
            return page.flush().await;
        }
        count += 1;
    }
    Ok(())
}

async fn send(page: &mut impl Talk, len: usize, limit: Duration) -> anyhow::Result<()> {
    let message = Bytes::from(vec![b'x'; len]);
    let begin = Instant::now();
    while begin.elapsed() < limit {
        for _ in 0..LOOK_EVERY {
            page.send(message.clone()).await?;
        }
    }
    page.send("end".into()).await?;
    page.flush().await
}

async fn echo(page: &mut impl Talk) -> anyhow::Result<()> {
    while let Some(message) = page.recv().await? {
        if message == "end" {
            break;
        }
        page.send(message).await?;
        page.flush().await?;
    }
    Ok(())
}
