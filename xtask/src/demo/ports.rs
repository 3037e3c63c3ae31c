//! The ports on which the demo's nodes listen.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, anyhow};

/// The address on which everything of the demo listens.
pub(crate) const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The nodes' ports: `base`, `base + 1` and so on, or any free ports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    base: Option<u16>,
}

impl Ports {
    /// Returns the ports from `base` on. With `None` or 0 every node takes any free port.
    pub(crate) fn new(base: Option<u16>) -> Self {
        Self { base }
    }

    /// Fails if a port of `nodes` nodes is in use, before anything is built or started.
    pub(crate) fn check_free(self, nodes: u16) -> anyhow::Result<()> {
        for index in 0..nodes {
            for port in [self.http(index)?, self.gossip(index)?] {
                // Binding port 0 takes any free port, and so always succeeds.
                TcpListener::bind((LOOPBACK, port)).map_err(|error| {
                    anyhow!("port {port} on {LOOPBACK} cannot be used ({error}); choose others with --port")
                })?;
            }
        }
        Ok(())
    }

    pub(crate) fn http(self, index: u16) -> anyhow::Result<u16> {
        self.port(u32::from(index) * 2)
    }

    pub(crate) fn gossip(self, index: u16) -> anyhow::Result<u16> {
        self.port(u32::from(index) * 2 + 1)
    }

    fn port(self, offset: u32) -> anyhow::Result<u16> {
        match self.base {
            None | Some(0) => Ok(0),
            Some(base) => u16::try_from(u32::from(base) + offset)
                .ok()
                .with_context(|| format!("--port {base} leaves too few ports above it")),
        }
    }
}
