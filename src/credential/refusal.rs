//! The reason for which an acceptor refuses a dialler that has authenticated itself.
//!
//! Each reason has a code of one byte in the handshake. Invariant: codes are never given another
//! meaning, since the two sides may be of different versions.

use std::fmt;

/// The reason for which an acceptor refuses a dialler.
///
/// A dialler learns it only if it has proved that it knows the cluster secret, or, in a cluster without
/// one, if it has completed the Noise handshake. [`Display`](fmt::Display) prints what is wrong and what
/// to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The dialler's invite has expired. A new invite helps.
    Expired,
    /// The dialler's invite has been revoked. A new invite helps.
    Revoked,
    /// The acceptor does not trust the dialler's key. Adding the key to its list helps.
    Key,
    /// The dialler's invite is for another key than the dialler's. That key helps, or an invite for this one. The
    /// handshake has the code of [`Key`](Self::Key) for both; a dialler tells them apart by its invite.
    Holder,
    /// The dialler's identity, invite or host has reached a limit, for example of connections. A retry
    /// may help later.
    Quota,
    /// The dialler's node id is not the dialler's to use: it lacks the prefix that its invite demands,
    /// or a core member has it. Another name helps. The handshake knows no names: this is said by the first answer to
    /// gossip instead ([`CloseCode::NAME`](crate::net::CloseCode::NAME)).
    Name,
    /// The dialler's invite or configuration belongs to another cluster.
    Cluster,
    /// The dialler's clock is ahead of the acceptor's, so that its generation lies in the future. Setting the clock and
    /// joining again helps.
    Clock,
    /// A reason that this version does not know, with its code. A newer version of this side can
    /// explain it. Construct it only with codes that no other variant has.
    Other(u8),
}

impl Refusal {
    /// Returns the code of one byte that stands for the reason in the handshake.
    pub fn code(self) -> u8 {
        match self {
            Self::Expired => 1,
            Self::Revoked => 2,
            Self::Key | Self::Holder => 3,
            Self::Quota => 4,
            Self::Name => 5,
            Self::Cluster => 6,
            Self::Clock => 7,
            Self::Other(code) => code,
        }
    }

    /// Returns the reason that `code` stands for. Never [`Holder`](Self::Holder), which has the code of
    /// [`Key`](Self::Key).
    pub fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Expired,
            2 => Self::Revoked,
            3 => Self::Key,
            4 => Self::Quota,
            5 => Self::Name,
            6 => Self::Cluster,
            7 => Self::Clock,
            other => Self::Other(other),
        }
    }

    /// Returns a short name in lower case that never changes, for programs and metrics: `expired`,
    /// `revoked`, `key`, `quota`, `name`, `cluster`, `clock` or `other`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Key | Self::Holder => "key",
            Self::Quota => "quota",
            Self::Name => "name",
            Self::Cluster => "cluster",
            Self::Clock => "clock",
            Self::Other(_) => "other",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Expired => "the invite has expired; use a new one",
            Self::Revoked => "the invite has been revoked; use a new one",
            Self::Key => "this key is not trusted; add it to the peer's list of trusted keys",
            Self::Holder => {
                "the invite is for another key; start with that key, or use an invite for this one"
            }
            Self::Quota => "a limit has been reached; close other connections, or retry later",
            Self::Name => {
                "the node id may not be used; choose one that the invite allows and that no other \
                 member has"
            }
            Self::Cluster => {
                "the invite or configuration belongs to another cluster; use one of this cluster"
            }
            Self::Clock => "the clock is ahead of the peer's; set it and join again",
            Self::Other(code) => {
                return write!(
                    f,
                    "for a reason that this version does not know (code {code}); update this side"
                );
            }
        };
        f.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_stands_for_one_reason_and_known_reasons_keep_their_codes_and_names() {
        for code in 0..=u8::MAX {
            assert_eq!(Refusal::from_code(code).code(), code);
        }
        let known = (1..=7).map(|code| (code, Refusal::from_code(code).as_str()));
        assert_eq!(
            known.collect::<Vec<_>>(),
            [
                (1, "expired"),
                (2, "revoked"),
                (3, "key"),
                (4, "quota"),
                (5, "name"),
                (6, "cluster"),
                (7, "clock"),
            ]
        );
        for code in [0, 8, 255] {
            assert_eq!(Refusal::from_code(code), Refusal::Other(code));
            assert_eq!(Refusal::from_code(code).as_str(), "other");
        }
    }

    #[test]
    fn an_invite_for_another_key_has_the_code_and_the_name_of_a_key_that_is_not_trusted() {
        assert_eq!(Refusal::Holder.code(), Refusal::Key.code());
        assert_eq!(Refusal::Holder.as_str(), "key");
        assert!(Refusal::Holder.to_string().contains("; "));
    }

    #[test]
    fn every_text_differs_and_says_what_to_do() {
        let texts: HashSet<_> = (0..=u8::MAX).map(Refusal::from_code).collect();
        let texts: HashSet<_> = texts.iter().map(Refusal::to_string).collect();
        assert_eq!(texts.len(), 256);
        assert!(!texts.contains(&Refusal::Holder.to_string()));
        assert!(texts.iter().all(|text| text.contains("; ")), "{texts:?}");
    }
}
