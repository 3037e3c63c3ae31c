//! A reader of values in DER (ITU-T X.690).
//!
//! It knows no certificate. Invariant: whatever the bytes are, it returns, in linear time.

/// The rest of a sequence of values.
pub(crate) struct Der<'a>(pub(crate) &'a [u8]);

impl<'a> Der<'a> {
    /// Returns the contents of the next value if it has the tag `tag`.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, contents) = self.next()?;
        (found == tag).then_some(contents)
    }

    /// Returns the tag and the contents of the next value.
    pub(crate) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut len = usize::from(first);
        if first >= 0x80 {
            let count = usize::from(first & 0x7F);
            // A certificate has less than 16 MiB.
            let bytes = rest.get(..count).filter(|_| (1..=3).contains(&count))?;
            len = bytes.iter().fold(0, |len, b| len << 8 | usize::from(*b));
            rest = rest.get(count..)?;
        }
        let contents = rest.get(..len)?;
        self.0 = rest.get(len..)?;
        Some((tag, contents))
    }
}
