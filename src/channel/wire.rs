//! The control messages of channels and their exact bytes.
//!
//! They travel in records of channel 0 that hold nothing else, one or more whole messages in each. All numbers are
//! big-endian.
//!
//! | message | byte 0 | bytes 1 to 4 | then |
//! |---|---|---|---|
//! | open | 1 | number | `u32` credit, `u16` length (at most 512), request |
//! | opened | 2 | number | `u32` credit, `u16` length (at most 512), answer |
//! | refuse | 3 | number | `u16` code |
//! | credit | 4 | number | `u32` additional credit, not 0 |
//! | close | 5 | number | `u16` code |
//! | blocked | 6 | number | nothing |
//!
//! *open* asks for a channel, and gives the peer credit on it. *opened* accepts, and gives credit in the other direction.
//! *refuse* answers an `open` instead, and is the end of the channel from the side that sends it. *credit* allows further
//! bytes. *close* ends the channel. *blocked* says that a frame waits that costs more than the credit which is left; it asks
//! for a larger window and may be ignored.
//!
//! Nothing is decided here. Invariant: decoding takes no memory for a length that was announced, and whatever was
//! encoded decodes to itself.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::Violation;
use super::event::ChannelCode;
use super::number::ChannelNumber;

/// The longest request of an `open` and the longest answer of an `opened`, in bytes: room for a name, two addresses and a
/// hash.
pub const MAX_TEXT_LEN: usize = 512;

const OPEN: u8 = 1;
const OPENED: u8 = 2;
const REFUSE: u8 = 3;
const CREDIT: u8 = 4;
const CLOSE: u8 = 5;
const BLOCKED: u8 = 6;

/// A control message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) number: ChannelNumber,
    pub(super) kind: Kind,
}

/// The content of a control message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Open { credit: u32, request: Bytes },
    Opened { credit: u32, answer: Bytes },
    Refuse(ChannelCode),
    Credit(u32),
    Close(ChannelCode),
    Blocked,
}

impl Control {
    pub(super) fn encode(&self, to: &mut BytesMut) {
        let (kind, number) = (self.kind.code(), self.number.0);
        to.put_u8(kind);
        to.put_u32(number);
        match &self.kind {
            Kind::Open {
                credit,
                request: text,
            }
            | Kind::Opened {
                credit,
                answer: text,
            } => {
                to.put_u32(*credit);
                // The caller has checked the length.
                to.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
                to.put_slice(text);
            }
            Kind::Refuse(code) | Kind::Close(code) => to.put_u16(code.0),
            Kind::Credit(amount) => to.put_u32(*amount),
            Kind::Blocked => {}
        }
    }

    /// Takes the first message off `bytes`, which must not be empty.
    pub(super) fn decode(bytes: &mut &[u8]) -> Result<Self, Violation> {
        let kind = bytes.try_get_u8().map_err(truncated)?;
        if !(OPEN..=BLOCKED).contains(&kind) {
            return Err(Violation::UnknownKind { kind });
        }
        let number = ChannelNumber(bytes.try_get_u32().map_err(truncated)?);
        let kind = match kind {
            OPEN | OPENED => {
                let credit = bytes.try_get_u32().map_err(truncated)?;
                let text = decode_text(bytes)?;
                match kind {
                    OPEN => Kind::Open {
                        credit,
                        request: text,
                    },
                    _ => Kind::Opened {
                        credit,
                        answer: text,
                    },
                }
            }
            REFUSE => Kind::Refuse(decode_code(bytes)?),
            CREDIT => Kind::Credit(bytes.try_get_u32().map_err(truncated)?),
            CLOSE => Kind::Close(decode_code(bytes)?),
            _ => Kind::Blocked,
        };
        Ok(Self { number, kind })
    }
}

impl Kind {
    fn code(&self) -> u8 {
        match self {
            Self::Open { .. } => OPEN,
            Self::Opened { .. } => OPENED,
            Self::Refuse(_) => REFUSE,
            Self::Credit(_) => CREDIT,
            Self::Close(_) => CLOSE,
            Self::Blocked => BLOCKED,
        }
    }
}

