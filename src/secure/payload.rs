//! The payloads of the handshake's messages, and their exact bytes.
//!
//! They are carried by `handshake`. Bytes after the part of a payload that version 2 defines are
//! ignored, as room for later additions. Invariant: every prefix of a payload that lacks a field is
//! refused as malformed, and no length that a peer announces takes memory.

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, BufMut};

use super::error::HandshakeError;
use crate::credential::{Challenge, CoreProof, Refusal};
use crate::net::Alpn;

/// The kinds of address. The kind is one byte, which the IP address and the port follow.
const NO_ADDR: u8 = 0;
const IPV4: u8 = 4;
const IPV6: u8 = 6;

/// The dialler's first payload: the protocols that it offers, in order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AlpnOffer {
    pub(super) alpns: Vec<Alpn>,
}

impl AlpnOffer {
    /// Encodes the offer: the number of names as one byte, then each name after its length.
    ///
    /// # Errors
    ///
    /// Fails if there is no protocol, or more than 255.
    pub(super) fn encode(&self) -> Result<Vec<u8>, HandshakeError> {
        if self.alpns.is_empty() {
            return Err(HandshakeError::NoCommonProtocol);
        }
        let count = u8::try_from(self.alpns.len()).map_err(|_| HandshakeError::Oversized {
            len: self.alpns.len(),
            max: usize::from(u8::MAX),
        })?;
        let mut payload = vec![count];
        for alpn in &self.alpns {
            encode_alpn(&mut payload, alpn);
        }
        Ok(payload)
    }

    pub(super) fn decode(mut payload: &[u8]) -> Result<Self, HandshakeError> {
        let count = payload.try_get_u8().map_err(cut_short)?;
        let alpns = (0..count).map(|_| decode_alpn(&mut payload));
        Ok(Self {
            alpns: alpns.collect::<Result<_, _>>()?,
        })
    }
}

/// The acceptor's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// The protocol that the acceptor has chosen from the offer.
    pub(super) alpn: Alpn,
    /// The dialler's address as the acceptor sees it, if it knows it.
    pub(super) observed_addr: Option<SocketAddr>,
    /// The number of records after which the acceptor changes its sending key.
    pub(super) rekey_after: u64,
    /// The address at which the acceptor says that it can be dialled.
    pub(super) stated_addr: Option<SocketAddr>,
}

impl Reply {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        encode_alpn(&mut payload, &self.alpn);
        encode_addr(&mut payload, self.observed_addr);
        payload.put_u64(self.rekey_after);
        encode_addr(&mut payload, self.stated_addr);
        payload
    }

    /// Decodes the acceptor's answer to an offer of `offered`.
    ///
    /// # Errors
    ///
    /// Fails if the payload is malformed, or names a protocol that was not offered.
    pub(super) fn decode(mut payload: &[u8], offered: &[Alpn]) -> Result<Self, HandshakeError> {
        let reply = Self {
            alpn: decode_alpn(&mut payload)?,
            observed_addr: decode_addr(&mut payload)?,
            rekey_after: decode_rekey(&mut payload)?,
            stated_addr: decode_addr(&mut payload)?,
        };
        if !offered.contains(&reply.alpn) {
            return Err(HandshakeError::NoCommonProtocol);
        }
        Ok(reply)
    }
}

/// The dialler's last payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closing {
    /// The number of records after which the dialler changes its sending key.
    pub(super) rekey_after: u64,
    /// The address at which the dialler says that it can be dialled.
    pub(super) stated_addr: Option<SocketAddr>,
    /// What a dialler with an invite asks a core member to answer.
    pub(super) challenge: Option<[u8; Challenge::LEN]>,
}

impl Closing {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        payload.put_u64(self.rekey_after);
        encode_addr(&mut payload, self.stated_addr);
        payload.extend(self.challenge.into_iter().flatten());
        payload
    }

    /// Decodes the dialler's payload, which contains a challenge if the dialler has presented an invite.
    pub(super) fn decode(mut payload: &[u8], has_challenge: bool) -> Result<Self, HandshakeError> {
        let mut closing = Self {
            rekey_after: decode_rekey(&mut payload)?,
            stated_addr: decode_addr(&mut payload)?,
            challenge: None,
        };
        if has_challenge {
            let challenge = payload.first_chunk();
            closing.challenge =
                Some(*challenge.ok_or(HandshakeError::Malformed { what: CUT_SHORT })?);
        }
        Ok(closing)
    }
}

