//! The arguments of `GossipNode`'s methods, passed by JavaScript in a browser.

#![cfg(target_family = "wasm")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use gossip_web::GossipNode;
use js_sys::{Array, Date, Function, Object, Reflect, TypeError};
use wasm_bindgen::{JsCast as _, JsValue};
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
