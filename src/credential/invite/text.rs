//! The texts inside an invite.
//!
//! Control characters are refused, since a text with them could begin a line of a log. Invariant: a text that is read
//! could have been issued.

/// Returns whether `text` has 1 to `max_len` bytes and no control characters.
pub(super) fn fits(text: &str, max_len: usize) -> bool {
    (1..=max_len).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Returns the text that `bytes` are, if it [`fits`].
pub(super) fn read(bytes: &[u8], max_len: usize) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    fits(text, max_len).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_a_limited_length_and_no_control_characters() {
        for (text, expected) in [
            ("a", true),
            ("\u{e9}b", true),
            (" a ", true),
            ("", false),
            ("abcd", false),
            ("\u{e9}\u{e9}", false),
            ("a\n", false),
            ("\0", false),
            ("\u{85}", false),
        ] {
            assert_eq!(fits(text, 3), expected, "{text:?}");
            let read = read(text.as_bytes(), 3);
            assert_eq!(read, expected.then_some(text));
        }
        assert_eq!(read(b"\xFF", 3), None);
    }
}
