//! Runs the examples and checks their output. Each example is included here as a module, so that it
//! is linked with the tests; only its `main` is not used.

#[path = "../../../examples/custom_message.rs"]
#[expect(dead_code, reason = "`main` is not run")]
mod custom_message;
#[cfg(unix)]
#[path = "../../../examples/custom_network.rs"]
#[expect(dead_code, reason = "`main` is not run")]
pub(crate) mod custom_network;
#[path = "../../../examples/driver_loop.rs"]
#[expect(dead_code, reason = "`main` is not run")]
mod driver_loop;
#[cfg(feature = "axum")]
mod embedding;
#[path = "../../../examples/member.rs"]
#[expect(dead_code, reason = "`main` is not run")]
mod member;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gossip_transport::message::{DecodeError, EncodeError};
use gossip_transport::{ClusterSecret, Message as _};

use crate::support::{ANY_PORT, soon, until};
use custom_message::Line;
use driver_loop::Driver;

/// Lines that an example prints.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<String>>>);

impl Output {
    fn printer(&self) -> impl FnMut(String) + Send + use<> {
        let lines = Arc::clone(&self.0);
        move |line| lines.lock().unwrap().push(line)
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    async fn contains(&self, line: &str) {
        until(line, async || self.lines().iter().any(|l| l == line)).await;
    }
}

#[tokio::test]
async fn a_member_prints_the_others_and_each_change_of_them_once() {
    let secret = ClusterSecret::generate();
    let ada = member::join(&secret, "ada", ANY_PORT, Vec::new())
        .await
        .unwrap();
    let seed = ada.id().gossip_advertise_addr.to_string();
    let bob = member::join(&secret, "bob", ANY_PORT, vec![seed])
        .await
        .unwrap();
    let output = Output::default();
    let ada = Arc::new(ada);
    let printing = {
        let (ada, print) = (Arc::clone(&ada), output.printer());
        tokio::spawn(async move { member::print_changes(&ada, print).await })
    };
    output
        .contains("bob is live, greeting: \"hello from bob\"")
        .await;
    bob.set("greeting", "still here").unwrap();
    output
        .contains("bob is live, greeting: \"still here\"")
        .await;

    let lines = output.lines();
    let changed = lines.windows(2).all(|pair| pair[0] != pair[1]);
    assert!(changed, "a line was printed twice: {lines:?}");
    printing.abort();
}

#[tokio::test]
async fn a_custom_message_travels_there_and_back() {
    let output = Output::default();
    soon(custom_message::run(output.printer())).await.unwrap();
    assert_eq!(
        output.lines(),
        [
            "bob reads in room 7: Is anyone here?",
            "ada reads in room 7: Yes, I am.",
        ]
    );
}

#[test]
fn bytes_that_are_not_a_custom_message_are_refused() {
    let room = DecodeError::Truncated {
        field: "the room",
        missing: 1,
    };
    assert_eq!(Line::decode(Bytes::from_static(&[0])), Err(room));
    let text = DecodeError::NotUtf8 {
        field: "the text",
        valid_up_to: 1,
    };
    let bytes = Bytes::from_static(b"\0\x07a\xff");
    assert_eq!(Line::decode(bytes), Err(text));
    // A rule of the type's own.
    let rule = "the rooms are counted from 1";
    let decoded = Line::decode(Bytes::from_static(b"\0\0text")).unwrap_err();
    assert_eq!(decoded, DecodeError::custom(rule));
    assert_eq!(decoded.to_string(), rule);
    let text = String::new();
    let encoded = Line { room: 0, text }.into_bytes().unwrap_err();
    assert_eq!(encoded, EncodeError::custom(rule));
    assert_eq!(encoded.to_string(), rule);
}

#[cfg(unix)]
#[tokio::test]
async fn a_custom_network_carries_messages_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::default();
    let run = custom_network::run(folder.path(), output.printer());
    soon(run).await.unwrap();
    assert_eq!(
        output.lines(),
        [
            "bob received b\"ping\" from 127.0.0.1:1",
            "ada received b\"pong\" from 127.0.0.1:2",
        ]
    );
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "the socket files are removed");
}

#[tokio::test]
async fn engines_with_a_loop_of_their_own_find_each_other_over_udp() {
    let ada = Driver::bind("ada", ANY_PORT, Vec::new()).await.unwrap();
    let seed = ada.addr().unwrap();
    let bob = Driver::bind("bob", ANY_PORT, vec![seed]).await.unwrap();
    // A datagram that is not a message must change nothing.
    let noise = tokio::net::UdpSocket::bind(ANY_PORT).await.unwrap();
    noise.send_to(b"noise", seed).await.unwrap();

    let (adas, bobs) = (Output::default(), Output::default());
    let running =
        async { tokio::try_join!(ada.run(adas.printer()), bob.run(bobs.printer())).map(|_| ()) };
    let found = async {
        adas.contains("members: bob is live and says \"hello from bob\";")
            .await;
        bobs.contains("members: ada is live and says \"hello from ada\";")
            .await;
    };
    tokio::select! {
        ended = running => panic!("a loop has ended: {ended:?}"),
        () = found => {}
    }
}
