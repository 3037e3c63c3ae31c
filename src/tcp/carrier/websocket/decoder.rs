//! Received frames, put together to messages.
//!
//! It has no socket. Invariant: a message is refused as soon as its length is known to be above the
//! limit, and no rule of the protocol is left to the caller.

use bytes::{Buf as _, Bytes, BytesMut};

use super::error::WebSocketError;
use super::header::{Header, MAX_CONTROL_LEN, Opcode};
use crate::secure::MAX_FRAME_LEN;

/// A whole message, or a control frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Message(BytesMut),
    Ping(Bytes),
    Pong,
    /// A close frame, with its code if it has one.
    Close(Option<u16>),
}

/// Whether text messages are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Text {
    #[default]
    Refused,
    /// Taken like binary ones, for tests with programs that send text.
    #[cfg(test)]
    Accepted,
}

#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The fragments of a message that has begun and not ended.
    partial: Option<BytesMut>,
    text: Text,
    /// Whether the last message was text.
    #[cfg(test)]
    pub(super) was_text: bool,
}

impl Decoder {
    /// Returns whether no message has begun and not ended.
    pub(super) fn is_between_messages(&self) -> bool {
        self.partial.is_none()
    }

    /// Returns the memory of the fragments of a message that has begun and not ended, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.partial.as_ref().map_or(0, BytesMut::capacity)
    }

    #[cfg(test)]
    pub(super) fn accept_text(&mut self) {
        self.text = Text::Accepted;
    }

    /// Takes the next message or control frame out of `buffer`. Returns `None` if more bytes are
    /// needed.
    pub(super) fn decode(
        &mut self,
        buffer: &mut BytesMut,
    ) -> Result<Option<Decoded>, WebSocketError> {
        loop {
            let Some(header) = Header::parse(buffer)? else {
                return Ok(None);
            };
            let len = self.check(&header)?;
            if buffer.len() < header.len + len {
                return Ok(None);
            }
            buffer.advance(header.len);
            let mut payload = if buffer.len() == len {
                // The message gets the buffer itself: sharing the memory would need an allocation.
                std::mem::take(buffer)
            } else {
                buffer.split_to(len)
            };
            header.unmask(&mut payload);
            if let Some(received) = self.receive(&header, payload)? {
                return Ok(Some(received));
            }
        }
    }

    /// Checks a header before its payload is read. Returns the length of the payload.
    fn check(&self, header: &Header) -> Result<usize, WebSocketError> {
        let begins = match header.opcode {
            Opcode::Text if self.text == Text::Refused => return Err(WebSocketError::Text),
            Opcode::Text | Opcode::Binary => true,
            Opcode::Continuation => false,
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                return Ok(usize::try_from(header.payload_len).unwrap_or(MAX_CONTROL_LEN));
            }
        };
        if begins == self.partial.is_some() {
            return Err(WebSocketError::FragmentOrder);
        }
        let received = self.partial.as_ref().map_or(0, BytesMut::len);
        let max = MAX_FRAME_LEN;
        match usize::try_from(header.payload_len) {
            Ok(len) if len <= max.saturating_sub(received) => Ok(len),
            _ => Err(WebSocketError::TooLong {
                len: header.payload_len.saturating_add(received as u64),
                max,
            }),
        }
    }

    fn receive(
        &mut self,
        header: &Header,
        payload: BytesMut,
    ) -> Result<Option<Decoded>, WebSocketError> {
        #[cfg(test)]
        if matches!(header.opcode, Opcode::Text | Opcode::Binary) {
            self.was_text = header.opcode == Opcode::Text;
        }
        Ok(match header.opcode {
            // Copied, so that a short ping does not hold the memory of a long read.
            Opcode::Ping => Some(Decoded::Ping(Bytes::copy_from_slice(&payload))),
            Opcode::Pong => Some(Decoded::Pong),
            Opcode::Close => Some(Decoded::Close(close_code(&payload)?)),
            Opcode::Text | Opcode::Binary if header.is_final => Some(Decoded::Message(payload)),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let partial = self.partial.get_or_insert_default();
                partial.extend_from_slice(&payload);
                let whole = self.partial.take_if(|_| header.is_final);
                whole.map(Decoded::Message)
            }
        })
    }
}

