//! `TransportSocket`, the class with which JavaScript sends and receives messages.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::net::NetTransport as _;
use gossip_transport::websocket::{WebSocketConfig, WebSocketTransport};
use gossip_transport::{TransportLayerSocket, TransportLayerTransport};
use gossip_web_values::{NO_LISTENER, Object, StatsObject, arguments};
use js_sys::{Promise, TypeError, Uint8Array};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsError, JsValue};
use wasm_bindgen_futures::future_to_promise;

use crate::options::{self, SocketOptions};

/// The time in which queued messages may be sent when the socket closes.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** A received message. */
export interface Message {
    /** The address of the sender, which `send` accepts. */
    from: string;
    data: Uint8Array;
}
"#;

/// A socket that sends messages to peers and receives theirs, until it is closed.
///
/// `TransportSocket.open` returns one. Call `close()` when it is no longer needed: a socket that is
/// only dropped closes whenever the garbage collector runs. `free()` closes it at once, and what is queued is
/// lost.
#[wasm_bindgen]
#[derive(Debug)]
pub struct TransportSocket {
    // `None` once it is closed. Never borrowed across an await.
    socket: RefCell<Option<Rc<TransportLayerSocket<WebSocketTransport, Bytes>>>>,
    identity: String,
}

#[wasm_bindgen]
impl TransportSocket {
    /// Throws a `TypeError`: `TransportSocket.open` returns an object of this class.
    ///
    /// @deprecated
    #[wasm_bindgen(constructor)]
    pub fn new() -> Result<TransportSocket, TypeError> {
        Err(gossip_web_values::no_constructor("TransportSocket.open"))
    }

    /// Opens a socket. A peer is dialled when there is a message for it, and can send messages of its
    /// own from then on.
    ///
    /// Rejects with a `TypeError` if an option is invalid.
    pub async fn open(options: SocketOptions) -> Result<TransportSocket, TypeError> {
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
        open.await
            .map_err(|error| gossip_web_values::type_error(&error))
    }

    /// The public key of this socket.
    #[wasm_bindgen(getter)]
    pub fn identity(&self) -> String {
        self.identity.clone()
    }

    /// Queues `data` for the peer `to`: `host:port`, `ws://…`, `wss://…`, or the `from` of a message.
    ///
    /// `data` is an `ArrayBuffer`, a typed array or a `DataView`, whose bytes are copied before this
    /// returns. Does not wait for the peer. A message that cannot be sent is dropped and counted in
    /// `stats()`.
    ///
    /// Rejects with a `TypeError` if `to` is not an address or `data` is something else, and with an
    /// `Error` if the socket is closed.
    #[wasm_bindgen(unchecked_return_type = "Promise<void>")]
    pub fn send(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] to: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "ArrayBuffer | ArrayBufferView")] data: &JsValue,
    ) -> Promise {
        let to = arguments::text(to, "to");
        let data = arguments::bytes(data, "data");
        let socket = self.socket();
        future_to_promise(async move {
            let (to, data, socket) = (to?, data?, socket?);
            let invalid =
                |error| gossip_web_values::type_error(&anyhow::Error::context(error, "to"));
            let addrs = socket.transport().resolve(&to).await.map_err(invalid)?;
            // A browser's network resolves every name to one address.
            if let Some(addr) = addrs.into_iter().next() {
                let sent = socket.send(addr, Bytes::from(data)).await;
                sent.map_err(|error| JsError::new(&error.to_string()))?;
            }
            Ok(JsValue::UNDEFINED)
        })
    }

    /// Receives the next message. Resolves to `undefined` once the socket is closed and all received
    /// messages have been returned. Messages of one peer arrive in the order in which it sent them;
    /// peers take turns.
    // An asynchronous function would borrow the socket while it waits, so that `free` fails.
    #[wasm_bindgen(unchecked_return_type = "Promise<Message | undefined>")]
    pub fn recv(&self) -> Promise {
        let socket = self.socket();
        future_to_promise(async move {
            let received = match socket {
                Ok(socket) => socket.recv().await.ok(),
                Err(_closed) => None,
            };
            let message = received.map(|(from, data)| {
                Object::new()
                    .text("from", &from.to_string())
                    .value("data", &Uint8Array::from(&data[..]))
                    .into_js()
            });
            Ok(message.unwrap_or_default())
        })
    }

    /// Returns a snapshot of the counters and connections. Throws if the socket is closed.
    pub fn stats(&self) -> Result<StatsObject, JsError> {
        Ok(gossip_web_values::stats(&self.socket()?.stats(), None))
    }

    /// Sends queued messages for at most a second, and closes all connections. Afterwards `send` and
    /// `stats` fail. Does nothing if the socket is already closed.
    ///
    /// In Node.js a process does not end by itself before its peers have closed their sides of the
    /// WebSockets: the platform waits for a peer that is frozen as long as its machine answers.
    #[wasm_bindgen(unchecked_return_type = "Promise<void>")]
    pub fn close(&self) -> Promise {
        close(self.socket.take(), CLOSE_DEADLINE)
    }
}

impl Drop for TransportSocket {
    /// Closes the socket, which `recv` may still use: it waits for a message as long as the socket is open.
    fn drop(&mut self) {
        let _ = close(self.socket.take(), Duration::ZERO);
    }
}

/// Sends queued messages for at most `deadline`, and closes all connections.
fn close(
    socket: Option<Rc<TransportLayerSocket<WebSocketTransport, Bytes>>>,
    deadline: Duration,
) -> Promise {
    future_to_promise(async move {
        if let Some(socket) = socket {
            socket.shutdown(deadline).await;
        }
        Ok(JsValue::UNDEFINED)
    })
}

impl TransportSocket {
    /// Returns the shared socket, so that `close` does not take it from a `recv` that waits.
    fn socket(&self) -> Result<Rc<TransportLayerSocket<WebSocketTransport, Bytes>>, JsError> {
        let socket = self.socket.borrow();
        let closed = || JsError::new("the socket is closed");
        socket.as_ref().map(Rc::clone).ok_or_else(closed)
    }
}
