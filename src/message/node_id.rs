//! The name of a member, which is short.
//!
//! A digest of a hundred members contains a hundred names, and three digests arrive in each round. So
//! names of up to 23 bytes take no allocation.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use smol_str::SmolStr;

/// The name of a member: a string that is cheap to clone. Up to 23 bytes take no allocation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(SmolStr);

impl NodeId {
    /// Returns the name as a string.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Deref for NodeId {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for NodeId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for NodeId {
    fn from(name: &str) -> Self {
        Self(SmolStr::new(name))
    }
}

impl From<String> for NodeId {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl PartialEq<str> for NodeId {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for NodeId {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_as_strings_whether_they_are_short_or_long() {
        let long = "a".repeat(100);
        let names = ["", "a", "a-name-of-23-bytes-here", &long, "b"];
        for a in names {
            for b in names {
                let id = NodeId::from(a);
                assert_eq!(id.cmp(&NodeId::from(b)), a.cmp(b));
                assert_eq!(id == b, a == b);
                assert_eq!(id == *b, a == b);
            }
            let (id, padded) = (NodeId::from(a.to_owned()), format!("{a:>30}"));
            assert_eq!(
                (id.to_string(), format!("{id:>30}")),
                (a.to_owned(), padded)
            );
            assert_eq!(format!("{id:?}"), format!("{a:?}"));
            let (borrowed, text): (&str, &str) = (id.borrow(), id.as_ref());
            assert_eq!((borrowed, text), (a, a));
        }
    }
}
