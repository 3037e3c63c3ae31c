//! The file that names a port on the loopback interface and the token that its clients need.
//!
//! Invariant: the file is complete as soon as it exists, and only its owner can read it.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::private_file;

/// Bytes of a token. Nobody can guess as many.
const TOKEN_LEN: usize = 32;

/// A random word that a client must know.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::admin) struct Token(String);

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct TokenFile {
    pub(in crate::admin) addr: SocketAddr,
    pub(in crate::admin) token: Token,
}

impl Token {
    /// Returns a new random token.
    ///
    /// # Errors
    ///
    /// Fails if the system has no randomness.
    pub(super) fn generate() -> anyhow::Result<Self> {
        let mut bytes = [0; TOKEN_LEN];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        Ok(Self(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    pub(in crate::admin) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether `given` is this token, in a time that does not depend on how much of it is right.
    pub(in crate::admin) fn is(&self, given: &str) -> bool {
        let pairs = self.0.bytes().zip(given.bytes());
        let difference = pairs.fold(0, |found, (own, given)| found | (own ^ given));
        self.0.len() == given.len() && difference == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl TokenFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read, or is something else.
    pub(in crate::admin) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not the file of an admin port", path.display()))
    }

    /// Creates the file.
    ///
    /// # Errors
    ///
    /// Fails if there is a file already, or it cannot be written.
    pub(super) fn create(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string(self)?;
        private_file::write_new(path, &text)
            .with_context(|| format!("cannot create the file {} (--admin)", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_random_and_equals_only_itself() {
        let (a, b) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert!(a != b && a.as_str().len() == 2 * TOKEN_LEN);
        assert!(a.is(a.as_str()) && !a.is(b.as_str()) && !a.is(""));
        assert!(!a.is(&a.as_str()[1..]) && !a.is(&format!("{}0", a.as_str())));
        assert!(!format!("{a:?}").contains(a.as_str()));
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_created_once_and_only_its_owner_can_read_it() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin");
        let file = TokenFile {
            addr: ([127, 0, 0, 1], 7).into(),
            token: Token::generate().unwrap(),
        };
        file.create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(file.create(&path).is_err());
        assert_eq!(TokenFile::read(&path).unwrap(), file);
        std::fs::write(&path, "{}").unwrap();
        assert!(TokenFile::read(&path).is_err());
    }
}
