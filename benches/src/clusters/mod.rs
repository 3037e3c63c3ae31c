//! Whole clusters in one process, ours and upstream's, asked the same questions.

mod ours;
mod upstream;

use std::future::Future;
use std::time::{Duration, Instant};

pub use ours::OurCluster;
pub use upstream::UpstreamCluster;

/// What takes longer never happens.
const PATIENCE: Duration = Duration::from_secs(60);
/// Members start within so long of each other, so that their rounds do not go in step.
const STAGGER: Duration = Duration::from_secs(1);
/// Between two looks whether all have it.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The version of the protocol that members open exchanges with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The published crate's default.
    V0,
    /// With compressed digests.
    V1,
}

/// Members that know each other, with one round a second.
pub trait Cluster: Sized + Send {
    /// The name in tables.
    const NAME: &'static str;

    /// Starts so many members; they begin to find each other.
    fn start(members: usize, version: Version)
    -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Whether all see all alive.
    fn is_complete(&self) -> impl Future<Output = bool> + Send;

    /// Sets key `k` of a member.
    fn set(&self, member: usize, value: &str) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Whether all members know that key `k` of `member` is `value`.
    fn all_have(&self, member: usize, value: &str) -> impl Future<Output = bool> + Send;

    /// Bytes of messages sent so far by all members together.
    fn sent_bytes(&self) -> u64;
}

/// Waits until all see all; gives the time since `start`.
pub async fn complete(cluster: &impl Cluster, start: Instant) -> anyhow::Result<Duration> {
    while !cluster.is_complete().await {
        anyhow::ensure!(start.elapsed() < PATIENCE, "they do not find each other");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(start.elapsed())
}

/// From a set until all have it.
pub async fn time_to_everyone<C: Cluster>(
    cluster: &C,
    member: usize,
    value: &str,
) -> anyhow::Result<Duration> {
    let start = Instant::now();
    cluster.set(member, value).await?;
    while !cluster.all_have(member, value).await {
        anyhow::ensure!(
            start.elapsed() < PATIENCE,
            "{}: it does not reach all",
            C::NAME
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(start.elapsed())
}

/// Bytes that a member sends a second while nothing happens.
pub async fn bytes_at_rest(cluster: &impl Cluster, members: usize, time: Duration) -> f64 {
    let (start, before) = (Instant::now(), cluster.sent_bytes());
    tokio::time::sleep(time).await;
    let sent = cluster.sent_bytes() - before;
    sent as f64 / start.elapsed().as_secs_f64() / members as f64
}
