use bytes::BytesMut;
use data_encoding::HEXLOWER;

use super::*;
use crate::rt::crypto::TAG_LEN;

const NEVER: u64 = u64::MAX;

fn suite_of(protocol: &str) -> Suite {
    if protocol.contains("_AESGCM_") {
        Suite::AesGcm
    } else {
        Suite::ChaChaPoly
    }
}

fn sealed(sealer: &mut Sealer, plaintext: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::from(&[0, 0][..]);
    frame.extend_from_slice(plaintext);
    sealer.seal(&mut frame, 0).unwrap();
    let (len, record) = frame.split_first_chunk().unwrap();
    assert_eq!(usize::from(u16::from_be_bytes(*len)), record.len());
    record.to_vec()
}

fn opened(opener: &mut Opener, record: &[u8]) -> Option<Vec<u8>> {
    let mut plaintext = vec![0; record.len().saturating_sub(TAG_LEN)];
    opener.open(record, &mut plaintext).ok().map(|()| plaintext)
}

/// One test vector: a block of `vectors.txt`.
#[derive(Default)]
struct Vector {
    source: String,
    protocol: String,
    statics: [[u8; 32]; 2],
    ephemerals: [[u8; 32]; 2],
    prologue: Vec<u8>,
    psk: Option<[u8; 32]>,
    handshake_hash: Option<Vec<u8>>,
    payloads: Vec<Vec<u8>>,
    ciphertexts: Vec<Vec<u8>>,
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("vectors.txt");
    let blocks = text.split("\n\n").filter(|b| b.starts_with("source"));
    blocks.map(parse).collect()
}

fn parse(block: &str) -> Vector {
    let mut vector = Vector::default();
    for line in block.lines() {
        let (name, value) = line.split_once(' ').unwrap();
        if name == "source" {
            vector.source = value.to_owned();
            continue;
        }
        if name == "protocol" {
            vector.protocol = value.to_owned();
            continue;
        }
        let bytes = HEXLOWER.decode(value.trim_matches('-').as_bytes()).unwrap();
        let key = || bytes.as_slice().try_into().unwrap();
        match name {
            "dialler_static" => vector.statics[0] = key(),
            "acceptor_static" => vector.statics[1] = key(),
            "dialler_ephemeral" => vector.ephemerals[0] = key(),
            "acceptor_ephemeral" => vector.ephemerals[1] = key(),
            "prologue" => vector.prologue = bytes,
            "psk" => vector.psk = Some(key()),
            "handshake_hash" => vector.handshake_hash = Some(bytes),
            "payload" => vector.payloads.push(bytes),
            "ciphertext" => vector.ciphertexts.push(bytes),
            other => panic!("unknown name {other}"),
        }
    }
    vector
}

impl Vector {
    fn noise(&self, side: Side) -> Noise {
        let index = usize::from(side == Side::Acceptor);
        let inputs = NoiseInputs {
            suite: suite_of(&self.protocol),
            side,
            key: &key_pair(&self.statics[index]),
            psk: self.psk.as_ref(),
            prologue: &self.prologue,
        };
        let ephemeral = &self.ephemerals[index];
        Noise::build(&inputs, |builder| {
            builder.fixed_ephemeral_key_for_testing_only(ephemeral)
        })
        .unwrap()
    }
}

#[test]
fn published_test_vectors_are_reproduced_byte_for_byte() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 10);
    let mut protocols: Vec<_> = vectors.iter().map(|v| &v.protocol).collect();
    protocols.sort_unstable();
    protocols.dedup();
    assert_eq!(protocols.len(), 4);
    for vector in &vectors {
        check(vector);
    }
}

fn check(vector: &Vector) {
    let about = format!("{} of {}", vector.protocol, vector.source);
    let mut dialler = vector.noise(Side::Dialler);
    let mut acceptor = vector.noise(Side::Acceptor);
    let messages = vector.payloads.iter().zip(&vector.ciphertexts);
    for (i, (payload, ciphertext)) in messages.clone().take(3).enumerate() {
        let (writer, reader) = if i % 2 == 0 {
            (&mut dialler, &mut acceptor)
        } else {
            (&mut acceptor, &mut dialler)
        };
        assert_eq!(&writer.write(payload).unwrap(), ciphertext, "{about}");
        assert_eq!(&reader.read(ciphertext).unwrap(), payload, "{about}");
    }
    if let Some(hash) = &vector.handshake_hash {
        assert_eq!(dialler.state.get_handshake_hash(), hash, "{about}");
        assert_eq!(acceptor.state.get_handshake_hash(), hash, "{about}");
    }
    let mut ends = [
        dialler.split(NEVER, NEVER).unwrap(),
        acceptor.split(NEVER, NEVER).unwrap(),
    ];
    // After the handshake, cacophony continues with the acceptor, whose turn it is. flynn/noise
    // starts again with the dialler.
    let first = usize::from(vector.source == "cacophony");
    for (i, (payload, ciphertext)) in messages.skip(3).enumerate() {
        let writer = (first + i) % 2;
        assert_eq!(&sealed(&mut ends[writer].0, payload), ciphertext, "{about}");
        let read = opened(&mut ends[1 - writer].1, ciphertext);
        assert_eq!(read.as_ref(), Some(payload), "{about}");
    }
}