/// Encodes the plaintext of the confirmation record: the proof of a core member if the dialler has asked for it, and
/// then nothing if the dialler is accepted, otherwise the code of a refusal.
pub(super) fn encode_confirmation(proof: Option<&CoreProof>, refusal: Option<Refusal>) -> Vec<u8> {
    let mut plaintext = Vec::new();
    plaintext.extend(proof.into_iter().flat_map(CoreProof::as_bytes));
    plaintext.extend(refusal.map(Refusal::code));
    plaintext
}

/// Takes the proof of a core member off the plaintext of a confirmation record, whose rest is one without a proof.
/// Returns `None` if it is too short.
pub(super) fn split_proof(plaintext: &[u8]) -> Option<(&[u8], &[u8])> {
    plaintext.split_at_checked(CoreProof::LEN)
}

/// Decodes the plaintext of the confirmation record, without a proof.
pub(super) fn decode_confirmation(plaintext: &[u8]) -> Result<(), Refusal> {
    match plaintext.first() {
        None => Ok(()),
        Some(code) => Err(Refusal::from_code(*code)),
    }
}

fn encode_alpn(payload: &mut Vec<u8>, alpn: &Alpn) {
    // An `Alpn` is at most 255 bytes long.
    payload.put_u8(u8::try_from(alpn.as_bytes().len()).unwrap_or(u8::MAX));
    payload.put_slice(alpn.as_bytes());
}

fn decode_alpn(payload: &mut &[u8]) -> Result<Alpn, HandshakeError> {
    let len = usize::from(payload.try_get_u8().map_err(cut_short)?);
    let bytes: &[u8] = payload;
    let (name, _) = bytes
        .split_at_checked(len)
        .ok_or(HandshakeError::Malformed { what: CUT_SHORT })?;
    let alpn = Alpn::new(name.to_vec()).ok_or(HandshakeError::Malformed {
        what: "a protocol without a name",
    })?;
    payload.advance(len);
    Ok(alpn)
}

fn encode_addr(payload: &mut Vec<u8>, addr: Option<SocketAddr>) {
    let Some(addr) = addr else {
        payload.put_u8(NO_ADDR);
        return;
    };
    match addr.ip() {
        IpAddr::V4(ip) => {
            payload.put_u8(IPV4);
            payload.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            payload.put_u8(IPV6);
            payload.put_slice(&ip.octets());
        }
    }
    payload.put_u16(addr.port());
}

fn decode_addr(payload: &mut &[u8]) -> Result<Option<SocketAddr>, HandshakeError> {
    let ip: IpAddr = match payload.try_get_u8().map_err(cut_short)? {
        NO_ADDR => return Ok(None),
        IPV4 => payload
            .try_get_u32()
            .map_err(cut_short)?
            .to_be_bytes()
            .into(),
        IPV6 => payload
            .try_get_u128()
            .map_err(cut_short)?
            .to_be_bytes()
            .into(),
        _ => {
            return Err(HandshakeError::Malformed {
                what: "unknown kind of address",
            });
        }
    };
    let port = payload.try_get_u16().map_err(cut_short)?;
    Ok(Some(SocketAddr::new(ip, port)))
}

fn decode_rekey(payload: &mut &[u8]) -> Result<u64, HandshakeError> {
    match payload.try_get_u64().map_err(cut_short)? {
        0 => Err(HandshakeError::Malformed {
            what: "a rekey interval of zero",
        }),
        after => Ok(after),
    }
}

const CUT_SHORT: &str = "a payload that is cut short";

