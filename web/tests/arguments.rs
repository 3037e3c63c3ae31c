//! The arguments of `GossipNode`'s methods, passed by JavaScript in a browser.

#![cfg(target_family = "wasm")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use gossip_transport::rt;
use gossip_web::GossipNode;
use js_sys::{Array, Date, Function, JsString, Object, Promise, Reflect, TypeError};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

/// Returns a node as JavaScript sees it. Its seed is a port that browsers refuse to dial.
async fn node() -> JsValue {
    let options = r#"{"cluster":"c","id":"i","seeds":["127.0.0.1:1"],"trustAnyone":true}"#;
    let options = js_sys::JSON::parse(options).unwrap();
    let node = GossipNode::join(options.unchecked_into()).await;
    node.map_err(JsValue::from).unwrap().into()
}

fn call(node: &JsValue, method: &str, arguments: &[JsValue]) -> Result<JsValue, JsValue> {
    let method = Reflect::get(node, &method.into()).unwrap();
    let method = method.dyn_into::<Function>().unwrap();
    method.apply(node, &arguments.iter().collect::<Array>())
}

/// Returns the text of the `TypeError` that was thrown.
fn type_error(result: Result<JsValue, JsValue>) -> String {
    let error = result.unwrap_err().dyn_into::<TypeError>().unwrap();
    error.message().into()
}

/// Returns values of every type but string.
fn no_strings() -> Vec<JsValue> {
    let symbol = js_sys::Symbol::for_("a");
    vec![
        JsValue::UNDEFINED,
        JsValue::NULL,
        JsValue::from(5),
        JsValue::from(true),
        JsValue::from(1_u64),
        symbol.into(),
        Object::new().into(),
        Array::of1(&"a".into()).into(),
        Date::new_0().into(),
        Function::new_no_args("").into(),
        // An object, unlike its value.
        js_sys::eval("new String('a')").unwrap(),
    ]
}

#[wasm_bindgen_test]
async fn the_class_has_no_constructor_and_says_what_to_use() {
    let node = node().await;
    let class = Reflect::get(&node, &"constructor".into()).unwrap();
    let created = Reflect::construct(class.unchecked_ref::<Function>(), &Array::new());
    let error = created.unwrap_err().dyn_into::<TypeError>().unwrap();
    let text = String::from(error.message());
    assert!(text.contains("GossipNode.join("), "{text}");
}

#[wasm_bindgen_test]
async fn an_argument_that_is_no_string_is_a_type_error_that_names_it() {
    let node = node().await;
    let good = JsValue::from("a");
    for bad in no_strings() {
        for (method, arguments, named) in [
            ("set", vec![bad.clone(), good.clone()], "key"),
            ("set", vec![good.clone(), bad.clone()], "value"),
            ("setWithTtl", vec![bad.clone(), good.clone()], "key"),
            ("setWithTtl", vec![good.clone(), bad.clone()], "value"),
            ("get", vec![bad.clone()], "key"),
            ("delete", vec![bad.clone()], "key"),
            ("membersNamed", vec![bad.clone()], "name"),
        ] {
            let thrown = call(&node, method, &arguments).unwrap_err();
            let error = thrown
                .dyn_into::<TypeError>()
                .unwrap_or_else(|thrown| panic!("{method} of {bad:?} throws {thrown:?}"));
            let expected = format!("{named} must be a string");
            assert_eq!(
                String::from(error.message()),
                expected,
                "{method} of {bad:?}"
            );
        }
    }
    // The module works as before, and nothing was set.
    assert!(
        call(&node, "get", std::slice::from_ref(&good))
            .unwrap()
            .is_undefined()
    );
    call(&node, "set", &[good.clone(), "b".into()]).unwrap();
    assert_eq!(call(&node, "get", &[good]).unwrap(), "b");
}

#[wasm_bindgen_test]
async fn a_string_with_half_of_a_surrogate_pair_is_a_type_error() {
    let node = node().await;
    let good = JsValue::from("a");
    // Members have strings of Unicode: this would be another one there, and the same as other halves.
    let bad = js_sys::eval(r"'a\ud800b'").unwrap();
    for (method, arguments, named) in [
        ("set", vec![bad.clone(), good.clone()], "key"),
        ("set", vec![good.clone(), bad.clone()], "value"),
        ("setWithTtl", vec![good.clone(), bad.clone()], "value"),
        ("get", vec![bad.clone()], "key"),
        ("delete", vec![bad.clone()], "key"),
    ] {
        let error = type_error(call(&node, method, &arguments));
        let expected = format!("{named} must be well-formed");
        assert!(error.starts_with(&expected), "{method}: {error}");
    }
    // Whole pairs, and the character that stands for what cannot be decoded.
    let whole = JsValue::from("\u{1f600}\u{fffd}");
    call(&node, "set", &[good.clone(), whole.clone()]).unwrap();
    assert_eq!(call(&node, "get", &[good]).unwrap(), whole);
}

