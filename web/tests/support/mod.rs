//! A page that joins the native nodes of `cargo xtask test`, and waiting with a deadline.

use std::time::Duration;

use gossip_transport::rt;
use gossip_web::GossipNode;
use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;

/// Far longer than anything in the tests takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// Runs `code` as the body of a JavaScript function.
pub(crate) fn js(code: &str) -> JsValue {
    let function = Function::new_no_args(code);
    function.call0(&JsValue::UNDEFINED).unwrap()
}

/// Returns the options with which a tab joins the native node, changed by `change`: JavaScript with
/// `options`, the contents of node.json in `nodes`, and `port`, on which nobody listens at 127.0.0.77.
pub(crate) async fn options(change: &str) -> JsValue {
    let fetch = js("return fetch('/target/browser-test/node.json').then((it) => it.json())");
    let nodes = JsFuture::from(fetch.unchecked_into::<Promise>()).await;
    let body = format!(
        "const {{ addr, secret, cluster }} = nodes.gossip;
        const port = nodes.scripted.secure.split(':')[1];
        const options = {{
            cluster, secret, id: `tab-${{Math.random()}}`, seeds: [`ws://${{addr}}`], gossipIntervalMs: 100
        }};
        {change};
        return options;"
    );
    let options = Function::new_with_args("nodes", &body);
    options.call1(&JsValue::UNDEFINED, &nodes.unwrap()).unwrap()
}

/// Joins with these options.
pub(crate) async fn join(change: &str) -> GossipNode {
    let node = GossipNode::join(options(change).await.unchecked_into()).await;
    node.map_err(JsValue::from).unwrap()
}

/// Returns the output of `future`, and fails instead of waiting for ever.
pub(crate) async fn soon<F: IntoFuture>(future: F) -> F::Output {
    let output = rt::timeout(DEADLINE, future.into_future()).await;
    output.expect("the future should have completed by now")
}

/// Returns a field of an object if it is a string, and an empty string otherwise.
pub(crate) fn text(object: &JsValue, field: &str) -> String {
    let value = Reflect::get(object, &field.into()).unwrap();
    value.as_string().unwrap_or_default()
}

/// Returns the liveness of the member `id`, as `node` shows it.
pub(crate) fn liveness(node: &GossipNode, id: &str) -> String {
    let members: js_sys::Array = node
        .members()
        .map_err(JsValue::from)
        .unwrap()
        .unchecked_into();
    let member = members.iter().find(|it| text(it, "id") == id);
    member.map_or_else(String::new, |member| text(&member, "liveness"))
}