fn cut_short(_: bytes::TryGetError) -> HandshakeError {
    HandshakeError::Malformed { what: CUT_SHORT }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alpn() -> impl Strategy<Value = Alpn> {
        let name = prop::collection::vec(any::<u8>(), 1..=255);
        name.prop_map(|name| Alpn::new(name).unwrap())
    }

    fn addr() -> impl Strategy<Value = Option<SocketAddr>> {
        prop::option::of((any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from))
    }

    prop_compose! {
        fn offer()(alpns in prop::collection::vec(alpn(), 1..=20)) -> AlpnOffer {
            AlpnOffer { alpns }
        }
    }

    prop_compose! {
        fn reply()(
            alpn in alpn(),
            observed_addr in addr(),
            rekey_after in 1..=u64::MAX,
            stated_addr in addr(),
        ) -> Reply {
            Reply { alpn, observed_addr, rekey_after, stated_addr }
        }
    }

    prop_compose! {
        fn closing()(
            rekey_after in 1..=u64::MAX,
            stated_addr in addr(),
            challenge: Option<[u8; 32]>,
        ) -> Closing {
            Closing { rekey_after, stated_addr, challenge }
        }
    }

    /// Checks that `payload` decodes to `value`, also with `later` bytes after it, and that every
    /// prefix of it is malformed.
    fn check<T: PartialEq + std::fmt::Debug>(
        value: &T,
        payload: &[u8],
        later: &[u8],
        decode: impl Fn(&[u8]) -> Result<T, HandshakeError>,
    ) {
        assert_eq!(&decode(payload).unwrap(), value);
        assert_eq!(&decode(&[payload, later].concat()).unwrap(), value);
        for len in 0..payload.len() {
            let error = decode(&payload[..len]).unwrap_err();
            let is_cut_short =
                matches!(error, HandshakeError::Malformed { what } if what == CUT_SHORT);
            assert!(is_cut_short, "{len}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn payloads_decode_as_encoded_and_no_prefix_of_them_does(
            offer in offer(),
            reply in reply(),
            closing in closing(),
            later in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            check(&offer, &offer.encode().unwrap(), &later, AlpnOffer::decode);
            let offered = [reply.alpn.clone()];
            check(&reply, &reply.encode(), &later, |payload| Reply::decode(payload, &offered));
            let has_challenge = closing.challenge.is_some();
            check(&closing, &closing.encode(), &later, |payload| {
                Closing::decode(payload, has_challenge)
            });
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let offer = AlpnOffer::decode(&bytes);
            if let Ok(offer) = offer {
                prop_assert!(offer.alpns.len() <= 255);
            }
            let _ = Closing::decode(&bytes, false);
            let _ = Closing::decode(&bytes, true);
            let _ = split_proof(&bytes);
            // Random bytes rarely name the protocol that was offered, so it is made from them.
            let named = decode_alpn(&mut bytes.as_slice());
            let offered: Vec<_> = named.into_iter().collect();
            let _ = Reply::decode(&bytes, &offered);
            let _ = decode_confirmation(&bytes);
        }

        #[test]
        fn a_confirmation_that_is_not_empty_is_a_refusal_whatever_follows_its_code(
            code: u8,
            later in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let plaintext = [&[code], &later[..]].concat();
            prop_assert_eq!(decode_confirmation(&plaintext), Err(Refusal::from_code(code)));
            prop_assert_eq!(decode_confirmation(&[]), Ok(()));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_documentation() {
        let alpns = [&b"a/1"[..], b"b"].map(Alpn::from_static).to_vec();
        let alpn = alpns[0].clone();
        assert_eq!(AlpnOffer { alpns }.encode().unwrap(), b"\x02\x03a/1\x01b");
        let reply = Reply {
            alpn,
            observed_addr: Some("192.0.2.1:258".parse().unwrap()),
            rekey_after: 7,
            stated_addr: Some("[2001:db8::1]:65535".parse().unwrap()),
        };
        let expected = b"\x03a/1\x04\xC0\x00\x02\x01\x01\x02\0\0\0\0\0\0\0\x07\
            \x06\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\xFF\xFF";
        assert_eq!(reply.encode(), expected);
        let closing = Closing {
            rekey_after: 1 << 20,
            stated_addr: None,
            challenge: None,
        };
        assert_eq!(closing.encode(), b"\0\0\0\0\0\x10\0\0\0");
        let challenge = Some([7; 32]);
        let asking = Closing {
            challenge,
            ..closing
        };
        assert_eq!(asking.encode(), [&closing.encode(), &[7; 32][..]].concat());
        let refusal = Some(Refusal::Revoked);
        assert_eq!(encode_confirmation(None, None), b"");
        assert_eq!(encode_confirmation(None, refusal), [2]);
    }

    #[test]
    fn fields_without_a_meaning_are_malformed() {
        let malformed = |error: HandshakeError| match error {
            HandshakeError::Malformed { what } => what,
            other => panic!("{other}"),
        };
        for kind in (0..=255_u8).filter(|kind| ![0, 4, 6].contains(kind)) {
            let payload = [&[0, 0, 0, 0, 0, 0, 0, 1, kind][..], &[0; 40]].concat();
            let error = Closing::decode(&payload, false).unwrap_err();
            assert_eq!(malformed(error), "unknown kind of address");
        }
        let error = Closing::decode(&[0; 9], false).unwrap_err();
        assert_eq!(malformed(error), "a rekey interval of zero");
        let error = AlpnOffer::decode(&[1, 0]).unwrap_err();
        assert_eq!(malformed(error), "a protocol without a name");
    }

    #[test]
    fn a_reply_with_a_protocol_that_was_not_offered_is_refused() {
        let reply = Reply {
            alpn: Alpn::from_static(b"a/1"),
            observed_addr: None,
            rekey_after: 1,
            stated_addr: None,
        };
        let offered = [Alpn::from_static(b"b/1")];
        let error = Reply::decode(&reply.encode(), &offered).err().unwrap();
        assert!(matches!(error, HandshakeError::NoCommonProtocol));
    }
}
