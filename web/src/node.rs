//! `GossipNode`: what JavaScript holds.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use gossip_transport::TransportLayerTransport;
use gossip_transport::gossip::Participant;
use gossip_transport::rt;
use gossip_transport::websocket::{WebSocketConfig, WebSocketTransport};
use gossip_web_values::StatsObject;
use js_sys::Function;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsError, JsValue};

use crate::convert;
use crate::options::{JoinOptions, Options};
use crate::types::{ChangeCallback, MemberArray};

/// How long queued messages may take to go out when the node leaves.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);
/// A browser cannot listen; this address says so to the transport layer.
const NO_LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A member of a gossip cluster, for as long as it has not left.
///
/// Made by `GossipNode.join`. Losing the last reference leaves without a goodbye, at the garbage
/// collector's leisure: call `leave()`.
#[wasm_bindgen]
#[derive(Debug)]
pub struct GossipNode {
    // `None` once it has left. Borrowed for plain calls only, never over an await or a callback.
    participant: Rc<RefCell<Option<Participant<WebSocketTransport>>>>,
    watcher: RefCell<Option<rt::Task>>,
    id: String,
    identity: String,
}

#[wasm_bindgen]
impl GossipNode {
    /// Joins a cluster. Completes once a seed has answered, and waits for that as long as it
    /// takes, dialling again and again.
    ///
    /// Rejects with an `Error` if the options are wrong.
    pub async fn join(options: JoinOptions) -> Result<GossipNode, JsError> {
        let options = Options::read(&options).map_err(|error| gossip_web_values::error(&error))?;
        let identity = options.credential.identity().to_string();
        let id = options.gossip.node_id.clone();
        let network = WebSocketTransport::new(WebSocketConfig::default());
        let transport = TransportLayerTransport::with_config(
            network,
            options.credential,
            options.transport_layer,
        );
        let join = async {
            let socket = transport.open(NO_LISTENER).await?;
            Participant::join(socket, options.gossip).await
        };
        let participant = join
            .await
            .map_err(|error| gossip_web_values::error(&error))?;
        Ok(Self {
            participant: Rc::new(RefCell::new(Some(participant))),
            watcher: RefCell::new(None),
            id,
            identity,
        })
    }

    /// This node's name.
    #[wasm_bindgen(getter)]
    pub fn id(&self) -> String {
        self.id.clone()
    }

    /// This node's public key.
    #[wasm_bindgen(getter)]
    pub fn identity(&self) -> String {
        self.identity.clone()
    }

    /// Sets a key of this node. Throws if the key's first character is not ASCII, if key and value
    /// are too long for a message, or if the node has left.
    pub fn set(&self, key: &str, value: &str) -> Result<(), JsError> {
        self.with(|participant| participant.set(key, value))??;
        Ok(())
    }

    /// Sets a key that goes away everywhere after a grace period, two hours by default. Throws as
    /// `set` does.
    #[wasm_bindgen(js_name = setWithTtl)]
    pub fn set_with_ttl(&self, key: &str, value: &str) -> Result<(), JsError> {
        self.with(|participant| participant.set_with_ttl(key, value))??;
        Ok(())
    }

    /// A key of this node; `undefined` if there is none. Other members' keys are in `members()`.
    pub fn get(&self, key: &str) -> Result<Option<String>, JsError> {
        self.with(|participant| participant.get(key))
    }

    /// Deletes a key of this node. Throws if there is none.
    pub fn delete(&self, key: &str) -> Result<(), JsError> {
        self.with(|participant| participant.delete(key))??;
        Ok(())
    }

    /// Every known member, this node included, in the order of their ids. A restarted member is
    /// listed once for each generation until the old one is forgotten.
    pub fn members(&self) -> Result<MemberArray, JsError> {
        let members = self.with(|participant| participant.members())?;
        Ok(convert::members(&members).unchecked_into())
    }

    /// A snapshot of this node's counters and connections.
    pub fn stats(&self) -> Result<StatsObject, JsError> {
        let stats = self.with(|participant| participant.stats())?;
        Ok(gossip_web_values::stats(&stats))
    }

    /// Called whenever members, their liveness or their keys have changed; several changes at once
    /// are one call. `null` stops the calls. What it throws goes to the console.
    #[wasm_bindgen(setter)]
    pub fn set_onchange(&self, callback: ChangeCallback) {
        let watcher = callback
            .dyn_into::<Function>()
            .ok()
            .and_then(|callback| self.watch(callback));
        // The old one is dropped outside the borrow: it may be the caller.
        let old = self.watcher.replace(watcher);
        drop(old);
    }

    /// Tells a few peers the latest state, closes every connection and stops. Afterwards every
    /// other method throws; leaving twice does nothing.
    pub async fn leave(&self) {
        drop(self.watcher.take());
        let participant = self.participant.take();
        if let Some(participant) = participant {
            participant.leave(LEAVE_DEADLINE).await;
        }
    }
}

impl GossipNode {
    fn with<R>(&self, f: impl FnOnce(&Participant<WebSocketTransport>) -> R) -> Result<R, JsError> {
        match self.participant.borrow().as_ref() {
            Some(participant) => Ok(f(participant)),
            None => Err(JsError::new("the node has left the cluster")),
        }
    }

    fn watch(&self, callback: Function) -> Option<rt::Task> {
        let mut watch = self.with(Participant::watch).ok()?;
        Some(rt::Task::spawn(async move {
            while watch.changed().await {
                if let Err(thrown) = callback.call0(&JsValue::UNDEFINED) {
                    web_sys::console::error_1(&thrown);
                }
            }
        }))
    }
}
