//! Joining from JavaScript in a browser: errors, how far it has come, and giving it up.
//!
//! The native nodes are those of `cargo xtask test`.

#![cfg(target_family = "wasm")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use gossip_transport::rt::{self, Instant};
use gossip_web::{GossipNode, generate_cluster_secret};
use js_sys::{Error, Reflect, TypeError};
use support::{join, js, liveness, options, soon, text};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

#[wasm_bindgen_test]
async fn a_malformed_seed_is_a_type_error_at_once() {
    for seed in [
        "http://node.example:7946",
        "node.example",
        "127.0.0.1",
        "node.example:99999",
        "127.0.0.1:99999",
        "ws://node.example:99999",
        "node.example:",
        "node.example/path:7946",
        "127.0.0.1:0",
        "",
    ] {
        let options = options(&format!("options.seeds.push('{seed}')")).await;
        let joined = GossipNode::join(options.unchecked_into()).await;
        let error = JsValue::from(joined.map(drop).unwrap_err());
        let error = error.dyn_into::<TypeError>().unwrap();
        let message = String::from(error.message());
        assert!(message.starts_with("seeds"), "{seed}: {message}");
        assert!(message.contains(seed), "{seed}: {message}");
        assert!(message.contains("wss://"), "{seed}: {message}");
    }
}

#[wasm_bindgen_test]
async fn what_a_retry_cannot_fix_is_an_error_with_a_code_and_a_remedy() {
    let secret = generate_cluster_secret();
    let wrong_secret = format!("options.secret = '{secret}'");
    let identity = join("").await.identity();
    let untrusted = format!("options.trust = ['{identity}']");
    for (change, code, remedy) in [
        (
            "options.cluster = 'other'",
            "wrong-cluster",
            "name of the cluster",
        ),
        (&wrong_secret, "handshake-refused", "same cluster secret"),
        (&untrusted, "untrusted-peer", "list of trusted keys"),
        (
            "options.seeds = ['0.0.0.0:7946']",
            "not-dialable",
            "check its address",
        ),
        (
            "options.seeds = ['ws://127.0.0.1:6000/']",
            "not-permitted",
            "another port",
        ),
        (
            "options.seeds = [`ws://${nodes.scripted.raw}/text`]",
            "not-our-protocol",
            "check the address",
        ),
        (
            "options.seeds = [`ws://${nodes.scripted.raw}/long`]",
            "not-our-protocol",
            "check the address",
        ),
    ] {
        let node = join(change).await;
        let began = Instant::now();
        let error = soon(node.connected(&JsValue::UNDEFINED)).await.unwrap_err();
        assert_eq!(text(&error, "code"), code, "{error:?}");
        let message = String::from(error.dyn_into::<Error>().unwrap().message());
        assert!(message.contains(remedy), "{code}: {message}");
        let has_no_seed = code == "wrong-cluster" || message.contains("ws://127.0.0.1:");
        assert!(has_no_seed || message.contains("0.0.0.0:7946"), "{message}");
        assert!(began.elapsed() < Duration::from_secs(5), "{code}");
        if code != "wrong-cluster" {
            let seeds = JsValue::from(node.seeds().map_err(JsValue::from).unwrap());
            let seed = Reflect::get(&seeds, &0.into()).unwrap();
            assert_eq!(text(&seed, "code"), code);
            assert_eq!(text(&seed, "error"), message);
        }
        node.leave().await.unwrap();
    }
}

#[wasm_bindgen_test]
async fn a_node_without_websockets_reports_it() {
    js("globalThis.kept = WebSocket; delete globalThis.WebSocket");
    let node = join("").await;
    let connected = soon(node.connected(&JsValue::UNDEFINED)).await;
    js("globalThis.WebSocket = kept");
    let error = connected.unwrap_err();
    assert_eq!(text(&error, "code"), "not-permitted");
    let message = String::from(error.dyn_into::<Error>().unwrap().message());
    assert!(message.contains("has no WebSocket"), "{message}");
    // The class is there again.
    let connected = async {
        while node.connected(&JsValue::UNDEFINED).await.is_err() {
            rt::sleep(Duration::from_millis(50)).await;
        }
    };
    soon(connected).await;
    node.leave().await.unwrap();
}

