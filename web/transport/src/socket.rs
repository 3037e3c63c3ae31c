//! `TransportSocket`: what JavaScript holds.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use gossip_transport::net::NetTransport as _;
use gossip_transport::websocket::{WebSocketConfig, WebSocketTransport};
use gossip_transport::{TransportLayerSocket, TransportLayerTransport};
use gossip_web_values::{Object, StatsObject};
use js_sys::Uint8Array;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsError};

use crate::options::{self, SocketOptions};

/// How long queued messages may take to go out when the socket closes.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// A browser cannot listen; this address says so to the transport layer.
const NO_LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** A message that has arrived. */
export interface Message {
    /** Where an answer goes; `send` takes it. */
    from: string;
    data: Uint8Array;
}
"#;

#[wasm_bindgen]
extern "C" {
    /// The interface above.
    #[wasm_bindgen(typescript_type = "Message | undefined")]
    pub type MessageObject;
}

/// Queues messages to peers and gives those that arrive, for as long as it has not been closed.
///
/// Made by `TransportSocket.open`. Losing the last reference closes it without a goodbye, at the
/// garbage collector's leisure: call `close()`.
#[wasm_bindgen]
#[derive(Debug)]
pub struct TransportSocket {
    // `None` once it is closed. Borrowed for plain calls only, never over an await.
    socket: RefCell<Option<Rc<TransportLayerSocket<WebSocketTransport, Bytes>>>>,
    identity: String,
}

#[wasm_bindgen]
impl TransportSocket {
    /// Opens a socket. It dials nobody until there is something to send; peers that it has dialled
    /// can answer at any time.
    ///
    /// Rejects with an `Error` if the options are wrong.
    pub async fn open(options: SocketOptions) -> Result<TransportSocket, JsError> {
        let open = async {
            let (credential, config) = options::read(&options)?;
            let identity = credential.identity().to_string();
            let network = WebSocketTransport::new(WebSocketConfig::default());
            let transport = TransportLayerTransport::with_config(network, credential, config);
            let socket = transport.open(NO_LISTENER).await?;
            anyhow::Ok(Self {
                socket: RefCell::new(Some(Rc::new(socket))),
                identity,
            })
        };
        open.await.map_err(|error| gossip_web_values::error(&error))
    }

    /// This side's public key.
    #[wasm_bindgen(getter)]
    pub fn identity(&self) -> String {
        self.identity.clone()
    }

    /// Queues `data` for `to`: `host:port`, `ws://…`, `wss://…`, or a message's `from`. It waits
    /// for no dial and no peer; what cannot be sent is dropped and counted in `stats()`.
    ///
    /// Rejects if `to` is no address, or if the socket is closed.
    pub async fn send(&self, to: String, data: Vec<u8>) -> Result<(), JsError> {
        let socket = self.socket()?;
        let send = async {
            let addrs = socket.transport().resolve(&to).await?;
            let addr = addrs.into_iter().next().context("no such address")?;
            socket.send(addr, Bytes::from(data)).await?;
            anyhow::Ok(())
        };
        send.await.map_err(|error| gossip_web_values::error(&error))
    }

    /// The next message; `undefined` once the socket is closed and everything received has been
    /// given. Peers take turns; the messages of one come in the order in which it sent them.
    pub async fn recv(&self) -> MessageObject {
        let received = match self.socket() {
            Ok(socket) => socket.recv().await.ok(),
            Err(_closed) => None,
        };
        let message = received.map(|(from, data)| {
            Object::new()
                .text("from", &from.to_string())
                .value("data", &Uint8Array::from(&data[..]))
                .into_js()
        });
        message.unwrap_or_default().unchecked_into()
    }

    /// A snapshot of the counters and connections.
    pub fn stats(&self) -> Result<StatsObject, JsError> {
        Ok(gossip_web_values::stats(&self.socket()?.stats()))
    }

    /// Sends what is queued, for a second at most, and closes every connection. Afterwards `send`
    /// and `stats` fail; closing twice does nothing.
    pub async fn close(&self) {
        let socket = self.socket.take();
        if let Some(socket) = socket {
            socket.shutdown(CLOSE_DEADLINE).await;
        }
    }
}

impl TransportSocket {
    /// Shared, so that a close does not take it from a `recv` that waits.
    fn socket(&self) -> Result<Rc<TransportLayerSocket<WebSocketTransport, Bytes>>, JsError> {
        let socket = self.socket.borrow();
        let closed = || JsError::new("the socket is closed");
        socket.as_ref().map(Rc::clone).ok_or_else(closed)
    }
}
