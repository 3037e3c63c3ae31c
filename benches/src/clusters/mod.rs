//! Whole clusters in one process, of this crate and of upstream, behind one trait.

mod ours;
mod upstream;

use std::future::Future;
use std::time::{Duration, Instant};

pub use ours::OurCluster;
pub use upstream::UpstreamCluster;

/// A step that takes longer fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time over which the members are started, so that their rounds are not in step.
const STAGGER: Duration = Duration::from_secs(1);
/// Pause between two checks whether all members have a change.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The version of the protocol that members open exchanges with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The default of the published crate.
    V0,
    /// With compressed digests.
    V1,
}

/// Members that know each other, with one round per second.
pub trait Cluster: Sized + Send {
    /// The name in tables.
    const NAME: &'static str;

    /// Starts `members` members, which then begin to find each other.
    fn start(members: usize, version: Version)
    -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Returns whether every member sees every member alive.
    fn is_complete(&self) -> impl Future<Output = bool> + Send;

    /// Sets the key `k` of a member.
    fn set(&self, member: usize, value: &str) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Returns whether every member knows that the key `k` of `member` is `value`.
    fn all_have(&self, member: usize, value: &str) -> impl Future<Output = bool> + Send;

    /// Returns the number of messages that all members together have sent so far.
    fn sent_messages(&self) -> u64;

    /// Returns the bytes of messages that all members together have sent so far.
    fn sent_bytes(&self) -> u64;
}

/// Waits until every member sees every member alive; returns the time since `start`.
pub async fn complete(cluster: &impl Cluster, start: Instant) -> anyhow::Result<Duration> {
    while !cluster.is_complete().await {
        anyhow::ensure!(
            start.elapsed() < PATIENCE,
            "the members do not find each other"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(start.elapsed())
}

/// Sets the key `k` of a member; returns the time until every member knows the value.
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
            "{}: the change does not reach all members",
            C::NAME
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(start.elapsed())
}

/// Returns the bytes that a member sends per second while nothing changes.
pub async fn bytes_at_rest(cluster: &impl Cluster, members: usize, time: Duration) -> f64 {
    let (start, before) = (Instant::now(), cluster.sent_bytes());
    tokio::time::sleep(time).await;
    let sent = cluster.sent_bytes() - before;
    sent as f64 / start.elapsed().as_secs_f64() / members as f64
}
