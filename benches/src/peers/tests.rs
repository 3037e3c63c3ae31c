//! The peers inside TLS complete handshakes, carry whole messages, and agree on one cipher.

use std::time::Duration;

use bytes::Bytes;

use super::{Negotiated, OurTls, OurWss, OurWssAes, TlsFrames, TlsWebSocket, negotiated};
use crate::handshakes::handshakes;
use crate::peer::{Filled as _, Node};
use crate::scenario::throughput;

/// Takes small samples, which fail unless each connection carries messages both ways, and unless all of
/// their bytes arrive.
async fn takes_samples<N: Node<Message = Bytes>>() {
    let sample = handshakes::<N>(4, 2).await.unwrap();
    assert!(sample.per_second > 0.0);
    for len in [64, 64 << 10] {
        let sample = throughput::<N>(1, Bytes::filled(len), Duration::from_millis(1));
        assert!(sample.await.unwrap().per_second > 0.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_peer_inside_tls_carries_whole_messages() {
    takes_samples::<OurTls>().await;
    takes_samples::<OurWss>().await;
    takes_samples::<OurWssAes>().await;
    takes_samples::<TlsFrames>().await;
    takes_samples::<TlsWebSocket>().await;
}

#[tokio::test]
async fn all_sides_agree_on_the_same_cipher_and_resume_no_session() {
    for (sides, negotiated) in negotiated().await.unwrap() {
        assert_eq!(negotiated, Negotiated::expected(), "{sides}");
    }
}
