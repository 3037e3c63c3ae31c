//! The error of a keyring that is not possible.

use crate::credential::secret::SecretId;

/// A keyring is not possible. The caller is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// There is no secret, or the last one was to be removed.
    #[error("a keyring needs at least one secret")]
    Empty,
    /// There are more secrets than a keyring may have.
    #[error("a keyring has at most {max} secrets; remove one first")]
    TooMany {
        /// The largest number of secrets.
        max: usize,
    },
    /// A secret is there twice, or was to be added again.
    #[error("the secret {id} is in the keyring already")]
    Twice {
        /// The public name of the secret.
        id: SecretId,
    },
    /// A step names a secret that is not there.
    #[error("there is no secret {id} in the keyring")]
    Unknown {
        /// The public name that was given.
        id: SecretId,
    },
}
