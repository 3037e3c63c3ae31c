//! The limits of the WebSocket network.

use std::time::Duration;

use gossip_transport::net::NetTransport as _;
use gossip_transport::secure::SecureConfig;
use gossip_transport::websocket::{WebSocketConfig, WebSocketTransport};
use gossip_transport::{ConfigError, NetCredential, Trust};
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen_test]
fn a_value_out_of_bounds_is_an_error_that_names_it() {
    let config = WebSocketConfig::default;
    for (config, expected) in [
        (config(), Ok(())),
        (
            config().with_connect_timeout(Duration::ZERO),
            Err("connect_timeout is 0ns, but must be at least 1ms"),
        ),
        (
            config().with_open_timeout(Duration::ZERO),
            Err("open_timeout is 0ns, but must be at least 1ms"),
        ),
        (
            config().with_max_unread_bytes(65_598),
            Err("max_unread_bytes is 65598, but must be at least 65599"),
        ),
        (config().with_max_unread_bytes(65_599), Ok(())),
        (
            config().with_secure(SecureConfig::default().with_max_message_len(0)),
            Err("secure.max_message_len is 0, but must be at least 1"),
        ),
    ] {
        let result = config.validate().map_err(|error| error.to_string());
        assert_eq!(result, expected.map_err(str::to_owned), "{config:?}");
    }
}

#[wasm_bindgen_test]
async fn listening_and_dialling_report_an_invalid_configuration() {
    let config = WebSocketConfig::default().with_max_unread_bytes(0);
    let transport = WebSocketTransport::new(config);
    let credential = NetCredential::generate(Trust::dangerously_anyone());
    let unspecified = ([0, 0, 0, 0], 0).into();
    let listened = transport
        .create_listener(unspecified, &[], &credential)
        .await;
    let peer = ([127, 0, 0, 1], 7000).into();
    let dialled = transport.connect(peer, &[], &credential).await;
    for error in [listened.unwrap_err(), dialled.unwrap_err()] {
        let error: ConfigError = error.downcast().unwrap();
        assert_eq!(error.field, "max_unread_bytes");
    }
}