fn key_pair(secret: &[u8; 32]) -> X25519 {
    let mut pair = X25519::default();
    pair.set(secret);
    pair
}

const KEYS: [[u8; 32]; 2] = [[0x11; 32], [0x22; 32]];

fn ours(suite: Suite, side: Side) -> Noise {
    Noise::new(&NoiseInputs {
        suite,
        side,
        key: &key_pair(&KEYS[usize::from(side == Side::Acceptor)]),
        psk: None,
        prologue: b"p",
    })
    .unwrap()
}

/// Returns a handshake of snow alone, with snow's own resolver. It leads to snow's own records.
fn theirs(suite: Suite, side: Side) -> HandshakeState {
    let protocol = match suite {
        Suite::AesGcm => "Noise_XX_25519_AESGCM_BLAKE2s",
        Suite::ChaChaPoly => "Noise_XX_25519_ChaChaPoly_BLAKE2s",
    };
    let builder = Builder::new(protocol.parse().unwrap())
        .prologue(b"p")
        .unwrap()
        .local_private_key(&KEYS[usize::from(side == Side::Acceptor)])
        .unwrap();
    match side {
        Side::Dialler => builder.build_initiator(),
        Side::Acceptor => builder.build_responder(),
    }
    .unwrap()
}

#[test]
fn our_records_and_those_of_snow_are_interchangeable_across_rekeys() {
    for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
        for side in [Side::Dialler, Side::Acceptor] {
            exchange_records_with_snow(suite, side);
        }
    }
}

fn exchange_records_with_snow(suite: Suite, side: Side) {
    let other = match side {
        Side::Dialler => Side::Acceptor,
        Side::Acceptor => Side::Dialler,
    };
    let mut we = ours(suite, side);
    let mut snow = theirs(suite, other);
    let mut buffer = [0; 65_535];
    for i in 0..3 {
        if (i % 2 == 0) == (side == Side::Dialler) {
            let message = we.write(b"payload").unwrap();
            snow.read_message(&message, &mut buffer).unwrap();
        } else {
            let len = snow.write_message(b"payload", &mut buffer).unwrap();
            assert_eq!(we.read(&buffer[..len]).unwrap(), b"payload");
        }
    }
    let (mut sealer, mut opener) = we.split(3, 5).unwrap();
    let mut snow = snow.into_transport_mode().unwrap();
    for i in 1..=20 {
        let plaintext = vec![i; usize::from(i) * 3000];

        let record = sealed(&mut sealer, &plaintext);
        let len = snow.read_message(&record, &mut buffer).unwrap();
        assert_eq!(&buffer[..len], plaintext, "{suite:?} {side:?} {i}");

        let len = snow.write_message(&plaintext, &mut buffer).unwrap();
        let read = opened(&mut opener, &buffer[..len]);
        assert_eq!(read, Some(plaintext), "{suite:?} {side:?} {i}");

        if i % 3 == 0 {
            snow.rekey_incoming();
        }
        if i % 5 == 0 {
            snow.rekey_outgoing();
        }
    }
}

#[test]
fn a_public_key_of_low_order_is_refused() {
    // RFC 7748: 0 and 1 force a shared secret of zero with any secret key.
    let mut one = [0; 32];
    one[0] = 1;
    for low_order in [[0; 32], one] {
        let mut acceptor = ours(Suite::ChaChaPoly, Side::Acceptor);
        let mut message = low_order.to_vec();
        message.extend_from_slice(b"payload");
        assert_eq!(acceptor.read(&message).unwrap(), b"payload");
        let refused = acceptor.write(b"");
        assert!(matches!(refused, Err(HandshakeError::Malformed { .. })));
    }
}

#[test]
fn a_record_opens_only_as_the_next_one_of_its_stream() {
    for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
        let mut sealer = Sealer::new(suite, &[7; 32], 2).unwrap();
        let mut opener = Opener::new(suite, &[7; 32], 2).unwrap();
        let records: Vec<_> = (0..6).map(|i| sealed(&mut sealer, &[i; 9])).collect();
        assert_eq!(opened(&mut opener, &records[1]), None);
        assert_eq!(opened(&mut opener, &records[0]), Some(vec![0; 9]));
        assert_eq!(opened(&mut opener, &records[0]), None);
        assert_eq!(opened(&mut opener, &records[1][..24]), None);
        assert_eq!(opened(&mut opener, &[]), None);
        for i in 1..6 {
            let read = opened(&mut opener, &records[usize::from(i)]);
            assert_eq!(read, Some(vec![i; 9]));
        }
    }
}

