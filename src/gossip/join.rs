//! Finding our own address, before we can have an id.
//!
//! A member's id contains the address under which others reach it. A browser tab has none of its
//! own, and a node that listens on all interfaces does not know which one: both ask the first seed
//! that answers what it sees. Nothing is gossiped here.

use std::net::SocketAddr;
use std::time::Duration;

use super::cluster::MAX_NODE_ID_LEN;
use super::rumours::MIN_ROOM;
use super::{GossipConfig, SetError, order};
use crate::message::ChitchatMessage;
use crate::net::{NetTransport, is_dialable};
use crate::rt;
use crate::transport_layer::TransportLayerSocket;

/// Room for the longest ids, a few other members, and news.
const MIN_MESSAGE_LEN: usize = 8 << 10;
/// How long all seeds together are tried before they are resolved anew.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The wait before the second attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest wait between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a cluster was not joined. The caller is at fault; a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The own address is not known, and there is no seed to ask.
    #[error(
        "the address of this member is not known ({local_addr} cannot be dialled): set \
         advertise_addr, or name a seed that can tell"
    )]
    AddressUnknown {
        /// What the socket is bound to.
        local_addr: SocketAddr,
    },
    /// A key that was to be set from the beginning cannot be set.
    #[error("an initial key was refused: {0}")]
    InitialKey(#[from] SetError),
    /// The configuration makes no sense.
    #[error("invalid configuration: {what}")]
    InvalidConfig {
        /// What is wrong.
        what: &'static str,
    },
    /// The socket was closed meanwhile.
    #[error("the socket is closed")]
    SocketClosed,
}

/// Whether a participant with `config` could do its part.
pub(super) fn check(config: &GossipConfig) -> Result<(), JoinError> {
    let what = if config.gossip_interval.is_zero() {
        "the gossip interval is zero"
    } else if config.max_message_len < MIN_MESSAGE_LEN {
        "the longest message is shorter than 8,192 bytes"
    } else if config.node_id.len() > MAX_NODE_ID_LEN {
        "the node id is longer than 1,024 bytes"
    } else if config.cluster_id.len() > MAX_NODE_ID_LEN {
        "the cluster id is longer than 1,024 bytes"
    } else if !config.rumours.is_off() && config.rumours.interval.is_zero() {
        "the rumours' interval is zero"
    } else if !config.rumours.is_off() && config.rumours.room_at_most() < MIN_ROOM {
        "the rumours may cost less than 1,024 bytes a second for each that is told"
    } else {
        return Ok(());
    };
    Err(JoinError::InvalidConfig { what })
}

/// The address to advertise; see [`GossipConfig::advertise_addr`].
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
            // Whoever has a port of its own is reached there, and not where this dial came from.
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

/// All addresses of all seeds that can be resolved now.
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
    let addrs = futures::future::join_all(resolving).await.concat();
    order::set(addrs).into_iter().collect()
}

/// Our address as the first seed that answers sees it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_leaves_no_room_for_gossip_is_refused() {
        let long = "x".repeat(MAX_NODE_ID_LEN);
        let good = GossipConfig {
            max_message_len: MIN_MESSAGE_LEN,
            ..GossipConfig::new(long.as_str(), long.as_str())
        };
        assert_eq!(check(&good), Ok(()));
        let wrong: [fn(&mut GossipConfig); 6] = [
            |config| config.gossip_interval = Duration::ZERO,
            |config| config.rumours.interval = Duration::ZERO,
            |config| config.rumours.max_bytes_per_second = 4000,
            |config| config.max_message_len -= 1,
            |config| config.node_id.push('x'),
            |config| config.cluster_id.push('x'),
        ];
        for make_wrong in wrong {
            let mut config = good.clone();
            make_wrong(&mut config);
            let error = check(&config).unwrap_err();
            assert!(matches!(error, JoinError::InvalidConfig { .. }), "{error}");
        }
    }
}
