//! The frames of the handshake, and members that pose as such.

use super::*;
use crate::credential::{Holder, Invite, InviteId, Trust};
use std::sync::Arc;

use futures::FutureExt as _;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

#[test]
fn a_carrier_that_the_peer_has_closed_is_told_from_one_that_has_failed() {
    for kind in [
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::UnexpectedEof,
    ] {
        assert!(matches!(carrier(kind.into()), HandshakeError::ClosedByPeer));
    }
    let failed = carrier(io::ErrorKind::InvalidData.into());
    assert!(matches!(failed, HandshakeError::Carrier(_)));
}

/// Delivers frames of these lengths.
struct Frames(Vec<usize>);

impl FrameReader for Frames {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        let frame = self.0.pop().map(BytesMut::zeroed);
        Ok(frame.map(FrameEvent::Frame))
    }
}

#[test]
fn a_frame_of_the_handshake_may_be_as_long_as_the_limit_and_no_longer() {
    let mut frames = Frames(vec![MAX_HANDSHAKE_LEN + 1, MAX_HANDSHAKE_LEN, 0]);
    let mut read = || read_handshake(&mut frames).now_or_never().unwrap();
    for len in [0, MAX_HANDSHAKE_LEN] {
        assert_eq!(read().unwrap().len(), len);
    }
    let refused = read();
    let Err(HandshakeError::Oversized { len, max }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((len, max), (MAX_HANDSHAKE_LEN + 1, MAX_HANDSHAKE_LEN));
}

/// A carrier in memory, one direction of it.
#[derive(Clone, Default)]
struct Pipe(Arc<std::sync::Mutex<std::collections::VecDeque<BytesMut>>>);

impl FrameReader for Pipe {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        loop {
            if let Some(frame) = self.0.lock().unwrap().pop_front() {
                return Ok(Some(FrameEvent::Frame(frame)));
            }
            crate::rt::sync::yield_now().await;
        }
    }
}

impl FrameWriter for Pipe {
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        while let Some(frame) = frames.pop() {
            self.0.lock().unwrap().push_back(BytesMut::from(&frame[..]));
        }
        Ok(())
    }
    async fn ping(&mut self) -> io::Result<()> {
        Ok(())
    }
    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Answers a holder of `invite` with nothing but that invite, and seals what `confirm` returns for the
/// challenge and the hash of the handshake.
async fn pose(
    (mut reader, mut writer): (Pipe, Pipe),
    invite: &Invite,
    confirm: impl Fn(&[u8; 32], &[u8; 32]) -> Vec<u8>,
) {
    let credential = NetCredential::generate(Trust::dangerously_anyone());
    let preface = Preface::decode(&read_frame(&mut reader).await.unwrap()).unwrap();
    let claims = read_frame(&mut reader).await.unwrap();
    let psk = invite.key().psk();
    let mut noise = start(preface, Side::Acceptor, &credential, Some(&psk), &claims).unwrap();
    let first = read_frame(&mut reader).await.unwrap();
    let offer = AlpnOffer::decode(&noise.read(&first).unwrap()).unwrap();
    let reply = Reply {
        alpn: offer.alpns[0].clone(),
        observed_addr: None,
        rekey_after: 1 << 20,
        stated_addr: None,
    };
    let mut frames = FrameBuffer::default();
    frames.push(&noise.write(&reply.encode()).unwrap());
    write(&mut writer, &mut frames).await.unwrap();
    let closing = read_frame(&mut reader).await.unwrap();
    let closing = Closing::decode(&noise.read(&closing).unwrap(), true).unwrap();
    let confirmation = confirm(&closing.challenge.unwrap(), &noise.hash());
    let (sealer, _) = noise.split(reply.rekey_after, closing.rekey_after).unwrap();
    let mut packer = Packer::new(sealer);
    packer.confirmation(&confirmation).unwrap();
    write(&mut writer, &mut packer.frames).await.unwrap();
}

/// Returns the result of a holder of `invite` that dials a peer which poses as a core member.
fn dial_poser(
    invite: &Invite,
    confirm: impl Fn(&[u8; 32], &[u8; 32]) -> Vec<u8>,
) -> Result<Established, HandshakeError> {
    let (to_acceptor, to_dialler) = (Pipe::default(), Pipe::default());
    let credential = NetCredential::generate(Trust::invite(invite.clone()));
    let config = crate::secure::SecureConfig::default();
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    let params = HandshakeParams {
        endpoints: crate::secure::Endpoints {
            local: addr,
            remote: addr,
        },
        alpn: &[Alpn::from_static(b"a/1")],
        credential: &credential,
        config: &config,
        memory: &config.receive_memory(),
    };
    let (mut reader, mut writer) = (to_dialler.clone(), to_acceptor.clone());
    let dialling = dial(&mut reader, &mut writer, Suite::ChaChaPoly, &params);
    let posing = pose((to_acceptor.clone(), to_dialler.clone()), invite, confirm);
    let both = futures::future::join(dialling, posing);
    let mut both = std::pin::pin!(both);
    loop {
        if let Some((result, ())) = both.as_mut().now_or_never() {
            return result;
        }
    }
}

/// Returns an invite of the cluster with this secret.
fn invite(secret: &ClusterSecret) -> Invite {
    let time = std::time::Duration::from_secs(60);
    let id = InviteId::generate(crate::rt::unix_time(), time).unwrap();
    Invite::issue(secret, Claims::new(id), "cluster".into(), vec![]).unwrap()
}

