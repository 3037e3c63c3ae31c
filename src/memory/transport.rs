//! Dialling and binding, as one host.

use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use futures::channel::oneshot;

use super::backlog::Dial;
use super::connection::MemoryConnection;
use super::faults::DialFault;
use super::listener::{Acceptor, MemoryListener};
use super::network::MemoryNetwork;
use crate::credential::NetCredential;
use crate::net::{Alpn, ConnectError, NetTransport, check_listenable, is_dialable};
use crate::rt;
use crate::secure::HandshakeError;

/// The access of one host to a [`MemoryNetwork`].
#[derive(Debug, Clone)]
pub struct MemoryTransport {
    network: MemoryNetwork,
    ip: IpAddr,
}

impl MemoryNetwork {
    /// Returns the access of the host with address `ip`.
    pub fn host(&self, ip: IpAddr) -> MemoryTransport {
        MemoryTransport {
            network: self.clone(),
            ip,
        }
    }
}

impl MemoryTransport {
    /// Returns the address of this host.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Waits until dials to `to` get an answer, and returns the fault that determines it.
    async fn wait_for_answer(&self, to: IpAddr) -> DialFault {
        let faults = self.network.faults();
        loop {
            let seen = faults.changed().current();
            let current = faults.get(self.ip, to);
            if current.dial != DialFault::Ignored {
                if !current.delay.is_zero() {
                    rt::sleep(current.delay).await;
                }
                return current.dial;
            }
            faults.changed().later_than(seen).await;
        }
    }
}

impl NetTransport for MemoryTransport {
    type Listener = MemoryListener;
    type Connection = MemoryConnection;

    async fn create_listener(
        &self,
        mut bind_addr: SocketAddr,
        alpn_supported: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<MemoryListener> {
        self.network.config().validate()?;
        check_listenable(bind_addr)?;
        if bind_addr.ip().is_unspecified() {
            bind_addr.set_ip(self.ip);
        }
        let (local_addr, backlog) = self
            .network
            .bind(bind_addr)
            .with_context(|| format!("cannot listen on {bind_addr}"))?;
        let acceptor = Acceptor {
            network: self.network.clone(),
            local_addr,
            alpn_supported: alpn_supported.to_vec(),
            credential: credential.clone(),
        };
        Ok(MemoryListener::new(backlog, acceptor))
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<MemoryConnection> {
        self.network.config().validate()?;
        if !is_dialable(addr) {
            return Err(ConnectError::NotDialable { addr }.into());
        }
        let refused = || ConnectError::Io {
            addr,
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        match self.wait_for_answer(addr.ip()).await {
            DialFault::None | DialFault::Ignored => {}
            DialFault::Refused => return Err(refused().into()),
            DialFault::HandshakeUnanswered => return std::future::pending().await,
        }
        let (answer, answered) = oneshot::channel();
        let (backlog, port) = self.network.dial(addr).ok_or_else(refused)?;
        let queued = backlog.push(Dial {
            from: SocketAddr::new(self.ip, port),
            alpn_preferred: alpn_preferred.to_vec(),
            credential: credential.clone(),
            answer,
        });
        // If the listener was dropped before the push, this drops the dial with the backlog.
        drop(backlog);
        if !queued {
            return Err(refused().into());
        }
        match answered.await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error.into()),
            Err(oneshot::Canceled) => Err(HandshakeError::ClosedByPeer.into()),
        }
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        let addr = name
            .parse()
            .with_context(|| format!("{name:?} is not an address (IP:PORT)"))?;
        Ok(vec![addr])
    }

    /// Accepts what native networks accept, although only addresses resolve here.
    fn check_name(&self, name: &str) -> anyhow::Result<()> {
        rt::check_name(name)
    }

    fn max_message_len(&self) -> usize {
        self.network.config().max_message_len
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::config::ConfigError;
    use crate::credential::Trust;
    use crate::memory::MemoryConfig;

    #[test]
    fn listening_and_dialling_report_an_invalid_configuration() {
        let network = MemoryNetwork::with_config(1, MemoryConfig::default().with_pipe_bytes(0));
        let transport = network.host([10, 0, 0, 1].into());
        let credential = NetCredential::generate(Trust::dangerously_anyone());
        let addr = ([10, 0, 0, 1], 7000).into();
        let listened = transport.create_listener(addr, &[], &credential);
        let dialled = transport.connect(addr, &[], &credential);
        let listened = listened.now_or_never().unwrap().unwrap_err();
        let dialled = dialled.now_or_never().unwrap().unwrap_err();
        for error in [listened, dialled] {
            let error: ConfigError = error.downcast().unwrap();
            assert_eq!(error.field, "pipe_bytes");
        }
    }
}
