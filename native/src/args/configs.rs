//! The configurations of the library that the command line describes, and which option is to blame for a value
//! that the library refuses.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use gossip_transport::TransportLayerConfig;
use gossip_transport::config::ConfigError;
use gossip_transport::gossip::engine::Engine;
use gossip_transport::gossip::{GossipConfig, SetError};
use gossip_transport::message::ChitchatId;
use gossip_transport::secure::SecureConfig;
use gossip_transport::tcp::TcpConfig;
use gossip_transport::udp::UdpConfig;

use super::Args;
use super::error::Invalid;
use crate::descriptors::{Shares, Wanted};
use crate::kind::{KIND_KEY, KIND_NODE};
use crate::shown::brief;

/// The names of configuration fields that differ from those of their options. All others are the same with dashes.
const OPTIONS: [(&str, &str); 15] = [
    ("secure.max_message_len", "max-message-len"),
    ("secure.max_partial_bytes", "max-partial-bytes"),
    ("secure.partial_timeout", "partial-timeout"),
    ("secure.handshake_timeout", "handshake-timeout"),
    ("secure.rekey_after_records", "rekey-after-records"),
    ("cluster_id", "cluster"),
    ("node_id", "id"),
    ("failure_detector.phi_threshold", "phi-threshold"),
    (
        "failure_detector.sampling_window_size",
        "sampling-window-size",
    ),
    ("failure_detector.max_interval", "max-heartbeat-interval"),
    (
        "failure_detector.initial_interval",
        "initial-heartbeat-interval",
    ),
    (
        "failure_detector.dead_node_grace_period",
        "dead-node-grace-period",
    ),
    ("rumours.interval", "rumour-interval"),
    (
        "rumours.max_bytes_per_second",
        "rumour-max-bytes-per-second",
    ),
    ("advertise_addr", "advertise"),
];

impl Args {
    /// Returns the numbers of connections that were asked for.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            http: self.limits.max_http_connections,
            handshakes: self.limits.max_pending_handshakes,
            connections: self.limits.max_connections,
        }
    }

    /// Returns the configuration of the socket, which advertises this address or that which is bound.
    pub(crate) fn socket_config(
        &self,
        shares: &Shares,
        advertise: Option<SocketAddr>,
    ) -> TransportLayerConfig {
        let config = TransportLayerConfig::default()
            .with_backoff_min(self.times.backoff_min.0)
            .with_interval(self.gossip.gossip_interval.get())
            .with_advertise_addr(advertise);
        let config = self.times.apply_to_socket(config);
        self.limits
            .apply_to_socket(config, shares.connections, shares.handshakes)
    }

    /// Returns the configuration of the TCP network.
    pub(crate) fn tcp_config(&self, shares: &Shares) -> TcpConfig {
        let secure = self.limits.apply_to_channel(SecureConfig::default());
        TcpConfig::default()
            .with_secure(self.times.apply_to_channel(secure))
            .with_max_unauthenticated(shares.handshakes)
            .with_max_unauthenticated_per_ip(self.limits.max_pending_handshakes_per_host)
            .with_proxy_protocol_from(self.proxy_protocol_from.clone())
            .with_forwarded_for_from(self.forwarded_for_from.clone())
    }

    /// Returns the configuration of plaintext UDP.
    pub(crate) fn udp_config(&self) -> UdpConfig {
        self.limits.udp()
    }

    /// Returns the configuration of the participant, which has the name `default_id` if no name was given.
    pub(crate) fn gossip_config(&self, default_id: &str) -> GossipConfig {
        let id = self.id.as_deref().unwrap_or(default_id);
        let config = self.gossip.apply(GossipConfig::new(&self.cluster, id));
        let mut config = self.limits.apply_to_gossip(config, self.udp);
        config.seeds = self.seeds.clone();
        config.initial_key_values = self.set.clone();
        if !self.set.iter().any(|(key, _)| key == KIND_KEY) {
            config
                .initial_key_values
                .push((KIND_KEY.to_owned(), KIND_NODE.to_owned()));
        }
        config
    }

    /// Checks everything that the library will check at the start, and times that fit to no network.
    ///
    /// # Errors
    ///
    /// Fails with the option whose value the library refuses.
    pub(super) fn check_bounds(&self) -> Result<(), Invalid> {
        let wanted = self.wanted();
        for (option, count) in [
            ("max-connections", wanted.connections),
            ("max-pending-handshakes", wanted.handshakes),
            ("max-http-connections", wanted.http),
        ] {
            if count == Some(0) {
                return Err(Invalid::new(option, "is 0, but must be at least 1"));
            }
        }
        let shares = Shares::unlimited(wanted);
        let socket = self.socket_config(&shares, self.advertise);
        socket.validate().map_err(|error| refused(&error))?;
        self.times.check_silence()?;
        let tcp = self.tcp_config(&shares);
        tcp.validate().map_err(|error| match &*error.field {
            "max_unauthenticated_per_ip" => named("max-pending-handshakes-per-host", &error),
            _ => refused(&error),
        })?;
        let udp = self.udp_config();
        udp.validate().map_err(|error| match &*error.field {
            "max_pending_flows" => named("udp-max-pending-flows", &error),
            "max_messages_per_peer" => named("udp-max-messages-per-peer", &error),
            "max_bytes_per_peer" => named("udp-max-bytes-per-peer", &error),
            _ => named("udp-max-decompressed-bytes-per-second", &error),
        })?;
        // A name that a node derives has as many bytes.
        let gossip = self.gossip_config("node-aaaaaaaa");
        gossip.validate().map_err(|error| match &*error.field {
            "max_message_len" => named("gossip-max-message-len", &error),
            _ => refused(&error),
        })?;
        let id = ChitchatId::new(&*gossip.node_id, 1, (Ipv4Addr::LOCALHOST, 1).into());
        let engine = Engine::new(gossip, id, Duration::ZERO);
        engine.map_err(|error| match error {
            SetError::KeyNotAscii { key } => {
                let key = brief(&key);
                Invalid::new(
                    "set",
                    format!("is refused: key {key:?} must begin with an ASCII character"),
                )
            }
            error => Invalid::new("set", format!("is refused: {error}")),
        })?;
        Ok(())
    }
}

fn named(option: &str, error: &ConfigError) -> Invalid {
    let ConfigError { value, bound, .. } = error;
    Invalid::new(option, format!("is {value}, but must be {bound}"))
}

fn refused(error: &ConfigError) -> Invalid {
    match OPTIONS.iter().find(|(field, _)| *field == error.field) {
        Some((_, option)) => named(option, error),
        None => named(&error.field.replace(['.', '_'], "-"), error),
    }
}
