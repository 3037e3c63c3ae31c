//! The secrets of a cluster: one to dial with, and up to three more that are accepted.
//!
//! A keyring is a plain value. Replacing a secret everywhere takes three steps, each on all members before the
//! next begins: [`adding`](Keyring::adding) the new one, [`using`](Keyring::using) it, and
//! [`removing`](Keyring::removing) the old one. Invariant: there are 1 to 4 secrets, and no two of them have the
//! same id.

mod error;

use std::fmt;

use super::grounds::{Grounds, Proved};
use super::secret::{ClusterSecret, SecretId};
pub use error::KeyringError;

/// One to four cluster secrets. The first is used for dialling, all are accepted.
///
/// `Debug` prints the ids of the secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyring {
    first: Key,
    others: Vec<Key>,
}

/// A secret, and what a peer that knows it has proved.
#[derive(Clone)]
struct Key {
    secret: ClusterSecret,
    proved: Proved,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.secret == other.secret
    }
}

impl Eq for Key {}

impl From<ClusterSecret> for Key {
    fn from(secret: ClusterSecret) -> Self {
        let proved = Proved::new(Grounds::Secret(secret.id()), None);
        Self { secret, proved }
    }
}

impl Keyring {
    /// The largest number of secrets. Each costs an acceptor one more cheap attempt for a dialler that knows
    /// none of them; a rotation needs two.
    pub const MAX_SECRETS: usize = 4;

    /// Creates a keyring. The first secret is the one that is used for dialling.
    ///
    /// # Errors
    ///
    /// Fails if there is no secret, if there are more than four, or if one is there twice.
    pub fn new(secrets: impl IntoIterator<Item = ClusterSecret>) -> Result<Self, KeyringError> {
        let mut secrets = secrets.into_iter();
        let mut keyring = Self::from(secrets.next().ok_or(KeyringError::Empty)?);
        for secret in secrets {
            keyring = keyring.adding(secret)?;
        }
        Ok(keyring)
    }

    /// Returns the keyring with `secret` as its last one, which is accepted from then on.
    ///
    /// # Errors
    ///
    /// Fails if there are four secrets already, or if `secret` is one of them.
    pub fn adding(&self, secret: ClusterSecret) -> Result<Self, KeyringError> {
        let id = secret.id();
        if self.get(id).is_some() {
            return Err(KeyringError::Twice { id });
        }
        let max = Self::MAX_SECRETS;
        if self.secrets().count() >= max {
            return Err(KeyringError::TooMany { max });
        }
        let mut keyring = self.clone();
        keyring.others.push(secret.into());
        Ok(keyring)
    }

    /// Returns the keyring with the secret `id` as its first one, which is used for dialling.
    ///
    /// # Errors
    ///
    /// Fails if there is no such secret.
    pub fn using(&self, id: SecretId) -> Result<Self, KeyringError> {
        let first = self.keys().find(|key| key.secret.id() == id);
        let first = first.ok_or(KeyringError::Unknown { id })?;
        let others = self.keys().filter(|key| key.secret.id() != id);
        Ok(Self {
            first: first.clone(),
            others: others.cloned().collect(),
        })
    }

    /// Returns the keyring without the secret `id`.
    ///
    /// # Errors
    ///
    /// Fails if there is no such secret, or if it is the last one.
    pub fn removing(&self, id: SecretId) -> Result<Self, KeyringError> {
        self.get(id).ok_or(KeyringError::Unknown { id })?;
        let others = self.secrets().filter(|secret| secret.id() != id);
        Self::new(others.cloned())
    }

    /// Returns the secret that is used for dialling.
    pub fn first(&self) -> &ClusterSecret {
        &self.first.secret
    }

    /// Returns all secrets, the one that is used for dialling first.
    pub fn secrets(&self) -> impl Iterator<Item = &ClusterSecret> {
        self.keys().map(|key| &key.secret)
    }

