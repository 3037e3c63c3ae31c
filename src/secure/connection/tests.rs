use std::net::Ipv4Addr;

use super::*;
use crate::credential::{NetCredential, Trust};
use crate::secure::frame::FrameBuffer;
use crate::secure::record::Sealer;
use crate::secure::stream::Outbox;
use crate::secure::{Endpoints, SecureConfig, Suite};

/// A carrier that delivers these frames and takes everything.
struct Carrier(VecDeque<BytesMut>);

impl FrameReader for Carrier {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        Ok(self.0.pop_front().map(FrameEvent::Frame))
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

#[test]
fn a_record_full_of_control_words_does_not_keep_a_receiver_from_yielding() {
    const WORDS: usize = 16_000;
    let suite = Suite::ChaChaPoly;
    let sealer = || Sealer::new(suite, &[1; 32], 100).unwrap();
    for word in [0xFFFF_FFFD_u32, 0xFFFF_FFFE] {
        let mut record = BytesMut::from(&[0; 2][..]);
        record.extend_from_slice(&word.to_be_bytes().repeat(WORDS));
        record.extend_from_slice(b"\0\0\0\x01a");
        sealer().seal(&mut record, 0).unwrap();
        let addr = (Ipv4Addr::LOCALHOST, 1).into();
        let connection = SecureConnection::new(
            Carrier([record.split_off(2)].into()),
            Carrier(VecDeque::new()),
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
                alpn: Alpn::from_static(b"test"),
                observed_addr: None,
                stated_addr: None,
                outbox: Outbox::new(sealer()),
                opener: Opener::new(suite, &[1; 32], 100).unwrap(),
            },
        );
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