fn decode_text(bytes: &mut &[u8]) -> Result<Bytes, Violation> {
    let len = usize::from(bytes.try_get_u16().map_err(truncated)?);
    if len > MAX_TEXT_LEN {
        return Err(Violation::TextTooLong {
            len,
            max: MAX_TEXT_LEN,
        });
    }
    let (text, rest) = bytes.split_at_checked(len).ok_or(Violation::Truncated)?;
    *bytes = rest;
    Ok(Bytes::copy_from_slice(text))
}

fn decode_code(bytes: &mut &[u8]) -> Result<ChannelCode, Violation> {
    let code = bytes.try_get_u16().map_err(truncated)?;
    Ok(ChannelCode(code))
}

fn truncated(_: bytes::TryGetError) -> Violation {
    Violation::Truncated
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..=MAX_TEXT_LEN).prop_map(Bytes::from)
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            (any::<u32>(), text()).prop_map(|(credit, request)| Kind::Open { credit, request }),
            (any::<u32>(), text()).prop_map(|(credit, answer)| Kind::Opened { credit, answer }),
            any::<u16>().prop_map(|code| Kind::Refuse(ChannelCode(code))),
            any::<u32>().prop_map(Kind::Credit),
            any::<u16>().prop_map(|code| Kind::Close(ChannelCode(code))),
            Just(Kind::Blocked),
        ]
    }

    fn control() -> impl Strategy<Value = Control> {
        (any::<u32>(), kind()).prop_map(|(number, kind)| Control {
            number: ChannelNumber(number),
            kind,
        })
    }

    fn encode(controls: &[Control]) -> BytesMut {
        let mut bytes = BytesMut::new();
        for control in controls {
            control.encode(&mut bytes);
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn messages_decode_as_encoded_and_no_prefix_of_one_does(
            controls in prop::collection::vec(control(), 1..5),
        ) {
            let bytes = encode(&controls);
            let mut rest: &[u8] = &bytes;
            for control in &controls {
                prop_assert_eq!(&Control::decode(&mut rest).unwrap(), control);
            }
            prop_assert!(rest.is_empty());
            let one = encode(&controls[..1]);
            for len in 0..one.len() {
                prop_assert_eq!(Control::decode(&mut &one[..len]), Err(Violation::Truncated));
            }
        }

        #[test]
        fn random_bytes_never_panic_and_what_decodes_encodes_to_the_same_bytes(
            kind in 0_u8..9,
            bytes in prop::collection::vec(any::<u8>(), 0..700),
        ) {
            let bytes = [&[kind], &bytes[..]].concat();
            let mut rest: &[u8] = &bytes;
            if let Ok(control) = Control::decode(&mut rest) {
                let taken = bytes.len() - rest.len();
                prop_assert_eq!(&encode(&[control])[..], &bytes[..taken]);
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_documentation() {
        let bytes = |kind| {
            let number = ChannelNumber(0x0102_0304);
            encode(&[Control { number, kind }]).freeze()
        };
        let text = || Bytes::from_static(b"ab");
        let (credit, code) = (0x0506_0708, ChannelCode(0x090A));
        let (request, answer) = (text(), text());
        for (kind, expected) in [
            (
                Kind::Open { credit, request },
                &b"\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\x02ab"[..],
            ),
            (
                Kind::Opened { credit, answer },
                b"\x02\x01\x02\x03\x04\x05\x06\x07\x08\0\x02ab",
            ),
            (Kind::Refuse(code), b"\x03\x01\x02\x03\x04\x09\x0A"),
            (
                Kind::Credit(credit),
                b"\x04\x01\x02\x03\x04\x05\x06\x07\x08",
            ),
            (Kind::Close(code), b"\x05\x01\x02\x03\x04\x09\x0A"),
            (Kind::Blocked, b"\x06\x01\x02\x03\x04"),
        ] {
            assert_eq!(bytes(kind), expected);
        }
    }

    #[test]
    fn an_unknown_kind_and_a_text_that_is_too_long_are_refused_before_the_rest_is_there() {
        for kind in [0, 7, 255] {
            let decoded = Control::decode(&mut &[kind][..]);
            assert_eq!(decoded, Err(Violation::UnknownKind { kind }));
        }
        let decoded = Control::decode(&mut &b"\x01\0\0\0\x01\0\0\0\0\x02\x01"[..]);
        assert_eq!(decoded, Err(Violation::TextTooLong { len: 513, max: 512 }));
    }
}
