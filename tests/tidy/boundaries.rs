//! Rules about the few places that may know the target, the runtimes and upstream's crate.

use crate::assert_none;
use crate::source::sources;

/// Asserts that no line of code outside `homes` has one of `words`.
fn only_at_home(rule: &str, words: &[&str], homes: &[&str]) {
    let mut breaches = Vec::new();
    for source in sources(&["src"]) {
        if source.is_in(homes) || source.is_unit_test() {
            continue;
        }
        for (number, line) in source.lines() {
            if words.iter().any(|word| line.contains(word)) {
                breaches.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(rule, &breaches);
}

#[test]
fn only_rt_and_the_mod_lines_of_lib_rs_depend_on_the_target() {
    only_at_home(
        "conditional compilation by target belongs to src/rt and to the mod lines of src/lib.rs",
        &["target_family", "target_arch", "target_os"],
        &["src/rt/", "src/lib.rs"],
    );
}

#[test]
fn in_lib_rs_the_target_chooses_modules_and_nothing_else() {
    let sources = sources(&["src"]);
    let lib = sources.iter().find(|source| source.path == "src/lib.rs");
    let code = lib.unwrap().lines();
    for pair in code.windows(2) {
        let (this, next) = (&pair[0].1, &pair[1].1);
        if this.contains("target_family") {
            assert!(next.starts_with("pub mod "), "{this} {next}");
        }
    }
}

#[test]
fn only_websocket_and_rt_know_the_browser() {
    only_at_home(
        "web_sys and wasm_bindgen belong to src/websocket and src/rt/web.rs",
        &[
            "web_sys",
            "wasm_bindgen",
            "js_sys",
            "gloo_timers",
            "web_time",
        ],
        &["src/websocket/", "src/rt/web.rs"],
    );
}

#[test]
fn only_the_native_networks_and_rt_know_tokio() {
    only_at_home(
        "tokio belongs to src/acme, src/http_service, src/tcp, src/udp, src/chitchat and src/rt/native.rs",
        &["tokio"],
        &[
            "src/acme/",
            "src/http_service/",
            "src/tcp/",
            "src/udp/",
            "src/chitchat/",
            "src/rt/native.rs",
        ],
    );
}

#[test]
fn only_src_chitchat_knows_the_published_chitchat_crate() {
    only_at_home(
        "chitchat_013 belongs to src/chitchat, which nothing else uses",
        &["chitchat_013", "crate::chitchat"],
        &["src/chitchat/"],
    );
}

#[test]
fn the_engine_has_no_clock_no_runtime_and_no_socket() {
    let mut breaches = Vec::new();
    for source in sources(&["src/gossip/engine"]) {
        for (number, line) in source.lines() {
            for word in [
                "crate::rt",
                "crate::net",
                "transport_layer",
                "Instant",
                "async ",
                "await",
            ] {
                if line.contains(word) {
                    breaches.push(format!("{}:{number} has {word:?}", source.path));
                }
            }
        }
    }
    assert_none(
        "time is an argument of the engine, and sending is an output",
        &breaches,
    );
}
