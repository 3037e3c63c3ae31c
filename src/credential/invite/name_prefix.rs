//! The prefix that the node id of an invite's holder must have.

use std::fmt;
use std::str::FromStr;

use super::text::fits;
use crate::credential::error::CredentialError;

/// The prefix that the node id of a holder must have: at most 128 bytes without control characters. Default: the
/// empty one, which every node id has.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct NamePrefix(Box<str>);

impl NamePrefix {
    /// The longest prefix, in bytes: an eighth of the longest node id, and with it claims are always below their
    /// largest length.
    pub(super) const MAX_LEN: usize = 128;

    /// Returns the prefix as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a holder may have this node id.
    pub fn allows(&self, node_id: &str) -> bool {
        node_id.starts_with(self.as_str())
    }
}

impl FromStr for NamePrefix {
    type Err = CredentialError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.is_empty() && !fits(text, Self::MAX_LEN) {
            return Err(CredentialError::Malformed {
                what: "the prefix of node ids",
                expected: "at most 128 bytes long, without control characters",
            });
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for NamePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_must_begin_with_the_prefix() {
        let prefix: NamePrefix = "tab-".parse().unwrap();
        for (node_id, expected) in [
            ("tab-1", true),
            ("tab-", true),
            ("tab", false),
            ("a-tab-1", false),
            ("Tab-1", false),
            ("", false),
        ] {
            assert_eq!(prefix.allows(node_id), expected, "{node_id}");
        }
        assert!(NamePrefix::default().allows("") && NamePrefix::default().allows("node"));
    }

    #[test]
    fn a_prefix_that_is_too_long_or_has_control_characters_is_refused() {
        for good in ["", " ", "é", &"a".repeat(128)] {
            let prefix: NamePrefix = good.parse().unwrap();
            assert_eq!(prefix.as_str(), good);
        }
        for bad in ["\n", "a\0", "\u{85}", &"a".repeat(129), &"é".repeat(65)] {
            assert!(bad.parse::<NamePrefix>().is_err(), "{bad:?} was accepted");
        }
    }
}
