//! How many handshakes two nodes complete in a second, one at a time or several.
//!
//! A handshake is measured from the dial until the accepting node has received the first message through
//! the new connection, so that it includes everything that a connection needs before it is of use. The
//! measured loop dials, sends one message and receives it; a semaphore holds back the next dial while
//! `at_once` connections are not that far. All nodes are bound beforehand, and connections stay open
//! until all are measured. Afterwards each connection carries an answer back, which shows that as many
//! connections were measured as were counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use cpu_time::ProcessTime;
use futures::future::try_join;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::peer::{Filled, Node, Payload, SendHalf};
use crate::process::raise_descriptors;
use crate::scenario::{micros, within_limit};

/// Bytes of the first message and of its answer.
const MESSAGE_LEN: usize = 64;
/// Handshakes before the measured ones: authorities and tables are loaded by the first.
const WARM_UP: usize = 16;
/// Descriptors that a connection takes: both ends, and the dialling node's listener.
const DESCRIPTORS: usize = 3;
/// Descriptors that a runtime and a listener take.
const OTHER_DESCRIPTORS: usize = 100;

/// The number of handshakes in a second, and what one of them costs.
#[derive(Debug, Clone, Copy)]
pub struct Handshakes {
    /// Handshakes per second.
    pub per_second: f64,
    /// CPU time of both ends per handshake, in microseconds.
    pub cpu_us: f64,
}

/// Measures `count` handshakes, of which `at_once` run at a time.
///
/// # Errors
///
/// Fails if a dial fails, a message does not arrive, or one has the wrong size.
pub async fn handshakes<N>(count: usize, at_once: usize) -> anyhow::Result<Handshakes>
where
    N: Node<Message: Filled>,
{
    let descriptors = (count + WARM_UP) * DESCRIPTORS + OTHER_DESCRIPTORS;
    raise_descriptors(descriptors as u64)?;
    let node = N::bind().await?;
    let warm_up = bind_diallers(WARM_UP).await?;
    let diallers = bind_diallers(count).await?;
    let warm_up = run::<N>(node, warm_up, at_once).await?;
    let begin = (Instant::now(), ProcessTime::now());
    let measured = run::<N>(warm_up.node, diallers, at_once).await?;
    let (elapsed, cpu) = (
        measured.end.0 - begin.0,
        measured.end.1.duration_since(begin.1),
    );
    let result = Handshakes {
        per_second: count as f64 / elapsed.as_secs_f64(),
        cpu_us: micros(cpu) / count as f64,
    };
    within_limit(N::NAME, tokio::spawn(measured.answer())).await?;
    Ok(result)
}

async fn bind_diallers<N: Node>(count: usize) -> anyhow::Result<Vec<N>> {
    let mut diallers = Vec::with_capacity(count);
    for _ in 0..count {
        diallers.push(N::bind_dialler().await?);
    }
    Ok(diallers)
}

async fn dial<N: Node>(
    dialler: N,
    to: SocketAddr,
    message: N::Message,
) -> anyhow::Result<(N, N::SendHalf)> {
    let send_half = dialler.connect(to).await?;
    send_half.send(message).await?;
    Ok((dialler, send_half))
}

/// What is left of a run of handshakes.
struct Ran<N: Node> {
    /// The accepting node.
    node: N,
    connections: Vec<(N, N::SendHalf)>,
    /// The senders of the first messages.
    froms: Vec<N::From>,
    /// When the last message was received.
    end: (Instant, ProcessTime),
}

