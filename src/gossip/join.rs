//! Finds the address of a member and of its seeds, before the member has an id.
//!
//! The id of a member contains the address at which others reach it. A browser tab has no address
//! of its own, and a node that listens on all interfaces does not know which one others use. Both
//! ask the seeds, and take the address under which the first one that answers sees them. Nothing is
//! gossiped here. Invariant: a seed that does not resolve or answer delays none of the others.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::engine::GossipConfig;
use super::error::JoinError;
use crate::message::ChitchatMessage;
use crate::net::{NetTransport, is_dialable};
use crate::rt;
use crate::transport_layer::TransportLayerSocket;

/// The time for which all seeds together are tried before they are resolved again.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The pause before the second attempt. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Returns the address to advertise, as [`GossipConfig::advertise_addr`] describes. Waits for a
/// seed that answers if one must be asked, for as long as it takes.
pub(super) async fn advertise_addr<T: NetTransport>(
    socket: &TransportLayerSocket<T, ChitchatMessage>,
    config: &GossipConfig,
) -> Result<SocketAddr, JoinError> {
    if let Some(addr) = config.advertise_addr {
        return Ok(addr);
    }
    let local_addr = socket.local_addr();
    if is_dialable(local_addr) {
        return Ok(local_addr);
    }
    if config.seeds.is_empty() {
        return Err(JoinError::AddressUnknown { local_addr });
    }
    let mut pause = FIRST_PAUSE;
    loop {
        let seeds = resolve(socket.transport(), &config.seeds).await;
        if let Some(seen) = ask(socket, seeds).await? {
            // A member that listens on a port is reached there, and not at the port that it dials
            // from.
            let port = match local_addr.port() {
                0 => seen.port(),
                bound => bound,
            };
            return Ok(SocketAddr::new(seen.ip(), port));
        }
        tracing::info!(?pause, "no seed answers, trying again");
        rt::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Returns the addresses of all seeds that can be resolved now, sorted and each of them once.
pub(super) async fn resolve<T: NetTransport>(transport: &T, seeds: &[String]) -> Vec<SocketAddr> {
    let resolving = seeds.iter().map(|seed| async move {
        let resolved = rt::timeout(ATTEMPT, transport.resolve(seed)).await;
        match resolved
            .map_err(anyhow::Error::from)
            .and_then(|inner| inner)
        {
            Ok(addrs) => addrs,
            Err(error) => {
                tracing::debug!(
                    seed,
                    error = format!("{error:#}"),
                    "a seed does not resolve"
                );
                Vec::new()
            }
        }
    });
    let mut addrs = BTreeSet::new();
    addrs.extend(futures::future::join_all(resolving).await.concat());
    addrs.into_iter().collect()
}

/// Returns our address as the first seed that answers sees it, or `None` if none answers in time.
async fn ask<T: NetTransport>(
    socket: &TransportLayerSocket<T, ChitchatMessage>,
    seeds: Vec<SocketAddr>,
) -> Result<Option<SocketAddr>, JoinError> {
    let mut asking = Vec::new();
    for seed in seeds {
        let connection = socket
            .get_or_create_outgoing_connection(seed)
            .map_err(|_| JoinError::SocketClosed)?;
        asking.push(Box::pin(async move { connection.connected(ATTEMPT).await }));
    }
    if asking.is_empty() {
        return Ok(None);
    }
    match futures::future::select_ok(asking).await {
        Ok((info, _others)) => Ok(Some(info.local_addr)),
        Err(error) => {
            tracing::debug!(error = format!("{error:#}"), "no seed has answered");
            Ok(None)
        }
    }
}
