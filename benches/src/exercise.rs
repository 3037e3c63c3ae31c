//! The native end of the browser's exercises, over any carrier of messages.
//!
//! The page speaks first: `up`, then messages, then `end`, and is told how many came a second;
//! `down LEN MILLIS`, and is sent messages and an `end`; `echo`, and gets back what it sends, until
//! `end`.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;

/// Messages between two looks at the clock.
const LOOK_EVERY: usize = 16;

/// The carrier.
pub trait Talk: Send {
    /// The next message; `None` once the page has gone.
    fn recv(&mut self) -> impl Future<Output = anyhow::Result<Option<Bytes>>> + Send;
    /// Hands a message over; it may wait for others.
    fn send(&mut self, message: Bytes) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Sees to it that what was handed over goes out.
    fn flush(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Does what the page asks for until it goes.
pub async fn serve(mut page: impl Talk) -> anyhow::Result<()> {
    while let Some(order) = page.recv().await? {
        let order = std::str::from_utf8(&order).context("an order")?;
        let mut words = order.split(' ');
        let number = |words: &mut std::str::Split<'_, char>| -> anyhow::Result<u64> {
            Ok(words
                .next()
                .context("an order without its numbers")?
                .parse()?)
        };
        match words.next() {
            Some("up") => take(&mut page).await?,
            Some("down") => {
                let len = number(&mut words)?.try_into()?;
                let limit = Duration::from_millis(number(&mut words)?);
                give(&mut page, len, limit).await?;
            }
            Some("echo") => echo(&mut page).await?,
            _ => anyhow::bail!("an order that nobody knows: {order:?}"),
        }
    }
    Ok(())
}

async fn take(page: &mut impl Talk) -> anyhow::Result<()> {
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

async fn give(page: &mut impl Talk, len: usize, limit: Duration) -> anyhow::Result<()> {
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
