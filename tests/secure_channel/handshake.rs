//! Who gets in, who does not, and what a stranger learns.

use bytes::Bytes;
use gossip_transport::net::NetConnection;
use gossip_transport::secure::{HandshakeError, Suite};
use gossip_transport::{ClusterSecret, Identity, NetCredential, Trust};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn two_ends_meet_and_know_each_other() {
    for secret in [false, true] {
        for suite in SUITES {
            let mut meeting = if secret {
                Meeting::with_secret()
            } else {
                Meeting::default()
            };
            meeting.suite = suite;
            let (dialled, accepted) = meeting.connect().await;

            assert_eq!(dialled.local_identity(), meeting.dialler.identity());
            assert_eq!(dialled.remote_identity(), meeting.acceptor.identity());
            assert_eq!(accepted.local_identity(), meeting.acceptor.identity());
            assert_eq!(accepted.remote_identity(), meeting.dialler.identity());
            assert_eq!(dialled.local_addr(), dialler_addr());
            assert_eq!(dialled.remote_addr(), acceptor_addr());
            assert_eq!(accepted.local_addr(), acceptor_addr());
            assert_eq!(accepted.remote_addr(), dialler_addr());
            assert_eq!(dialled.alpn_negotiated(), &GOSSIP);
            assert_eq!(accepted.alpn_negotiated(), &GOSSIP);

            dialled.send(Bytes::from_static(b"there")).await.unwrap();
            assert_eq!(recv(&accepted).await, "there");
            accepted.send(Bytes::from_static(b"back")).await.unwrap();
            assert_eq!(recv(&dialled).await, "back");
        }
    }
}
