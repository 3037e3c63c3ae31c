//! Helpers for nodes of the published chitchat crate.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;

use chitchat_013::transport::{Socket, Transport};

/// A transport whose only socket is bound already, so that a node can be configured with its address.
pub(crate) struct Bound(Mutex<Option<Box<dyn Socket>>>);

impl Bound {
    pub(crate) fn new(socket: Box<dyn Socket>) -> Self {
        Self(Mutex::new(Some(socket)))
    }
}

impl Transport for Bound {
    // The expansion of `async fn open` by `async_trait`.
    fn open<'a, 'f>(
        &'a self,
        _listen_addr: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = anyhow::Result<Box<dyn Socket>>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move { Ok(self.0.lock().unwrap().take().unwrap()) })
    }
}
