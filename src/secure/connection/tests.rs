use std::net::Ipv4Addr;

use futures::FutureExt as _;

use super::*;
use crate::credential::{NetCredential, Proved, Trust};
use crate::secure::frame::FrameBuffer;
use crate::secure::record::Sealer;
use crate::secure::stream::Packer;
use crate::secure::{Endpoints, SecureConfig, Suite};

const SUITE: Suite = Suite::ChaChaPoly;
const PROBE: [u8; 4] = 0xFFFF_FFFE_u32.to_be_bytes();
const ANSWER: [u8; 4] = 0xFFFF_FFFD_u32.to_be_bytes();
/// A goodbye with the code 7.
const GOODBYE: [u8; 6] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 7];

/// A carrier that delivers these frames, then fails or ends, and takes everything.
struct Carrier(VecDeque<BytesMut>, Option<io::ErrorKind>);

impl FrameReader for Carrier {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        match (self.0.pop_front(), self.1) {
            (None, Some(kind)) => Err(kind.into()),
            (frame, _) => Ok(frame.map(FrameEvent::Frame)),
        }
    }
}

impl FrameWriter for Carrier {
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        while frames.pop().is_some() {}
        Ok(())
    }
    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the output of a future that waits for nothing.
fn now<F: Future>(future: F) -> F::Output {
    future.now_or_never().expect("it waits for something")
}

fn sealer() -> Sealer {
    Sealer::new(SUITE, &[1; 32], 100).unwrap()
}

/// Returns a connection to a peer that sends these records, after which the carrier fails or ends.
fn receiver(
    plaintexts: &[&[u8]],
    fails: Option<io::ErrorKind>,
) -> SecureConnection<Carrier, Carrier> {
    let mut sealing = sealer();
    let records = plaintexts.iter().map(|plaintext| {
        let mut record = BytesMut::from(&[0; 2][..]);
        record.extend_from_slice(plaintext);
        sealing.seal(&mut record, 0).unwrap();
        record.split_off(2)
    });
    let addr = (Ipv4Addr::LOCALHOST, 1).into();
    SecureConnection::new(
        Carrier(records.collect(), fails),
        Carrier(VecDeque::new(), None),
        &HandshakeParams {
            endpoints: Endpoints {
                local: addr,
                remote: addr,
            },
            alpn: &[],
            credential: &NetCredential::generate(Trust::dangerously_anyone()),
            config: &SecureConfig::default(),
            memory: &SecureConfig::default().receive_memory(),
        },
        Established {
            remote_identity: Identity::UNPROVED,
            proved: Proved::IDENTITY,
            alpn: Alpn::from_static(b"test"),
            observed_addr: None,
            stated_addr: None,
            packer: Packer::new(sealer()),
            opener: Opener::new(SUITE, &[1; 32], 100).unwrap(),
        },
    )
}

#[test]
fn a_record_full_of_control_words_does_not_keep_a_receiver_from_yielding() {
    const WORDS: usize = 16_000;
    for word in [ANSWER, PROBE] {
        let mut record = word.repeat(WORDS);
        record.extend_from_slice(b"\0\0\0\x01a");
        let connection = receiver(&[&record], None);
        let mut receiving = pin!(connection.recv());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut polls = 0;
        let received = loop {
            polls += 1;
            if let Poll::Ready(received) = receiving.as_mut().poll(&mut cx) {
                break received;
            }
            assert!(polls < WORDS);
        };
        assert_eq!(received.unwrap().unwrap(), "a");
        assert!(polls > WORDS / 100, "{polls} polls");
    }
}

#[test]
fn a_goodbye_ends_the_messages_with_the_call_after_those_that_came_with_it() {
    let with_message = [&b"\0\0\0\x01a"[..], &GOODBYE].concat();
    for (record, calls) in [(&with_message[..], 1), (&GOODBYE, 0)] {
        let connection = receiver(&[record], None);
        let mut received = Vec::new();
        for _ in 0..calls {
            assert!(now(connection.recv_many(&mut received)).unwrap());
        }
        for _ in 0..2 {
            assert!(!now(connection.recv_many(&mut received)).unwrap());
            assert_eq!(received.len(), calls);
        }
        let reason = now(connection.watch_close());
        assert!(matches!(reason, CloseReason::Remote(CloseCode(7))));
    }
}

#[test]
fn a_carrier_that_fails_is_told_from_one_that_ends_early() {
    let error = |fails| {
        let error = now(receiver(&[], fails).recv()).unwrap_err();
        error.downcast::<FrameError>().unwrap()
    };
    for early in [None, Some(io::ErrorKind::UnexpectedEof)] {
        assert!(matches!(error(early), FrameError::Truncated));
    }
    let reset = error(Some(io::ErrorKind::ConnectionReset));
    assert!(matches!(reset, FrameError::Carrier { .. }), "{reset}");
}

#[test]
fn the_debug_text_names_the_peer_the_protocol_and_the_end() {
    let connection = receiver(&[], None);
    let text = format!("{connection:?}");
    let peer = connection.remote_identity();
    for part in ["127.0.0.1:1", &format!("{peer:?}"), "test", "end: None"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    now(connection.recv()).unwrap_err();
    let text = format!("{connection:?}");
    assert!(text.contains("Truncated"), "{text}");
}
