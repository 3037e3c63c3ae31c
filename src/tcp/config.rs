//! Limits of the TCP network.

use crate::secure::SecureConfig;

/// Limits of the TCP network.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TcpConfig {
    /// Limits of the secure channel. Its handshake time covers all that a stranger does: the
    /// first bytes, an HTTP upgrade and the Noise handshake together.
    pub secure: SecureConfig,
    /// Accepted connections that are not authenticated yet, in all. Default 256.
    pub max_unauthenticated: usize,
    /// Accepted connections that are not authenticated yet, from one IP address (IPv6: from
    /// one network of 64 bits). Default 64.
    pub max_unauthenticated_per_ip: usize,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            secure: SecureConfig::default(),
            max_unauthenticated: 256,
            max_unauthenticated_per_ip: 64,
        }
    }
}