#[wasm_bindgen_test]
async fn a_string_that_is_too_long_is_refused_before_it_takes_memory() {
    let node = node().await;
    let good = JsValue::from("a");
    let memory = || {
        let memory = wasm_bindgen::memory().unchecked_into::<js_sys::WebAssembly::Memory>();
        let buffer = memory.buffer().unchecked_into::<js_sys::ArrayBuffer>();
        buffer.byte_length()
    };
    let before = memory();
    let long = js_sys::eval("'x'.repeat(2 ** 28)").unwrap();
    for (method, arguments, named) in [
        ("set", vec![long.clone(), good.clone()], "key"),
        ("set", vec![good.clone(), long.clone()], "value"),
        ("get", vec![long.clone()], "key"),
    ] {
        let error = type_error(call(&node, method, &arguments));
        assert!(error.starts_with(named), "{method}: {error}");
        assert!(error.contains("268435456"), "{method}: {error}");
    }
    assert!(memory() - before < 1 << 24);
}

#[wasm_bindgen_test]
async fn freeing_a_node_ends_all_its_waits() {
    let node = node().await;
    let waits: Vec<Promise> = (0..2)
        .map(|_| call(&node, "connected", &[]).unwrap().unchecked_into())
        .collect();
    call(&node, "free", &[]).unwrap();
    for wait in waits {
        let error = JsFuture::from(wait).await.unwrap_err();
        assert_eq!(Reflect::get(&error, &"code".into()).unwrap(), "left");
    }
}

#[wasm_bindgen_test]
async fn a_node_may_be_freed_while_it_leaves() {
    let node = node().await;
    let left: Promise = call(&node, "leave", &[]).unwrap().unchecked_into();
    call(&node, "free", &[]).unwrap();
    JsFuture::from(left).await.unwrap();
}

#[wasm_bindgen_test]
async fn a_console_that_throws_does_not_end_the_calls_of_onchange() {
    let node = node().await;
    js_sys::eval(
        "globalThis.kept = console.error;
        console.error = () => { throw new Error('from the console') };
        globalThis.calls = 0",
    )
    .unwrap();
    let throws = Function::new_no_args("calls += 1; throw new Error('from the page')");
    Reflect::set(&node, &"onchange".into(), &throws).unwrap();
    for round in 1..4 {
        call(&node, "set", &["a".into(), round.to_string().into()]).unwrap();
        let called = async {
            while js_sys::eval("calls").unwrap() != f64::from(round) {
                rt::sleep(Duration::from_millis(5)).await;
            }
        };
        let called = rt::timeout(Duration::from_secs(5), called).await;
        called.unwrap_or_else(|_| panic!("no call for change {round}"));
    }
    js_sys::eval("console.error = kept").unwrap();
    Reflect::set(&node, &"onchange".into(), &JsValue::NULL).unwrap();
}

#[wasm_bindgen_test]
async fn a_callback_that_was_removed_or_replaced_is_not_called_any_more() {
    let node = node().await;
    // An old one that is called again ends the test, instead of going on for ever.
    let start = "globalThis.node = node;
        globalThis.seen = [];
        const change = () => node.set('a', `${seen.length}`);
        node.onchange = () => {
            seen.push('first');
            if (seen.length > 9) return;
            node.onchange = () => {
                seen.push('second');
                if (seen.length > 9) return;
                node.onchange = null;
                change();
            };
            change();
        };
        change();";
    Function::new_with_args("node", start)
        .call1(&JsValue::UNDEFINED, &node)
        .unwrap();
    let seen = || {
        String::from(
            js_sys::eval("seen.join()")
                .unwrap()
                .unchecked_into::<JsString>(),
        )
    };
    let called = async {
        while !seen().ends_with("second") {
            rt::sleep(Duration::from_millis(5)).await;
        }
    };
    let called = rt::timeout(Duration::from_secs(5), called).await;
    assert!(called.is_ok(), "{}", seen());
    assert_eq!(seen(), "first,second");
}

#[wasm_bindgen_test]
async fn a_callback_that_always_changes_a_key_leaves_the_page_its_turns() {
    let node = node().await;
    let start = "globalThis.turns = 0;
        globalThis.calls = 0;
        const { port1, port2 } = new MessageChannel();
        port2.onmessage = () => {
            turns += 1;
            port1.postMessage(null);
        };
        port1.postMessage(null);
        node.onchange = () => {
            calls += 1;
            if (calls < 1000) node.set('a', `${calls}`);
            else port2.close();
        };
        node.set('a', 'first');";
    Function::new_with_args("node", start)
        .call1(&JsValue::UNDEFINED, &node)
        .unwrap();
    let number = |name: &str| js_sys::eval(name).unwrap().as_f64().unwrap();
    let called = async {
        while number("calls") < 1000.0 {
            rt::sleep(Duration::from_millis(5)).await;
        }
    };
    rt::timeout(Duration::from_secs(5), called).await.unwrap();
    let turns = number("turns");
    assert!(turns > 500.0, "{turns} turns");
}

#[wasm_bindgen_test]
async fn onchange_is_a_function_or_nothing() {
    let node = node().await;
    let set = |value: &JsValue| Reflect::set(&node, &"onchange".into(), value);
    for bad in [5.into(), "f".into(), Object::new().into(), JsValue::TRUE] {
        let error = set(&bad).unwrap_err().dyn_into::<TypeError>().unwrap();
        assert!(String::from(error.message()).contains("onchange"));
    }
    for good in [
        Function::new_no_args("").into(),
        JsValue::NULL,
        JsValue::UNDEFINED,
    ] {
        assert!(set(&good).unwrap());
    }
}