/// Returns the code in the payload of a close frame.
fn close_code(payload: &[u8]) -> Result<Option<u16>, WebSocketError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(WebSocketError::CloseCode)
        };
    };
    let code = u16::from_be_bytes(*code);
    // 1004 to 1006 and 1015 stand for ends without a close frame (RFC 6455, section 7.4); 1012 to 1014
    // have been registered since.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(WebSocketError::CloseCode);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(WebSocketError::CloseReason);
    }
    Ok(Some(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    /// Returns a masked frame with the first byte `first`.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            len @ ..=125 => frame.push(0x80 | len as u8),
            len @ ..=65_535 => {
                frame.push(0x80 | 126);
                frame.extend((len as u16).to_be_bytes());
            }
            len => {
                frame.push(0x80 | 127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
        frame
    }

    /// Decodes `bytes`, of which `step` arrive at a time.
    fn decode(bytes: &[u8], step: usize) -> (Vec<Decoded>, Option<WebSocketError>) {
        let mut decoder = Decoder::default();
        let (mut buffer, mut received) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(step) {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut buffer) {
                    Ok(Some(message)) => received.push(message),
                    Ok(None) => break,
                    Err(error) => return (received, Some(error)),
                }
            }
        }
        assert!(buffer.is_empty(), "{} bytes are left", buffer.len());
        (received, None)
    }

    fn message(payload: &[u8]) -> Decoded {
        Decoded::Message(payload.into())
    }

    #[test]
    fn messages_are_whole_however_they_arrive() {
        let long = vec![7; MAX_FRAME_LEN];
        let bytes = [
            frame(0x82, b""),
            frame(0x82, b"one"),
            // Fragments, with control frames between them.
            frame(0x02, b"tw"),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x8A, b"pong"),
            frame(0x80, b"o"),
            frame(0x82, &long),
            frame(0x02, &long[1..]),
            frame(0x80, &long[..1]),
            frame(0x88, b"\x03\xe8bye"),
        ]
        .concat();
        for step in [1, 2, 3, 100, 1000, bytes.len()] {
            let (received, error) = decode(&bytes, step);
            assert_eq!(error, None);
            assert_eq!(
                received,
                [
                    message(b""),
                    message(b"one"),
                    Decoded::Ping("ping".into()),
                    Decoded::Pong,
                    message(b"two"),
                    message(&long),
                    message(&long),
                    Decoded::Close(Some(1000)),
                ]
            );
        }
    }

    #[test]
    fn fragments_out_of_order_and_messages_that_are_too_long_are_refused() {
        let long = vec![7; MAX_FRAME_LEN];
        let too_long = WebSocketError::TooLong {
            len: 65_536,
            max: MAX_FRAME_LEN,
        };
        let cases = [
            (frame(0x80, b"a"), WebSocketError::FragmentOrder),
            (frame(0x00, b"a"), WebSocketError::FragmentOrder),
            (
                [frame(0x02, b"a"), frame(0x82, b"b")].concat(),
                WebSocketError::FragmentOrder,
            ),
            (
                [frame(0x02, b"a"), frame(0x80, b"b"), frame(0x80, b"c")].concat(),
                WebSocketError::FragmentOrder,
            ),
            (frame(0x82, &[7; MAX_FRAME_LEN + 1]), too_long),
            ([frame(0x02, &long), frame(0x80, b"a")].concat(), too_long),
            (frame(0x81, b"text"), WebSocketError::Text),
            (frame(0x01, b"te"), WebSocketError::Text),
        ];
        for (bytes, expected) in cases {
            let (_, error) = decode(&bytes, 1);
            assert_eq!(error, Some(expected));
        }
        // Without its payload.
        let header = &frame(0x82, &[7; MAX_FRAME_LEN + 1])[..14];
        assert_eq!(decode(header, 1).1, Some(too_long));
    }

    #[test]
    fn a_close_frame_has_no_code_or_one_that_may_be_sent() {
        let close = |payload: &[u8]| {
            let (received, error) = decode(&frame(0x88, payload), 1000);
            (received.into_iter().next(), error)
        };
        assert_eq!(close(b""), (Some(Decoded::Close(None)), None));
        for code in [1000, 1003, 1007, 1011, 1014, 3000, 4999_u16] {
            let received = Some(Decoded::Close(Some(code)));
            assert_eq!(close(&code.to_be_bytes()), (received, None));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535_u16] {
            let refused = Some(WebSocketError::CloseCode);
            assert_eq!(close(&code.to_be_bytes()), (None, refused), "{code}");
        }
        assert_eq!(close(&[3]).1, Some(WebSocketError::CloseCode));
        let reason = close(b"\x03\xe8\xff").1;
        assert_eq!(reason, Some(WebSocketError::CloseReason));
        assert_eq!(close(&[b"\x03\xe8", &[b'a'; 123][..]].concat()).1, None);
    }
}
