//! The errors of `GossipNode.join` for invalid options, in a browser.

#![cfg(target_family = "wasm")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use gossip_transport::ClusterSecret;
use gossip_transport::credential::{Claims, Invite, InviteId};
use gossip_transport::rt;
use gossip_web::{GossipNode, generate_cluster_secret, generate_secret_key};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

async fn refusal(options: &str) -> String {
    refusal_of(js_sys::JSON::parse(options).unwrap()).await
}

async fn refusal_of(options: JsValue) -> String {
    let error = match GossipNode::join(options.unchecked_into()).await {
        Ok(_) => panic!("joined"),
        Err(error) => JsValue::from(error),
    };
    let error = error.dyn_into::<js_sys::TypeError>().unwrap();
    error.message().into()
}

#[wasm_bindgen_test]
async fn an_invalid_option_is_named_in_the_error() {
    for (options, named) in [
        ("1", "object"),
        (r#"{"trustAnyone":true}"#, "cluster is missing"),
        (r#"{"trustAnyone":true,"cluster":"c"}"#, "id is missing"),
        (
            r#"{"trustAnyone":true,"cluster":"c","id":7}"#,
            "id must be a string",
        ),
        (
            r#"{"trustAnyone":true,"cluster":"c","id":"i"}"#,
            "seeds is missing",
        ),
        (
            r#"{"trustAnyone":true,"cluster":"c","id":"i","seeds":[]}"#,
            "seeds is empty",
        ),
        (
            r#"{"trustAnyone":true,"cluster":"c","id":"i","seeds":"s"}"#,
            "seeds must be an array",
        ),
        (
            r#"{"trustAnyone":true,"cluster":"c","id":"i","seeds":[1]}"#,
            "seeds must be an array",
        ),
        (
            r#"{"cluster":"c","id":"i","seeds":["s"]}"#,
            "no peer is trusted",
        ),
        (
            r#"{"cluster":"c","id":"i","seeds":["s"],"secret":"!"}"#,
            "secret",
        ),
        (
            r#"{"cluster":"c","id":"i","seeds":["s"],"trust":["!"]}"#,
            "trust",
        ),
        (
            r#"{"id":"i","invite":"gossip-invite-a"}"#,
            "invite: the invite is incomplete or mistyped",
        ),
        (
            r#"{"id":"i","invite":"gossip-secret-a"}"#,
            "invite: this is not an invite",
        ),
        (
            r#"{"cluster":"c","id":"i","seeds":["s"],"trustAnyone":1}"#,
            "true or false",
        ),
        (
            r#"{"cluster":"c","id":"i","seeds":["s"],"trustAnyone":true,"trust":[]}"#,
            "contradicts",
        ),
        (
            r#"{"cluster":"c","id":"i","seeds":["s"],"trustAnyone":true,"secretKey":"!"}"#,
            "secretKey",
        ),
        (
            r#"{"cluster":"c","id":"i","seeds":["s"],"trustAnyone":true,"gossipIntervalMs":0}"#,
            "gossipIntervalMs is 0, but must be between 10 and 3600000",
        ),
        (
            r#"{"cluster":"c","id":"i","seeds":["s"],"trustAnyone":true,"keyValues":{"a":1}}"#,
            "keyValues",
        ),
    ] {
        let message = refusal(options).await;
        assert!(message.contains(named), "{options}: {message}");
    }
}

#[wasm_bindgen_test]
async fn a_page_without_an_invite_is_told_to_be_opened_by_its_complete_link() {
    for (options, value) in [
        ("{}", "undefined"),
        ("{ id: 'i' }", "undefined"),
        ("{ id: 'i', invite: undefined }", "undefined"),
        ("{ id: 'i', invite: null }", "null"),
        ("{ id: 'i', invite: '' }", "empty"),
        (
            "{ id: 'i', cluster: 'c', seeds: ['s:1'], invite: null }",
            "null",
        ),
        (
            "{ id: 'i', cluster: 'c', seeds: ['s:1'], invite: '' }",
            "empty",
        ),
    ] {
        let message = refusal_of(js_sys::eval(&format!("({options})")).unwrap()).await;
        let begins = message.starts_with(&format!("invite is {value}, "));
        assert!(begins, "{options}: {message}");
        assert!(message.contains("open the complete link"), "{message}");
    }
}

#[wasm_bindgen_test]
async fn the_example_of_the_readme_names_each_tab_differently_and_reports_a_link_without_an_invite()
{
    let readme = include_str!("../../README.md");
    let call = readme.split("GossipNode.join({").nth(1).unwrap();
    let fields = call.split("});").next().unwrap();
    let options = || js_sys::eval(&format!("({{{fields}}})")).unwrap();
    let id = || js_sys::Reflect::get(&options(), &"id".into()).unwrap();
    assert!(id().as_string().unwrap().starts_with("tab-"));
    assert_ne!(id(), id());
    // The page of this test has no fragment.
    let message = refusal_of(options()).await;
    assert!(message.starts_with("invite is null, "), "{message}");
}

#[wasm_bindgen_test]
async fn an_option_that_throws_or_has_its_contents_elsewhere_is_named_in_the_error() {
    let base = r#"{cluster: "c", id: "i", seeds: ["127.0.0.1:9"], trustAnyone: true, "#;
    for (more, named) in [
        ("get id() { throw 1 }", "id cannot be read"),
        ("get keyValues() { throw 1 }", "keyValues cannot be read"),
        ("keyValues: { get a() { throw 1 } }", "keyValues must be"),
        ("keyValues: new Map([['a', 'b']])", "keyValues must be"),
        ("keyValues: ['a']", "keyValues must be"),
        ("keyValues: new Date()", "keyValues must be"),
        (
            "keyValues: Promise.resolve({ a: 'b' })",
            "keyValues must be",
        ),
        ("keyValues: Object.create({ a: 'b' })", "keyValues must be"),
        (
            "keyValues: { a: '\\ud800' }",
            "keyValues must be well-formed",
        ),
        ("seeds: ['\\ud800:7946']", "seeds must be well-formed"),
        // What the library refuses has the name of the option, too.
        ("id: 'x'.repeat(1100)", "id is"),
        ("id: 'a\\nb'", "id is"),
        ("cluster: ''", "cluster is"),
        ("keyValues: { 'é': 'b' }", "keyValues: "),
        ("id: '\\ud800'", "id must be well-formed"),
        ("id: 'x'.repeat(2 ** 25)", "id has 33554432 characters"),
        (
            "seeds: Object.defineProperty(['s'], 0, { get() { throw 1 } })",
            "seeds must be",
        ),
    ] {
        let options = js_sys::eval(&format!("({base}{more}}})")).unwrap();
        let message = refusal_of(options).await;
        assert!(message.starts_with(named), "{more}: {message}");
    }
}

#[wasm_bindgen_test]
async fn a_name_that_the_invite_does_not_allow_is_refused_with_the_prefix() {
    let id = InviteId::generate(rt::unix_time(), Duration::from_secs(60)).unwrap();
    let claims = Claims::new(id).with_name_prefix("tab-".parse().unwrap());
    let seeds = vec!["127.0.0.1:9".to_owned()];
    let invite = Invite::issue(&ClusterSecret::generate(), claims, "c".to_owned(), seeds);
    let word = invite.unwrap().to_text().to_string();
    let message = refusal(&format!(r#"{{"id":"i","invite":"{word}"}}"#)).await;
    assert!(message.starts_with("id: "), "{message}");
    assert!(message.contains("\"tab-\""), "{message}");
}

#[wasm_bindgen_test]
async fn keys_may_come_from_an_object_without_a_prototype() {
    let options = r#"({cluster: "c", id: "i", seeds: ["127.0.0.1:9"], trustAnyone: true,
        keyValues: Object.assign(Object.create(null), {a: "b"})})"#;
    let options = js_sys::eval(options).unwrap();
    let node = GossipNode::join(options.unchecked_into()).await;
    let value = node.unwrap().get(&"a".into()).unwrap();
    assert_eq!(value.as_deref(), Some("b"));
}

#[wasm_bindgen_test]
fn generated_keys_and_secrets_differ_each_time() {
    assert_ne!(generate_secret_key(), generate_secret_key());
    assert_ne!(generate_cluster_secret(), generate_cluster_secret());
}
