//! Names that `resolve` accepts, and addresses that a browser can listen on.

use std::net::SocketAddr;

use gossip_transport::net::{ConnectError, NetListener as _, NetTransport as _};
use gossip_transport::websocket::{CannotListen, NameError, WebSocketTransport};
use gossip_transport::{NetCredential, Trust};
use wasm_bindgen_test::wasm_bindgen_test;

use super::soon;

async fn resolve(transport: &WebSocketTransport, name: &str) -> SocketAddr {
    let addrs = transport.resolve(name).await.unwrap();
    assert_eq!(addrs.len(), 1, "{name}");
    addrs[0]
}

fn stands_in(addr: SocketAddr) -> bool {
    addr.to_string().starts_with("[100::")
}

#[wasm_bindgen_test]
async fn an_ip_address_resolves_to_itself_in_every_spelling() {
    let transport = WebSocketTransport::default();
    for (name, addr) in [
        ("192.0.2.1:7000", "192.0.2.1:7000"),
        (" 192.0.2.1:7000\n", "192.0.2.1:7000"),
        ("[2001:db8::1]:7000", "[2001:db8::1]:7000"),
        ("localhost:7000", "127.0.0.1:7000"),
        ("ws://192.0.2.1:7000", "192.0.2.1:7000"),
        ("ws://192.0.2.1:7000/", "192.0.2.1:7000"),
        ("WS://192.0.2.1/", "192.0.2.1:80"),
        ("ws://[2001:db8::1]:7000/", "[2001:db8::1]:7000"),
        ("ws://localhost:7000", "127.0.0.1:7000"),
    ] {
        let resolved = resolve(&transport, name).await;
        assert_eq!(resolved, addr.parse().unwrap(), "{name}");
    }
}

#[wasm_bindgen_test]
async fn a_url_or_host_name_resolves_to_an_address_that_stands_for_it() {
    let transport = WebSocketTransport::default();
    let names = [
        ("node.example:7000", 7000),
        ("ws://node.example/", 80),
        ("wss://node.example/", 443),
        ("wss://192.0.2.1:7000/", 7000),
        ("ws://192.0.2.1:7000/relay", 7000),
        ("ws://192.0.2.1:7000/?a=b", 7000),
    ];
    let mut seen = Vec::new();
    for (name, port) in names {
        let addr = resolve(&transport, name).await;
        assert!(stands_in(addr), "{name} resolved to {addr}");
        assert_eq!(addr.port(), port, "{name}");
        assert!(
            !seen.contains(&addr),
            "{name} shares {addr} with another name"
        );
        seen.push(addr);
        // A clone and another transport resolve it to the same address.
        assert_eq!(addr, resolve(&transport.clone(), name).await);
        assert_eq!(addr, resolve(&WebSocketTransport::default(), name).await);
    }
    let lower = resolve(&transport, "wss://node.example/").await;
    assert_eq!(lower, resolve(&transport, "WSS://NODE.example:443").await);
}

#[wasm_bindgen_test]
async fn an_invalid_name_is_a_typed_error_that_lists_the_valid_forms() {
    let transport = WebSocketTransport::default();
    for name in [
        "",
        "node.example",
        "node.example:port",
        "node.example:70000",
        "node.example:0",
        "http://node.example/",
        "ws://",
        "ws://node.example/#fragment",
        ":7000",
        // The port would be that of the URL's scheme.
        "node.example:",
        "node.example/path:7000",
        "node.example?a:7000",
        "node.example:7000/path",
        "name@node.example:7000",
        "127.0.0.1:0",
        "[::1]:0",
    ] {
        let error = transport.resolve(name).await.unwrap_err();
        assert!(error.downcast_ref::<NameError>().is_some(), "{name}");
        assert!(error.to_string().contains("wss://"), "{error}");
    }
}

#[wasm_bindgen_test]
async fn the_table_of_names_is_bounded_and_forgets_the_least_recently_used_name() {
    let transport = WebSocketTransport::default();
    // None of these can be dialled. A forgotten name and a failed dial have different errors.
    let name = |i: usize| format!("ws://127.0.0.77:9/{i}");
    let first = resolve(&transport, &name(0)).await;
    let second = resolve(&transport, &name(1)).await;
    for i in 2..256 {
        resolve(&transport, &name(i)).await;
    }
    resolve(&transport, &name(0)).await;
    resolve(&transport, &name(256)).await;
    let forgotten = soon(transport.open(second)).await.unwrap_err();
    assert!(matches!(forgotten, ConnectError::NotDialable { .. }));
    let failed = soon(transport.open(first)).await.unwrap_err();
    assert!(!matches!(failed, ConnectError::NotDialable { .. }));
}

#[wasm_bindgen_test]
async fn a_browser_can_listen_only_on_the_unspecified_address() {
    let transport = WebSocketTransport::default();
    let credential = NetCredential::generate(Trust::dangerously_anyone());
    for addr in ["0.0.0.0:0", "[::]:0"] {
        let addr: SocketAddr = addr.parse().unwrap();
        let listener = transport.create_listener(addr, &[], &credential).await;
        assert_eq!(listener.unwrap().local_addr(), addr);
    }
    for addr in ["127.0.0.1:0", "0.0.0.0:7000"] {
        let addr: SocketAddr = addr.parse().unwrap();
        let listener = transport.create_listener(addr, &[], &credential).await;
        let error = listener.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&CannotListen { addr }));
        assert!(error.to_string().contains("cannot listen"), "{error}");
    }
}
