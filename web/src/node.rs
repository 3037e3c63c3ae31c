//! `GossipNode`, the class that JavaScript uses to join a cluster.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures::future::{Either, select};
use gossip_transport::gossip::{ConnectedError, JoinError, Participant};
use gossip_transport::rt;
use gossip_transport::websocket::{WebSocketConfig, WebSocketTransport};
use gossip_transport::{ConfigError, TransportLayerTransport};
use gossip_web_values::{NO_LISTENER, StatsObject, arguments};
use js_sys::{Function, Promise, TypeError};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsError, JsValue};
use wasm_bindgen_futures::future_to_promise;

use crate::abort::Abort;
use crate::closing::Closing;
use crate::console;
use crate::convert;
use crate::options::{self, JoinOptions, Options};
use crate::renewal;
use crate::types::{ChangeCallback, MemberArray, SeedArray};

/// The time in which queued messages may be sent when the node leaves.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);

/// A member of a gossip cluster, until it leaves.
///
/// `GossipNode.join` returns one. Call `leave()` when it is no longer needed: a node that is only
/// dropped leaves without a goodbye, whenever the garbage collector runs. So does `free()`, at once. A page
/// that is closed, reloaded or left says goodbye by itself.
#[wasm_bindgen]
#[derive(Debug)]
pub struct GossipNode {
    // Promises hold it weakly, so that `free` ends it.
    running: Rc<Running>,
    id: String,
    identity: String,
}

/// What ends when the node leaves.
#[derive(Debug)]
struct Running {
    // `None` once it has left. Never borrowed across an await or a callback.
    participant: RefCell<Option<Participant<WebSocketTransport>>>,
    watcher: RefCell<Option<rt::Task>>,
    renewer: RefCell<Option<rt::Task>>,
    closing: RefCell<Option<Closing>>,
}

#[wasm_bindgen]
impl GossipNode {
    /// Throws a `TypeError`: `GossipNode.join` returns an object of this class.
    ///
    /// @deprecated
    #[wasm_bindgen(constructor)]
    pub fn new() -> Result<GossipNode, TypeError> {
        Err(gossip_web_values::no_constructor("GossipNode.join"))
    }

    /// Joins a cluster. Resolves at once, and finds the other members in the background;
    /// `connected()` waits for the first of them.
    ///
    /// Rejects with a `TypeError` if an option is invalid.
    pub async fn join(options: JoinOptions) -> Result<GossipNode, TypeError> {
        let invalid = |error: anyhow::Error| gossip_web_values::type_error(&error);
        let options = Options::read(&options).map_err(invalid)?;
        let identity = options.credential.identity().to_string();
        let id = options.gossip.node_id.clone();
        let trust = options.credential.trust().clone();
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
        let participant = join.await.map_err(not_joined)?;
        let renew = options.renew_invite;
        let renewer = renew.map(|renew| renewal::start(trust, renew));
        let running = Rc::new(Running {
            participant: RefCell::new(Some(participant)),
            watcher: RefCell::new(None),
            renewer: RefCell::new(renewer),
            closing: RefCell::new(None),
        });
        let closing = Closing::watch(Rc::downgrade(&running), Running::announce_leaving);
        running.closing.replace(Some(closing));
        Ok(Self {
            running,
            id,
            identity,
        })
    }

    /// The name of this node.
    #[wasm_bindgen(getter)]
    pub fn id(&self) -> String {
        self.id.clone()
    }

    /// The public key of this node.
    #[wasm_bindgen(getter)]
    pub fn identity(&self) -> String {
        self.identity.clone()
    }

