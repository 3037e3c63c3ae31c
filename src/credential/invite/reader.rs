//! Bytes that are read from the front.
//!
//! Invariant: no length that is read takes memory.

/// Bytes that are read from the front. Every method returns `None`, and reads nothing, if there are too few.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn array<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(super) fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(slice)
    }

    /// Reads bytes behind their length (`u16`).
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let mut rest = *self;
        let len = u16::from_be_bytes(rest.array()?);
        let slice = rest.slice(len.into())?;
        *self = rest;
        Some(slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_read_in_part() {
        let mut reader = Reader::new(b"\x01\x00\x02ab\x00\x02c");
        assert_eq!(reader.byte(), Some(1));
        assert_eq!(reader.counted(), Some(&b"ab"[..]));
        assert_eq!(reader.counted(), None);
        assert_eq!(reader.slice(4), None);
        assert_eq!(reader.array::<4>(), None);
        assert_eq!(reader.slice(3), Some(&b"\x00\x02c"[..]));
        assert!(reader.is_empty() && reader.byte().is_none());
        assert_eq!(reader.slice(0), Some(&[][..]));
    }
}