#[test]
fn the_psk_depends_on_every_byte_of_the_secret() {
    let psk_of = |bytes: &[u8]| *psk(&ClusterSecret::from_bytes(bytes).unwrap());
    assert_eq!(psk_of(&[1; 16]), psk_of(&[1; 16]));
    assert_ne!(psk_of(&[1; 16]), psk_of(&[1; 17]));
    assert_ne!(psk_of(&[1; 16]), [1; 32]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_handshake_leaves_no_psk_in_memory() {
    use crate::rt::crypto::tests::{assert_wiped_on_drop, secret};

    for side in [Side::Dialler, Side::Acceptor] {
        // Not the same for both: of the first one, the stack still has copies, which get into the gaps between fields.
        let psk = secret();
        let inputs = NoiseInputs {
            suite: Suite::ChaChaPoly,
            side,
            key: &key_pair(&KEYS[0]),
            psk: Some(&psk),
            prologue: b"p",
        };
        let mut noise = Noise::new(&inputs).unwrap();
        if side == Side::Dialler {
            // The first message mixes the PSK in.
            noise.write(b"payload").unwrap();
        }
        assert_wiped_on_drop(noise, &psk);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_psk_of_a_cluster_secret_is_wiped() {
    use crate::rt::crypto::tests::assert_wiped_on_drop;

    let psk = psk(&ClusterSecret::generate());
    let bytes = *psk;
    assert_wiped_on_drop(psk, &bytes);
}

#[test]
fn a_handshake_message_may_be_as_long_as_the_limit_and_no_longer() {
    let read = |len| ours(Suite::AesGcm, Side::Acceptor).read(&vec![1; len]);
    for len in [MAX_HANDSHAKE_LEN + 1, 2 * MAX_HANDSHAKE_LEN] {
        let refused = read(len);
        assert!(matches!(refused, Err(HandshakeError::Oversized { len: n, .. }) if n == len));
    }
    let read = read(MAX_HANDSHAKE_LEN);
    assert!(!matches!(read, Err(HandshakeError::Oversized { .. })));
}

#[test]
fn a_first_message_is_tried_with_each_psk_once_until_one_decrypts_it() {
    let psks: [[u8; 32]; 4] = [[1; 32], [2; 32], [3; 32], [4; 32]];
    let noise = |side, psk: &[u8; 32]| {
        let key = &key_pair(&KEYS[usize::from(side == Side::Acceptor)]);
        Noise::new(&NoiseInputs {
            suite: Suite::ChaChaPoly,
            side,
            key,
            psk: Some(psk),
            prologue: b"p",
        })
        .unwrap()
    };
    let attempts = std::cell::Cell::new(0);
    let read = |message: &[u8]| {
        attempts.set(0);
        let counted = psks.iter().inspect(|_| attempts.set(attempts.get() + 1));
        let mut acceptor = noise(Side::Acceptor, &psks[0]);
        let read = acceptor.read_first(message, counted.map(|psk| Zeroizing::new(*psk)));
        (acceptor, read, attempts.get())
    };
    for (known, psk) in psks.iter().enumerate() {
        let mut dialler = noise(Side::Dialler, psk);
        let (mut acceptor, first, attempts) = read(&dialler.write(b"offer").unwrap());
        assert_eq!(first.unwrap(), (known, b"offer".to_vec()));
        assert_eq!(attempts, known + 1);
        // What was tried in vain leaves nothing behind.
        let reply = acceptor.write(b"reply").unwrap();
        assert_eq!(dialler.read(&reply).unwrap(), b"reply");
        let closing = dialler.write(b"closing").unwrap();
        assert_eq!(acceptor.read(&closing).unwrap(), b"closing");
    }
    let stranger = noise(Side::Dialler, &[9; 32]).write(b"offer").unwrap();
    let longest = vec![7; MAX_HANDSHAKE_LEN];
    for message in [&stranger, &longest] {
        let (_, read, attempts) = read(message);
        assert!(matches!(read, Err(HandshakeError::Decrypt)));
        assert_eq!(attempts, 4);
    }
    // Nothing is tried with what no dialler sends.
    for message in [&[7; 31][..], &vec![7; MAX_HANDSHAKE_LEN + 1]] {
        let (_, read, attempts) = read(message);
        assert!(!matches!(read, Err(HandshakeError::Decrypt) | Ok(_)));
        assert_eq!(attempts, 1);
    }
}
