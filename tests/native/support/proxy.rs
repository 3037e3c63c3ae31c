//! A proxy that forwards bytes, behind which all peers have one address.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A proxy in front of `to`, which forwards bytes until it is dropped.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    _task: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn new(to: SocketAddr) -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), to).await
    }

    pub(crate) async fn at(addr: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut streams = JoinSet::new();
            loop {
                let (mut one, _) = listener.accept().await.unwrap();
                streams.spawn(async move {
                    if let Ok(mut other) = TcpStream::connect(to).await {
                        let _ = copy_bidirectional(&mut one, &mut other).await;
                    }
                });
            }
        });
        Self { addr, _task: task }
    }
}