#[wasm_bindgen_test]
async fn a_node_that_waits_shows_how_far_it_has_come_with_each_seed() {
    let node = join("options.seeds.unshift(`127.0.0.77:${port}`)").await;
    let seeds = || {
        let seeds: js_sys::Array = node
            .seeds()
            .map_err(JsValue::from)
            .unwrap()
            .unchecked_into();
        (seeds.get(0), seeds.get(1))
    };
    soon(node.connected(&JsValue::UNDEFINED)).await.unwrap();
    let shown = async {
        while text(&seeds().0, "error").is_empty() || text(&seeds().1, "state") != "connected" {
            rt::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(shown).await;
    let (dead, live) = seeds();
    assert!(text(&dead, "seed").starts_with("127.0.0.77:"));
    assert!(text(&dead, "error").contains("a node listens"), "{dead:?}");
    assert_eq!(text(&dead, "code"), "", "a retry may succeed");
    let failures = Reflect::get(&dead, &"failures".into()).unwrap();
    assert!(failures.as_f64().unwrap() >= 1.0);
    assert!(text(&live, "seed").starts_with("ws://127.0.0.1:"));
    assert_eq!(text(&live, "error"), "");
    node.leave().await.unwrap();
    assert!(node.seeds().is_err());
}

#[wasm_bindgen_test]
async fn a_page_that_has_left_is_not_superseded_by_one_of_its_name_with_another_key() {
    let start = "options.id = globalThis.restarts ??= `restarts-${Math.random()}`";
    let first = join(start).await;
    soon(first.connected(&JsValue::UNDEFINED)).await.unwrap();
    first.leave().await.unwrap();
    // The native node still knows the first one.
    let second = join(start).await;
    let generations = || {
        let name = JsValue::from(second.id());
        let named: js_sys::Array = second.members_named(&name).unwrap().unchecked_into();
        let flag = |it: &JsValue, name: &str| Reflect::get(it, &name.into()).unwrap().as_bool();
        named
            .iter()
            .map(|it| {
                (
                    flag(&it, "self"),
                    flag(&it, "superseded"),
                    text(&it, "liveness"),
                )
            })
            .collect::<Vec<_>>()
    };
    let both = async {
        while generations().len() < 2 {
            rt::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(both).await;
    // Names are compared between core members only, and nothing shows this page that the other one was a core member.
    let (yes, no) = (Some(true), Some(false));
    let mut generations = generations();
    generations.sort();
    let [left, myself] = ["left", "myself"].map(str::to_owned);
    assert_eq!(generations, [(no, no, left), (yes, no, myself)]);
    second.leave().await.unwrap();
}

#[wasm_bindgen_test]
async fn a_page_that_is_closed_leaves_and_one_that_is_kept_does_not() {
    let (closed, other) = (join("").await, join("").await);
    let is_live = async {
        while liveness(&other, &closed.id()) != "live" {
            rt::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(is_live).await;
    let hide = |persisted: bool| {
        let event = format!("new PageTransitionEvent('pagehide', {{ persisted: {persisted} }})");
        js(&format!("dispatchEvent({event})"));
    };
    hide(true);
    closed.set(&"k".into(), &"v".into()).unwrap();
    let has_heard_more = async {
        let has_it = || {
            let members: js_sys::Array = other
                .members()
                .map_err(JsValue::from)
                .unwrap()
                .unchecked_into();
            let mut of = members.iter().filter(|it| text(it, "id") == closed.id());
            of.any(|it| text(&Reflect::get(&it, &"keys".into()).unwrap(), "k") == "v")
        };
        while !has_it() {
            assert_ne!(liveness(&other, &closed.id()), "left");
            rt::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(has_heard_more).await;
    assert_ne!(liveness(&other, &closed.id()), "left");
    // The page goes on nevertheless, so that its next round revives it.
    let has_left = async {
        loop {
            hide(false);
            for _ in 0..20 {
                if liveness(&other, &closed.id()) == "left" {
                    return;
                }
                rt::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    soon(has_left).await;
    let is_back = async {
        while liveness(&other, &closed.id()) != "live" {
            rt::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(is_back).await;
    closed.leave().await.unwrap();
    other.leave().await.unwrap();
}

#[wasm_bindgen_test]
async fn an_aborted_wait_rejects_with_the_reason_and_stops_dialling() {
    js("globalThis.made = [];
        globalThis.kept = WebSocket;
        globalThis.WebSocket = class extends kept {
            constructor(...all) { super(...all); made.push(this); }
        }");
    let made = || js("return made.length").as_f64().unwrap();
    let node = join("options.seeds = [nodes.scripted.silent, `127.0.0.77:${port}`]").await;
    let controller = js("return globalThis.controller = new AbortController()");
    let waiting = node.connected(&controller);
    // The seed that refuses is dialled again and again.
    let aborted = async {
        while made() < 4.0 {
            rt::sleep(Duration::from_millis(20)).await;
        }
        js("controller.abort(new Error('enough'))");
    };
    let waiting = waiting.into_future();
    let (error, ()) = soon(futures::future::join(waiting, aborted)).await;
    let error = error.unwrap_err().dyn_into::<Error>().unwrap();
    assert_eq!(String::from(error.message()), "enough");
    let at_once = made();
    let open = js("return made.filter((it) => it.readyState < WebSocket.CLOSING).length");
    assert_eq!(open, 0.0);
    assert!(node.members().is_err(), "the node must have left");
    // Longer than any wait between the first dials.
    rt::sleep(Duration::from_secs(1)).await;
    assert!((made() - at_once).abs() < 0.5, "dialled after the end");
    js("globalThis.WebSocket = kept");

    // A signal that was aborted before.
    let node = join("").await;
    let aborted = js("return { signal: AbortSignal.abort() }");
    let error = soon(node.connected(&aborted)).await.unwrap_err();
    assert_eq!(text(&error, "name"), "AbortError");
    // One that is aborted too late.
    let node = join("").await;
    let controller = js("return globalThis.controller = new AbortController()");
    soon(node.connected(&controller)).await.unwrap();
    js("controller.abort()");
    assert!(node.members().is_ok());
    node.leave().await.unwrap();
}

#[wasm_bindgen_test]
async fn the_options_of_connected_are_checked() {
    let node = join("").await;
    for (options, named) in [
        ("return 5", "connected"),
        ("return { signal: 5 }", "signal"),
        ("return { signal: new AbortController() }", "signal"),
        ("return new AbortController().signal", "{ signal }"),
    ] {
        let error = node.connected(&js(options)).await.unwrap_err();
        let error = error.dyn_into::<TypeError>().unwrap();
        assert!(String::from(error.message()).contains(named));
    }
    for options in ["return null", "return {}", "return { signal: null }"] {
        soon(node.connected(&js(options))).await.unwrap();
    }
    node.leave().await.unwrap();
}