    /// Returns what a peer has proved that knows the secret with this number, if there is one.
    pub(crate) fn proved(&self, index: usize) -> Option<Proved> {
        self.keys().nth(index).map(|key| key.proved.clone())
    }

    /// Returns the secret `id`, if it is one of these.
    pub fn get(&self, id: SecretId) -> Option<&ClusterSecret> {
        self.secrets().find(|secret| secret.id() == id)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        [&self.first].into_iter().chain(&self.others)
    }
}

impl From<ClusterSecret> for Keyring {
    fn from(secret: ClusterSecret) -> Self {
        Self {
            first: secret.into(),
            others: Vec::new(),
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.secrets()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(n: u8) -> ClusterSecret {
        ClusterSecret::from_bytes(&[n; 16]).unwrap()
    }

    fn id(n: u8) -> SecretId {
        secret(n).id()
    }

    fn ring(secrets: &[u8]) -> Result<Keyring, KeyringError> {
        Keyring::new(secrets.iter().map(|n| secret(*n)))
    }

    #[test]
    fn a_keyring_has_one_to_four_different_secrets() {
        for (secrets, expected) in [
            (&[][..], Some(KeyringError::Empty)),
            (&[1], None),
            (&[1, 2, 3, 4], None),
            (&[1, 2, 3, 4, 5], Some(KeyringError::TooMany { max: 4 })),
            (&[1, 1], Some(KeyringError::Twice { id: id(1) })),
            (&[1, 2, 3, 4, 2], Some(KeyringError::Twice { id: id(2) })),
        ] {
            assert_eq!(ring(secrets).err(), expected, "{secrets:?}");
        }
        assert_eq!(Keyring::from(secret(1)), ring(&[1]).unwrap());
        // A source that never ends is left at once.
        let endless = Keyring::new((0..=u8::MAX).cycle().map(secret));
        assert_eq!(endless, Err(KeyringError::TooMany { max: 4 }));
    }

    #[test]
    fn a_rotation_adds_a_secret_uses_it_and_removes_the_old_one() {
        let old = ring(&[1]).unwrap();
        let added = old.adding(secret(2)).unwrap();
        assert_eq!(added, ring(&[1, 2]).unwrap());
        assert_eq!(added.first(), &secret(1));
        let used = added.using(id(2)).unwrap();
        assert_eq!(used, ring(&[2, 1]).unwrap());
        assert_eq!(used.using(id(2)).unwrap(), used);
        assert_eq!(used.removing(id(1)).unwrap(), ring(&[2]).unwrap());
        let three = ring(&[1, 2, 3]).unwrap();
        assert_eq!(three.using(id(3)).unwrap(), ring(&[3, 1, 2]).unwrap());
        assert_eq!(three.get(id(3)), Some(&secret(3)));
        assert_eq!(three.get(id(4)), None);
    }

    #[test]
    fn a_peer_has_proved_the_secret_that_it_has_used_and_no_other() {
        let ring = ring(&[1, 2, 3]).unwrap();
        for (index, n) in [1, 2, 3].into_iter().enumerate() {
            let proved = ring.proved(index).unwrap();
            assert_eq!(proved.grounds(), Grounds::Secret(id(n)));
        }
        assert!(ring.proved(3).is_none());
    }

    #[test]
    fn the_last_secret_stays_and_a_step_with_an_unknown_one_is_an_error() {
        let last = ring(&[1]).unwrap();
        assert_eq!(last.removing(id(1)), Err(KeyringError::Empty));
        let unknown = Err(KeyringError::Unknown { id: id(2) });
        assert_eq!(last.removing(id(2)), unknown);
        assert_eq!(last.using(id(2)), unknown);
        let twice = Err(KeyringError::Twice { id: id(1) });
        assert_eq!(last.adding(secret(1)), twice);
        let full = ring(&[1, 2, 3, 4]).unwrap();
        let too_many = Err(KeyringError::TooMany { max: 4 });
        assert_eq!(full.adding(secret(5)), too_many);
    }
}
