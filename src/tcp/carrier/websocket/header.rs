//! Headers of WebSocket frames (RFC 6455, section 5.2), and masks.
//!
//! A server receives masked frames and sends unmasked ones. Invariant: a header that breaks a rule is
//! refused as soon as the byte that breaks it has arrived.

use super::error::WebSocketError;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// The longest payload of a control frame, and of a frame whose length is part of its second byte.
pub(super) const MAX_CONTROL_LEN: usize = 125;
const MASK_LEN: usize = 4;

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn new(code: u8) -> Result<Self, WebSocketError> {
        Ok(match code {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            opcode => return Err(WebSocketError::UnknownOpcode { opcode }),
        })
    }

    fn code(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The header of a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether this is the last fragment of its message.
    pub(super) is_final: bool,
    pub(super) opcode: Opcode,
    /// Length of the header, in bytes.
    pub(super) len: usize,
    pub(super) payload_len: u64,
    mask: [u8; MASK_LEN],
}

impl Header {
    /// Reads the header at the start of `bytes`, or returns `None` if more bytes are needed.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, WebSocketError> {
        let Some(first) = bytes.first() else {
            return Ok(None);
        };
        if first & RESERVED != 0 {
            return Err(WebSocketError::ReservedBits);
        }
        let opcode = Opcode::new(first & 0x0F)?;
        let is_final = first & FINAL != 0;
        if opcode.is_control() && !is_final {
            return Err(WebSocketError::ControlFrame);
        }
        let Some(second) = bytes.get(1) else {
            return Ok(None);
        };
        if second & MASKED == 0 {
            return Err(WebSocketError::NotMasked);
        }
        let short = second & !MASKED;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL_LEN {
            return Err(WebSocketError::ControlFrame);
        }
        let rest = bytes.get(2..).unwrap_or_default();
        let (payload_len, len_len) = match short {
            126 => (
                rest.first_chunk()
                    .map(|len| u16::from_be_bytes(*len).into()),
                2,
            ),
            127 => (rest.first_chunk().map(|len| u64::from_be_bytes(*len)), 8),
            short => (Some(short.into()), 0),
        };
        let Some(payload_len) = payload_len else {
            return Ok(None);
        };
        let shortest = match len_len {
            2 => 126,
            8 => 1 << 16,
            _ => 0,
        };
        if payload_len < shortest || payload_len > u64::MAX >> 1 {
            return Err(WebSocketError::LengthForm);
        }
        let mask = rest.get(len_len..).and_then(<[u8]>::first_chunk);
        Ok(mask.map(|mask| Self {
            is_final,
            opcode,
            len: 2 + len_len + MASK_LEN,
            payload_len,
            mask: *mask,
        }))
    }

    /// Removes the mask from the payload of this frame.
    pub(super) fn unmask(&self, payload: &mut [u8]) {
        let [a, b, c, d] = self.mask;
        // Sixteen bytes at a time: a processor does that in one step.
        let wide = [a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d];
        let (chunks, rest) = payload.as_chunks_mut();
        for chunk in chunks {
            *chunk = (u128::from_ne_bytes(*chunk) ^ u128::from_ne_bytes(wide)).to_ne_bytes();
        }
        for (byte, mask) in rest.iter_mut().zip(wide) {
            *byte ^= mask;
        }
    }
}

/// The header of a frame to send, which is the only one of its message and not masked.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentHeader {
    bytes: [u8; 4],
    len: u8,
}

impl SentHeader {
    pub(super) fn new(opcode: Opcode, payload_len: u16) -> Self {
        let [high, low] = payload_len.to_be_bytes();
        let first = FINAL | opcode.code();
        if usize::from(payload_len) <= MAX_CONTROL_LEN {
            Self {
                bytes: [first, low, 0, 0],
                len: 2,
            }
        } else {
            Self {
                bytes: [first, 126, high, low],
                len: 4,
            }
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub(super) fn is_pong(&self) -> bool {
        self.bytes.first() == Some(&(FINAL | Opcode::Pong.code()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_once_all_of_it_has_arrived() {
        let cases: [(&[u8], u64, usize); 4] = [
            (&[0x82, 0x80, 1, 2, 3, 4], 0, 6),
            (&[0x82, 0xFD, 1, 2, 3, 4], 125, 6),
            (&[0x82, 0xFE, 0, 126, 1, 2, 3, 4], 126, 8),
            (
                &[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4],
                65_536,
                14,
            ),
        ];
        for (bytes, payload_len, len) in cases {
            for end in 0..bytes.len() {
                assert_eq!(Header::parse(&bytes[..end]), Ok(None), "{bytes:?}, {end}");
            }
            let header = Header::parse(bytes).unwrap().unwrap();
            assert_eq!((header.payload_len, header.len), (payload_len, len));
            assert_eq!((header.opcode, header.mask), (Opcode::Binary, [1, 2, 3, 4]));
            assert!(header.is_final);
        }
    }

    #[test]
    fn a_broken_rule_is_noticed_at_the_byte_that_breaks_it() {
        let cases: [(&[u8], WebSocketError); 14] = [
            (&[0xC2], WebSocketError::ReservedBits),
            (&[0xA2], WebSocketError::ReservedBits),
            (&[0x92], WebSocketError::ReservedBits),
            (&[0x83], WebSocketError::UnknownOpcode { opcode: 3 }),
            (&[0x8B], WebSocketError::UnknownOpcode { opcode: 11 }),
            (&[0x09], WebSocketError::ControlFrame),
            (&[0x0A], WebSocketError::ControlFrame),
            (&[0x08], WebSocketError::ControlFrame),
            (&[0x89, 0xFE], WebSocketError::ControlFrame),
            (&[0x88, 0xFF], WebSocketError::ControlFrame),
            (&[0x82, 0x01], WebSocketError::NotMasked),
            (&[0x82, 0xFE, 0, 125], WebSocketError::LengthForm),
            (
                &[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 255, 255],
                WebSocketError::LengthForm,
            ),
            (
                &[0x82, 0xFF, 128, 0, 0, 0, 0, 0, 0, 0],
                WebSocketError::LengthForm,
            ),
        ];
        for (bytes, error) in cases {
            assert_eq!(Header::parse(bytes), Err(error), "{bytes:?}");
            let before = &bytes[..bytes.len() - 1];
            assert_eq!(Header::parse(before), Ok(None), "{before:?}");
        }
    }

    #[test]
    fn a_mask_is_removed_from_payloads_of_all_lengths() {
        let header = Header::parse(&[0x82, 0xFE, 1, 0, 1, 20, 30, 255]);
        let header = header.unwrap().unwrap();
        for len in 0..100 {
            let payload: Vec<u8> = (0..len).collect();
            let mut masked = payload.clone();
            for (byte, mask) in masked.iter_mut().zip(header.mask.iter().cycle()) {
                *byte ^= mask;
            }
            header.unmask(&mut masked);
            assert_eq!(masked, payload);
        }
    }
}
