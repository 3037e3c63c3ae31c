//! The options for times: of connections and of messages that wait.

use std::sync::LazyLock;

use gossip_transport::TransportLayerConfig;
use gossip_transport::secure::SecureConfig;

use super::error::Invalid;
use crate::units::Period;

static TRANSPORT: LazyLock<TransportLayerConfig> = LazyLock::new(TransportLayerConfig::default);
static SECURE: LazyLock<SecureConfig> = LazyLock::new(SecureConfig::default);

/// Times of connections and of messages that wait.
#[derive(Debug, Clone, clap::Args)]
#[command(
    next_help_heading = "Times (a TIME is 200ms, 1.5s, 2m, 24h or 7d; from 1ms to 365d \
    where nothing else is said)"
)]
pub(crate) struct Times {
    /// Longest time for a dial with its handshake
    #[arg(long, value_name = "TIME", default_value_t = Period(TRANSPORT.dial_timeout))]
    pub(crate) dial_timeout: Period,

    /// Longest time for an incoming handshake, and for that of a dial
    #[arg(long, value_name = "TIME", default_value_t = Period(SECURE.handshake_timeout))]
    pub(crate) handshake_timeout: Period,

    /// Longest wait after a first failed dial, which doubles with each failure; from 0ms
    #[arg(long, value_name = "TIME", default_value_t = Period(TRANSPORT.backoff_min))]
    pub(crate) backoff_min: Period,

    /// Longest wait between dials, at least --backoff-min [default: ten gossip intervals, at most 30s]
    #[arg(long, value_name = "TIME")]
    pub(crate) backoff_max: Option<Period>,

    /// Time without messages after which a connection is closed
    #[arg(long, value_name = "TIME", default_value_t = Period(TRANSPORT.idle_timeout))]
    pub(crate) idle_timeout: Period,

    /// Time between keepalives on a connection that has nothing to send
    #[arg(long, value_name = "TIME", default_value_t = Period(TRANSPORT.keepalive_interval))]
    pub(crate) keepalive_interval: Period,

    /// Time without a byte after which a peer is given up, more than --keepalive-interval; best several times that of
    /// the peer, and over 1m for tabs
    #[arg(long, value_name = "TIME", default_value_t = Period(TRANSPORT.silence_timeout))]
    pub(crate) silence_timeout: Period,

    /// Longest time in which a peer must take 256KiB
    #[arg(long, value_name = "TIME", default_value_t = Period(TRANSPORT.write_timeout))]
    pub(crate) write_timeout: Period,

    /// Longest time in which each 256KiB of a message that has begun must arrive
    #[arg(long, value_name = "TIME", default_value_t = Period(SECURE.partial_timeout))]
    pub(crate) partial_timeout: Period,

    /// Longest time that a message waits to be sent; from 0ms
    #[arg(long, value_name = "TIME", default_value_t = Period(TRANSPORT.outgoing.ttl))]
    pub(crate) outgoing_ttl: Period,

    /// Time for which a peer without a connection is remembered; from 0ms
    #[arg(long, value_name = "TIME", default_value_t = Period(TRANSPORT.peer_linger))]
    pub(crate) peer_linger: Period,
}

impl Times {
    /// Sets the times of a socket, whose longest backoff is that of its gossip interval.
    pub(super) fn apply_to_socket(&self, config: TransportLayerConfig) -> TransportLayerConfig {
        let backoff_max = self
            .backoff_max
            .map_or(config.backoff_max, |Period(max)| max);
        let outgoing = config.outgoing.clone().with_ttl(self.outgoing_ttl.0);
        config
            .with_dial_timeout(self.dial_timeout.0)
            .with_backoff_max(backoff_max)
            .with_idle_timeout(self.idle_timeout.0)
            .with_keepalive_interval(self.keepalive_interval.0)
            .with_silence_timeout(self.silence_timeout.0)
            .with_write_timeout(self.write_timeout.0)
            .with_peer_linger(self.peer_linger.0)
            .with_outgoing(outgoing)
    }

    /// Checks that a connection on which nothing but keepalives is sent does not count as silent.
    ///
    /// # Errors
    ///
    /// Fails with the option of the two that is not at its default.
    pub(super) fn check_silence(&self) -> Result<(), Invalid> {
        let (silence, keepalive) = (self.silence_timeout, self.keepalive_interval);
        if silence.0 > keepalive.0 {
            return Ok(());
        }
        let why = "since a connection with nothing to send would otherwise be given up between two keepalives";
        Err(if silence.0 == TRANSPORT.silence_timeout {
            let reason = format!(
                "is {keepalive}, but must be less than --silence-timeout, which is {silence}, {why}"
            );
            Invalid::new("keepalive-interval", reason)
        } else {
            let reason = format!(
                "is {silence}, but must be more than --keepalive-interval, which is {keepalive}, {why}"
            );
            Invalid::new("silence-timeout", reason)
        })
    }

    /// Sets the times of the secure channel.
    pub(super) fn apply_to_channel(&self, config: SecureConfig) -> SecureConfig {
        config
            .with_handshake_timeout(self.handshake_timeout.0)
            .with_partial_timeout(self.partial_timeout.0)
    }
}