    /// Waits for the first message of another member. There is no time limit: seeds that do not answer
    /// are dialled again, and `seeds()` returns how far each of them has come.
    ///
    /// Rejects with an `Error` if no seed lets this node in, for a reason that a retry cannot change.
    /// Its `code` is a short name of the reason, such as `handshake-refused`, `expired` or
    /// `wrong-cluster`; its message says what to do. The node keeps trying, so a later call succeeds
    /// once the reason is gone.
    ///
    /// With the option `signal`, an `AbortSignal`, the wait can be given up. The node then leaves the
    /// cluster at once, so that nothing is dialled any more, and this rejects with the signal's reason. A
    /// signal that is aborted later has no effect.
    // An asynchronous function would borrow the node while it waits, so that `free` fails.
    #[wasm_bindgen(unchecked_return_type = "Promise<void>")]
    pub fn connected(
        &self,
        #[wasm_bindgen(unchecked_optional_param_type = "ConnectedOptions")] options: &JsValue,
    ) -> Promise {
        let signal = options::signal(options);
        let running = Rc::downgrade(&self.running);
        let participant = self.running.participant.borrow();
        let connected = participant.as_ref().map(Participant::connected);
        future_to_promise(async move {
            let signal = signal.map_err(|error| gossip_web_values::type_error(&error))?;
            let connected = connected.ok_or_else(|| not_connected(&ConnectedError::Left))?;
            let result = match signal {
                None => connected.await,
                Some(signal) => {
                    let mut abort = Abort::new(signal);
                    let aborted = pin!(abort.aborted());
                    match select(aborted, pin!(connected)).await {
                        Either::Left((reason, _)) => {
                            if let Some(running) = running.upgrade() {
                                drop(running.end());
                            }
                            return Err(reason);
                        }
                        Either::Right((result, _)) => result,
                    }
                }
            };
            result.map_err(|error| not_connected(&error))?;
            Ok(JsValue::UNDEFINED)
        })
    }

    /// Returns how far this node has come with each seed. If a node that was connected is refused later, for
    /// example since its invite was revoked, the seed's `code` and `error` say why. Throws if the node has left.
    pub fn seeds(&self) -> Result<SeedArray, JsError> {
        let seeds = self.with(Participant::seeds)?;
        Ok(convert::seeds(&seeds).unchecked_into())
    }

    /// Sets a key of this node. Throws a `TypeError` if an argument is not a string, and an `Error` if
    /// the key's first character is not ASCII, if key and value do not fit into a message, or if the node
    /// has left.
    pub fn set(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] key: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "string")] value: &JsValue,
    ) -> Result<(), JsValue> {
        let (key, value) = key_and_value(key, value)?;
        self.with(|participant| participant.set(&key, &value))?
            .map_err(thrown)
    }

    /// Sets a key that all members delete after a grace period, two hours by default. Throws in the
    /// same cases as `set`.
    #[wasm_bindgen(js_name = setWithTtl)]
    pub fn set_with_ttl(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] key: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "string")] value: &JsValue,
    ) -> Result<(), JsValue> {
        let (key, value) = key_and_value(key, value)?;
        self.with(|participant| participant.set_with_ttl(&key, &value))?
            .map_err(thrown)
    }

    /// Returns the value of a key of this node, or `undefined` if it is not set. The keys of other
    /// members are in `members()`. Throws a `TypeError` if the key is not a string, and an `Error` if the
    /// node has left.
    pub fn get(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] key: &JsValue,
    ) -> Result<Option<String>, JsValue> {
        let key = arguments::text(key, "key")?;
        Ok(self.with(|participant| participant.get(&key))?)
    }

    /// Deletes a key of this node. Throws a `TypeError` if the key is not a string, and an `Error` if it
    /// is not set, or if the node has left.
    pub fn delete(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] key: &JsValue,
    ) -> Result<(), JsValue> {
        let key = arguments::text(key, "key")?;
        self.with(|participant| participant.delete(&key))?
            .map_err(thrown)
    }

    /// Returns all known members, this node included, sorted by id. A restarted member is listed
    /// once for each generation until the old one is forgotten. Throws if the node has left.
    pub fn members(&self) -> Result<MemberArray, JsError> {
        let members = self.with(|participant| participant.members())?;
        Ok(convert::members(&members).unchecked_into())
    }

    /// Returns the members with this name, of which there is one as a rule: a restarted member is listed
    /// once for each generation until the old one is forgotten. Costs less than `members()`, which converts
    /// the keys of all. Throws a `TypeError` if the name is not a string, and an `Error` if the node has left.
    #[wasm_bindgen(js_name = membersNamed)]
    pub fn members_named(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] name: &JsValue,
    ) -> Result<MemberArray, JsValue> {
        let name = arguments::text(name, "name")?;
        let members = self.with(|participant| participant.members_named(&name))?;
        Ok(convert::members(&members).unchecked_into())
    }

    /// Returns a snapshot of this node's counters and connections. Throws if the node has left.
    pub fn stats(&self) -> Result<StatsObject, JsError> {
        let (stats, engine) =
            self.with(|participant| (participant.stats(), participant.engine_counts()))?;
        Ok(gossip_web_values::stats(&stats, Some(&engine.denied)))
    }

    /// Sets a callback for changes of members, of their liveness and of their keys. Several changes
    /// at once cause one call. `null` removes the callback. Exceptions of the callback are logged to
    /// the console. Throws a `TypeError` if the value is neither a function, `null` nor `undefined`.
    #[wasm_bindgen(setter)]
    pub fn set_onchange(&self, callback: ChangeCallback) -> Result<(), TypeError> {
        let callback = JsValue::from(callback);
        let watcher = if callback.is_null() || callback.is_undefined() {
            None
        } else {
            let expected = |_| TypeError::new("onchange must be a function or null");
            self.watch(callback.dyn_into().map_err(expected)?)
        };
        // The old task may be the caller, so it must not be dropped during the borrow.
        let old = self.running.watcher.replace(watcher);
        drop(old);
        Ok(())
    }

    /// Tells the others that this node leaves, closes all connections and stops. Afterwards all other
    /// methods throw. Does nothing if the node has already left. The others are told before this returns, so
    /// a page that is closed need not wait; it tells them by itself, too.
    ///
    /// In Node.js a process does not end by itself before its peers have closed their sides of the
    /// WebSockets: the platform waits for a peer that is frozen as long as its machine answers.
    #[wasm_bindgen(unchecked_return_type = "Promise<void>")]
    pub fn leave(&self) -> Promise {
        let participant = self.running.end();
        let leaving = participant.map(|participant| participant.leave(LEAVE_DEADLINE));
        future_to_promise(async move {
            if let Some(leaving) = leaving {
                // If its task has ended, it has left already.
                let _ = leaving.await;
            }
            Ok(JsValue::UNDEFINED)
        })
    }
}

