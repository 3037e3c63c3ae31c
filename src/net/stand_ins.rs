//! Addresses that stand for names which a socket address cannot express: a URL, or a host that is dialled with TLS.
//!
//! They are of the discard-only prefix 100::/64 (RFC 6666), which no network routes. An address depends on the name alone, and
//! stands for it only where it was remembered. Nothing is resolved or dialled here. Invariant: at most [`MAX_NAMES`] names are
//! remembered; the least recently used one is forgotten first.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use blake2::{Blake2s256, Digest as _};

use super::address::DISCARD_ONLY;
use crate::rt::sync::Mutex;

/// The most names that are remembered. A node or a tab uses a handful: its seeds and relays.
const MAX_NAMES: usize = 256;

/// The names for which addresses stand, with the least recently used first. Clones share them.
#[derive(Debug)]
pub(crate) struct StandIns<T>(Arc<Mutex<VecDeque<(SocketAddr, T)>>>);

impl<T> Clone for StandIns<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for StandIns<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> StandIns<T> {
    /// Remembers `name`, which is written as `text` and dials `port`, as the most recently used one. Returns the address that
    /// stands for it.
    pub(crate) fn remember(&self, text: &str, port: u16, name: T) -> SocketAddr {
        let addr = SocketAddr::new(stand_in(text), port);
        let mut names = self.0.lock();
        names.retain(|(known, _)| *known != addr);
        if names.len() >= MAX_NAMES {
            names.pop_front();
        }
        names.push_back((addr, name));
        addr
    }

    /// Returns the name for which `addr` stands, if it is remembered, and marks it as used.
    pub(crate) fn get(&self, addr: SocketAddr) -> Option<T> {
        let mut names = self.0.lock();
        let index = names.iter().position(|(known, _)| *known == addr)?;
        let (addr, name) = names.remove(index)?;
        names.push_back((addr, name.clone()));
        Some(name)
    }
}

fn stand_in(text: &str) -> IpAddr {
    let digest = Blake2s256::digest(text.as_bytes());
    let tail = digest
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let prefix = u128::from(DISCARD_ONLY[0]) << 112;
    IpAddr::V6(Ipv6Addr::from(prefix | u128::from(tail)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::is_discard_only;

    #[test]
    fn an_address_stands_for_one_name_until_others_have_taken_its_place() {
        let names = StandIns::default();
        let addr = names.remember("a", 1, "a");
        assert!(is_discard_only(addr));
        assert_eq!(names.remember("a", 1, "a"), addr);
        assert_ne!(names.remember("a", 2, "b"), addr);
        for n in 0..MAX_NAMES {
            assert_eq!(names.clone().get(addr), Some("a"), "it is used");
            names.remember(&n.to_string(), 1, "other");
        }
        let last = names.remember("b", 1, "b");
        for n in 0..MAX_NAMES {
            names.remember(&n.to_string(), 3, "other");
        }
        assert_eq!([addr, last].map(|addr| names.get(addr)), [None, None]);
    }
}
