//! The log of how this node gets into the cluster: the seeds that cannot be resolved, and the reason why
//! no seed lets it in. Neither ends the node, since both may change later.

use std::time::Duration;

use gossip_transport::gossip::ConnectedError;
use gossip_transport::net::NetTransport as _;
use gossip_transport::rt;
use gossip_transport::tcp::TcpTransport;

use crate::node::Node;

/// The time after which a node that no seed lets in looks again.
const RETRY: Duration = Duration::from_secs(2);

/// Logs the seeds that cannot be resolved within `limit`, until the tasks are dropped, so that a
/// misspelt one is noticed soon. The node does not wait for a name server.
pub(crate) fn unresolved(
    seeds: &[String],
    transport: &TcpTransport,
    limit: Duration,
) -> Vec<rt::Task> {
    let report = |seed: &String| rt::Task::spawn(resolve(seed.clone(), transport.clone(), limit));
    seeds.iter().map(report).collect()
}

async fn resolve(seed: String, transport: TcpTransport, limit: Duration) {
    match rt::timeout(limit, transport.resolve(&seed)).await {
        Ok(Ok(addrs)) => tracing::debug!(seed, ?addrs, "resolved a seed"),
        Ok(Err(error)) => {
            tracing::warn!(seed, "cannot resolve a seed, will try again: {error:#}");
        }
        Err(elapsed) => tracing::warn!(seed, "resolving a seed {elapsed}, will try again"),
    }
}

/// Logs the reason why no seed lets this node in, whenever it changes, and then that the node has
/// heard from another member. Ends after that, or when the returned task is dropped or the node leaves.
pub(crate) fn entry(node: Node) -> rt::Task {
    rt::Task::spawn(async move {
        let mut logged = None;
        while let Some(connected) = node.with(|participant| participant.connected()) {
            match connected.await {
                Ok(()) => {
                    tracing::info!("joined the cluster");
                    return;
                }
                Err(ConnectedError::Left) => return,
                Err(error) if logged.as_ref() != Some(&error) => {
                    tracing::warn!(
                        code = error.code(),
                        "not in the cluster yet, will try again: {error}"
                    );
                    logged = Some(error);
                }
                Err(_) => {}
            }
            rt::sleep(RETRY).await;
        }
    })
}