/// The measured loop, on both sides.
async fn run<N>(mut node: N, diallers: Vec<N>, at_once: usize) -> anyhow::Result<Ran<N>>
where
    N: Node<Message: Filled>,
{
    let count = diallers.len();
    let to = node.addr();
    let message = N::Message::filled(MESSAGE_LEN);
    let size = message.size();
    let room = Arc::new(Semaphore::new(at_once));
    let waiting = Arc::clone(&room);
    let dialling = tokio::spawn(async move {
        let mut dials = JoinSet::new();
        for dialler in diallers {
            let Ok(place) = waiting.acquire().await else {
                break;
            };
            place.forget();
            let (waiting, message) = (Arc::clone(&waiting), message.clone());
            dials.spawn(async move {
                let dialled = dial(dialler, to, message).await;
                if dialled.is_err() {
                    // Nobody receives its message, which the next dials would wait for.
                    waiting.close();
                }
                dialled
            });
        }
        let mut connections = Vec::with_capacity(count);
        while let Some(dialled) = dials.join_next().await {
            connections.push(dialled??);
        }
        anyhow::Ok(connections)
    });
    let receiving = tokio::spawn(async move {
        let mut froms = Vec::with_capacity(count);
        let mut sizes = 0;
        for _ in 0..count {
            let (from, message) = node.recv().await?;
            room.add_permits(1);
            sizes += message.size();
            froms.push(from);
        }
        let end = (Instant::now(), ProcessTime::now());
        ensure!(
            sizes == count * size,
            "{}: {count} messages of {sizes} bytes in all, but each was sent with {size}",
            N::NAME
        );
        Ok((node, froms, end))
    });
    let (connections, (node, froms, end)) = try_join(
        within_limit(N::NAME, dialling),
        within_limit(N::NAME, receiving),
    )
    .await?;
    Ok(Ran {
        node,
        connections,
        froms,
        end,
    })
}

impl<N: Node<Message: Filled>> Ran<N> {
    /// Sends an answer to each sender, and receives it at each node that has dialled.
    async fn answer(self) -> anyhow::Result<()> {
        let message = N::Message::filled(MESSAGE_LEN);
        for from in self.froms {
            self.node.send_half_to(from)?.send(message.clone()).await?;
        }
        for (mut dialler, _) in self.connections {
            let (_, answer) = dialler.recv().await?;
            ensure!(
                answer.size() == message.size(),
                "{}: a short answer",
                N::NAME
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::*;
    use crate::peers::Floor;

    /// Messages on their way to the listening node.
    static LISTENING: Mutex<Option<mpsc::UnboundedSender<Bytes>>> = Mutex::new(None);
    /// Dials so far.
    static DIALS: AtomicUsize = AtomicUsize::new(0);

    /// A node whose dials fail from the third on.
    struct Failing(mpsc::UnboundedReceiver<Bytes>);

    struct Sending(mpsc::UnboundedSender<Bytes>);

    impl SendHalf<Bytes> for Sending {
        async fn send(&self, message: Bytes) -> anyhow::Result<()> {
            Ok(self.0.send(message)?)
        }
    }

    impl Node for Failing {
        const NAME: &'static str = "failing";
        type Message = Bytes;
        type SendHalf = Sending;
        type From = ();

        async fn bind() -> anyhow::Result<Self> {
            let (sender, receiver) = mpsc::unbounded_channel();
            *LISTENING.lock().expect("no panic") = Some(sender);
            Ok(Self(receiver))
        }

        async fn bind_dialler() -> anyhow::Result<Self> {
            Ok(Self(mpsc::unbounded_channel().1))
        }

        fn addr(&self) -> SocketAddr {
            ([127, 0, 0, 1], 1).into()
        }

        async fn connect(&self, _to: SocketAddr) -> anyhow::Result<Sending> {
            ensure!(DIALS.fetch_add(1, Ordering::Relaxed) < 2, "refused");
            let listening = LISTENING.lock().expect("no panic").clone();
            Ok(Sending(listening.expect("it is bound")))
        }

        async fn recv(&mut self) -> anyhow::Result<((), Bytes)> {
            Ok(((), self.0.recv().await.expect("a sender is kept")))
        }

        fn send_half_to(&self, (): ()) -> anyhow::Result<Sending> {
            unreachable!("no run of it ends")
        }
    }

    #[tokio::test]
    async fn a_dial_that_fails_ends_the_sample_with_its_error() {
        let error = handshakes::<Failing>(10, 1).await.unwrap_err();
        assert_eq!(error.to_string(), "refused");
    }

    #[tokio::test]
    async fn a_sample_counts_the_handshakes_of_the_floor() {
        for at_once in [1, 3] {
            let sample = handshakes::<Floor>(5, at_once).await.unwrap();
            assert!(sample.per_second > 1.0 && sample.cpu_us > 0.0, "{sample:?}");
        }
    }
}
