//! A browser tab that is a member of a cluster.

use gossip_transport::gossip::{DialPolicy, GossipConfig, Participant};
use gossip_transport::websocket::WebSocketTransport;
use gossip_transport::{NetCredential, TransportLayerTransport};

/// Joins the cluster of the native member at `seed`, a `ws://` or `wss://` URL.
pub async fn join(
    credential: NetCredential,
    cluster: &str,
    seed: &str,
) -> anyhow::Result<Participant<WebSocketTransport>> {
    let transport = TransportLayerTransport::new(WebSocketTransport::default(), credential);
    // A browser cannot listen: this socket only dials.
    let socket = transport.open("0.0.0.0:0".parse()?).await?;
    // Most addresses of other members cannot be dialled from a browser.
    let config = GossipConfig::new(cluster, "tab-1")
        .with_seeds(vec![seed.to_owned()])
        .with_dial(DialPolicy::SeedsOnly);
    let tab = Participant::join(socket, config).await?;
    tab.set("mood", "sunny")?;
    Ok(tab)
}