fn proof(secret: &ClusterSecret, challenge: &[u8; 32], hash: &[u8; 32]) -> Vec<u8> {
    let proof = CoreProof::new(secret.cluster_key(), challenge, hash).unwrap();
    proof.as_bytes().to_vec()
}

#[test]
fn a_holder_of_the_same_invite_cannot_pose_as_a_core_member() {
    let [own, other] = [(); 2].map(|()| ClusterSecret::generate());
    let invite = invite(&own);
    type Expected = fn(&Result<Established, HandshakeError>) -> bool;
    type Confirm<'a> = &'a dyn Fn(&[u8; 32], &[u8; 32]) -> Vec<u8>;
    let with_proof: Confirm<'_> = &|challenge, hash| proof(&own, challenge, hash);
    let refusal: Confirm<'_> = &|challenge, hash| [proof(&own, challenge, hash), vec![2]].concat();
    let cases: [(&str, Confirm<'_>, Expected); 9] = [
        ("a proof", with_proof, |result| result.is_ok()),
        ("a proof and a refusal", refusal, |result| {
            let reason = crate::credential::Refusal::Revoked;
            matches!(result, Err(HandshakeError::Refused { reason: r }) if *r == reason)
        }),
        ("nothing", &|_, _| Vec::new(), is_not_core),
        ("a refusal that is not proved", &|_, _| vec![2], is_not_core),
        ("zeros", &|_, _| vec![0; 32], is_not_core),
        (
            "the challenge",
            &|challenge, _| challenge.to_vec(),
            is_not_core,
        ),
        (
            "the proof of another cluster",
            &|challenge, hash| proof(&other, challenge, hash),
            is_not_core,
        ),
        (
            "the proof of another handshake",
            &|challenge, _| proof(&own, challenge, &[0; 32]),
            is_not_core,
        ),
        (
            "half a proof",
            &|challenge, hash| proof(&own, challenge, hash)[..31].to_vec(),
            is_not_core,
        ),
    ];
    for (what, confirm, expected) in cases {
        let result = dial_poser(&invite, confirm);
        assert!(expected(&result), "{what}: {:?}", result.err());
    }
}

#[test]
fn a_key_that_is_refused_with_an_invite_for_another_one_is_told_so() {
    let secret = ClusterSecret::generate();
    let of_anyone = invite(&secret);
    let claims = of_anyone.claims().clone();
    let other = Holder::Only(Identity::from_bytes([1; 32]));
    let of_other = claims.with_holder(other);
    let of_other = Invite::issue(&secret, of_other, "cluster".into(), vec![]).unwrap();
    for (invite, expected) in [(of_anyone, Refusal::Key), (of_other, Refusal::Holder)] {
        let result = dial_poser(&invite, |challenge, hash| {
            [proof(&secret, challenge, hash), vec![Refusal::Key.code()]].concat()
        });
        let Err(HandshakeError::Refused { reason }) = result else {
            panic!("{:?}", result.err());
        };
        assert_eq!(reason, expected);
    }
}

fn is_not_core(result: &Result<Established, HandshakeError>) -> bool {
    matches!(result, Err(HandshakeError::NotCore { .. }))
}

/// What a holder seals instead of the proof, which it cannot compute. The proof is changed here to come as close to it as
/// a holder could by luck.
#[derive(Debug, Clone)]
enum Pose {
    Bytes(Vec<u8>),
    Flipped(Index, u8),
    Cut(Index),
    OfHash([u8; 32]),
    OfChallenge([u8; 32]),
    OfCluster,
}

fn any_pose() -> impl Strategy<Value = Pose> {
    prop_oneof![
        vec(any::<u8>(), 0..100).prop_map(Pose::Bytes),
        (any::<Index>(), 0..8_u8).prop_map(|(place, bit)| Pose::Flipped(place, bit)),
        any::<Index>().prop_map(Pose::Cut),
        any::<[u8; 32]>().prop_map(Pose::OfHash),
        any::<[u8; 32]>().prop_map(Pose::OfChallenge),
        Just(Pose::OfCluster),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn nothing_but_the_proof_is_believed_whatever_a_holder_seals(
        pose in any_pose(),
        end in vec(any::<u8>(), 0..40),
    ) {
        let [own, other] = [(); 2].map(|()| ClusterSecret::generate());
        let result = dial_poser(&invite(&own), |challenge, hash| {
            let mut sealed = proof(&own, challenge, hash);
            match &pose {
                Pose::Bytes(bytes) => sealed = bytes.clone(),
                Pose::Flipped(place, bit) => sealed[place.index(CoreProof::LEN)] ^= 1 << bit,
                // What follows could not be told from the rest of the proof.
                Pose::Cut(place) => return sealed[..place.index(CoreProof::LEN)].to_vec(),
                Pose::OfHash(hash) => sealed = proof(&own, challenge, hash),
                Pose::OfChallenge(challenge) => sealed = proof(&own, challenge, hash),
                Pose::OfCluster => sealed = proof(&other, challenge, hash),
            }
            [&sealed[..], &end].concat()
        });
        prop_assert!(is_not_core(&result), "{:?}", result.err());
    }

    #[test]
    fn a_member_that_proves_itself_is_believed_whatever_it_says(end in vec(any::<u8>(), 0..40)) {
        let own = ClusterSecret::generate();
        let result = dial_poser(&invite(&own), |challenge, hash| {
            [&proof(&own, challenge, hash)[..], &end].concat()
        });
        match (end.first(), result) {
            (None, Ok(_)) => {}
            (Some(code), Err(HandshakeError::Refused { reason })) => {
                prop_assert_eq!(reason.code(), *code);
            }
            (_, result) => panic!("{:?}", result.err()),
        }
    }
}