impl Running {
    /// Ends the calls of the callback, and returns the participant that leaves.
    fn end(&self) -> Option<Participant<WebSocketTransport>> {
        drop(self.watcher.take());
        drop(self.renewer.take());
        drop(self.closing.take());
        self.participant.take()
    }

    fn announce_leaving(&self) {
        if let Some(participant) = self.participant.borrow().as_ref() {
            participant.announce_leaving();
        }
    }
}

impl GossipNode {
    fn with<R>(&self, f: impl FnOnce(&Participant<WebSocketTransport>) -> R) -> Result<R, JsError> {
        match self.running.participant.borrow().as_ref() {
            Some(participant) => Ok(f(participant)),
            None => Err(JsError::new("the node has left the cluster")),
        }
    }

    fn watch(&self, callback: Function) -> Option<rt::Task> {
        let mut watch = self.with(Participant::watch).ok()?;
        Some(rt::Task::spawn(async move {
            while watch.changed().await {
                if let Err(thrown) = callback.call0(&JsValue::UNDEFINED) {
                    console::error(&thrown);
                }
                // The callback may have ended this task, which ends with this poll, or changed keys: it is
                // called for them once the page has had its turn.
                rt::next_turn().await;
            }
        }))
    }
}

/// Converts the error of joining to a `TypeError` that names the option as JavaScript does.
fn not_joined(error: anyhow::Error) -> TypeError {
    match error.downcast_ref() {
        Some(JoinError::InitialKey(error)) => {
            return TypeError::new(&format!("keyValues: {error}"));
        }
        Some(error @ JoinError::Name { .. }) => return TypeError::new(&format!("id: {error}")),
        _ => {}
    }
    let text = format!("{error:#}");
    if error.is::<ConfigError>() {
        for (field, option) in [("node_id", "id"), ("cluster_id", "cluster")] {
            if let Some(rest) = text.strip_prefix(field) {
                return TypeError::new(&(option.to_owned() + rest));
            }
        }
    }
    TypeError::new(&text)
}

/// Converts the error of `connected` to a JavaScript `Error` with a code.
fn not_connected(error: &ConnectedError) -> JsValue {
    let thrown = js_sys::Error::new(&error.to_string());
    // Setting a field of an ordinary object does not fail.
    let _ = js_sys::Reflect::set(&thrown, &"code".into(), &error.code().into());
    thrown.into()
}

/// Returns the arguments of a method that sets a key.
fn key_and_value(key: &JsValue, value: &JsValue) -> Result<(String, String), JsValue> {
    Ok((
        arguments::text(key, "key")?,
        arguments::text(value, "value")?,
    ))
}

/// Converts an error to a JavaScript `Error`.
fn thrown(error: impl std::fmt::Display) -> JsValue {
    JsError::new(&error.to_string()).into()
}
