//! How much may be sent to an address that may not be where the datagrams come from.
//!
//! The source of a datagram can be forged, so an answer may go to someone who has asked for nothing. An
//! address that receives what is sent to it shows that by knowing it: the digests of a chitchat node list
//! every member that it has heard of. Here, an address has *echoed* once one of its digests lists a member,
//! drawn at random, of the digest that was sent to it last. Someone who forges its source would have to
//! list most of the members. That can be prepared: someone who asks from an address of its own learns who the
//! members are. So an echo raises the factor, and does not remove it. Invariant: an address gets at most [`FACTOR`]
//! times the bytes that came from it, and [`FACTOR_ONCE_ECHOED`] times those of its echo and of what came since, apart from
//! what the [`Budget`](super::budget::Budget) of the port allows.
//!
//! This file decides; it sends nothing and reads no clock.

use bytes::Bytes;

use super::budget::Share;
use crate::message::{ChitchatId, ChitchatMessage, Digest, Message as _};

/// An address that has not echoed anything gets this many times the bytes that came from it, as in QUIC
/// (RFC 9000, section 8.1).
const FACTOR: usize = 3;
/// An address that has echoed gets this many times the bytes that came from it since. The digest with which a node of
/// 20 members asks is answered with a full datagram. What is missing to fewer members comes from the budget.
const FACTOR_ONCE_ECHOED: usize = 64;
/// An address that this side has dialled gets this many bytes before anything came from it: a digest of
/// some members, and no more than a QUIC client sends first.
const FIRST_BYTES: usize = 1200;

/// What has been exchanged with one address.
#[derive(Debug, Default)]
pub(super) struct Echo {
    has_echoed: bool,
    /// The bytes that the address may get besides those that it has got.
    credit: usize,
    /// A member of the last digest that was sent, and its heartbeat.
    sample: Option<(ChitchatId, u64)>,
}

impl Echo {
    /// Returns the state of an address that is dialled.
    pub(super) fn dialled() -> Self {
        Self {
            credit: FIRST_BYTES,
            ..Self::default()
        }
    }

    /// Returns whether the address has shown that it receives what is sent to it.
    pub(super) fn has_echoed(&self) -> bool {
        self.has_echoed
    }

    /// Notes a datagram from the address.
    pub(super) fn received(&mut self, datagram: &Bytes) {
        if !self.has_echoed
            && let Some((id, heartbeat)) = &self.sample
            && let Some(digest) = digest_of(datagram)
        {
            let known = digest.node_digests.get(id);
            self.has_echoed = known.is_some_and(|known| known.heartbeat >= *heartbeat);
        }
        let factor = match self.has_echoed {
            true => FACTOR_ONCE_ECHOED,
            false => FACTOR,
        };
        let more = datagram.len().saturating_mul(factor);
        self.credit = self.credit.saturating_add(more);
    }

    /// Notes a message that is about to be sent to the address. Returns whether it may be: what exceeds the
    /// credit is asked of `budget`.
    pub(super) fn may_send(
        &mut self,
        message: &Bytes,
        budget: impl FnOnce(usize, Share) -> bool,
    ) -> bool {
        let len = message.len();
        if len <= self.credit {
            self.credit -= len;
        } else if !budget(len, share_of(message)) {
            return false;
        }
        if !self.has_echoed
            && let Some(digest) = digest_of(message)
            && !digest.node_digests.is_empty()
        {
            let nth = fastrand::usize(..digest.node_digests.len());
            let drawn = digest.node_digests.into_iter().nth(nth);
            self.sample = drawn.map(|(id, known)| (id, known.heartbeat));
        }
        true
    }
}

/// Returns the digest of an encoded message, if it has one.
fn digest_of(message: &Bytes) -> Option<Digest> {
    match ChitchatMessage::decode(message.clone()).ok()? {
        ChitchatMessage::Syn { digest, .. } | ChitchatMessage::SynAck { digest, .. } => {
            Some(digest)
        }
        ChitchatMessage::Ack { .. } | ChitchatMessage::BadCluster { .. } => None,
    }
}

/// Returns the share of an outgoing message. One that opens an exchange goes perhaps to a member that is dead,
/// and leaves half to answers: short rounds with members that are silent would keep newcomers from being answered
/// otherwise.
fn share_of(message: &Bytes) -> Share {
    match ChitchatMessage::decode(message.clone()) {
        Ok(ChitchatMessage::Syn { .. }) => Share::Half,
        _ => Share::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{NodeDigest, ProtocolVersion};

    /// Returns the Syn of a member that knows `members`, each with this heartbeat.
    fn syn(members: std::ops::Range<u64>, heartbeat: u64) -> Bytes {
        let mut digest = Digest::default();
        for n in members {
            let id = ChitchatId::new(format!("member-{n}"), n, ([10, 0, 0, 1], 7000).into());
            let known = NodeDigest {
                heartbeat,
                ..NodeDigest::default()
            };
            digest.node_digests.insert(id, known);
        }
        let syn = ChitchatMessage::Syn {
            version: ProtocolVersion::V0,
            cluster_id: "cluster".to_owned(),
            digest,
        };
        syn.into_bytes().unwrap()
    }

    #[test]
    fn an_address_gets_three_times_what_came_from_it_until_it_lists_a_member_that_was_sent() {
        let answer = syn(0..100, 5);
        let mut echo = Echo::default();
        assert!(
            !echo.may_send(&answer, |_, _| false),
            "nothing has come yet"
        );
        // It sends a third of the answer.
        let enough = answer.len().div_ceil(3);
        echo.received(&Bytes::from(vec![0; enough - 1]));
        assert!(!echo.may_send(&answer, |_, _| false));
        echo.received(&Bytes::from_static(b"1"));
        assert!(echo.may_send(&answer, |_, _| false));
        assert!(
            !echo.may_send(&answer, |_, _| false),
            "it has had its share"
        );
        // None of the members, or what it could have known before.
        for other in [syn(100..101, 5), syn(0..100, 4)] {
            echo.received(&other);
            echo.credit = 0;
            assert!(!echo.may_send(&answer, |_, _| false));
        }
        echo.received(&syn(0..101, 6));
        assert!((0..64).all(|_| echo.may_send(&answer, |_, _| false)));
    }

    #[test]
    fn an_address_that_has_echoed_gets_64_times_what_comes_from_it_and_no_more() {
        let answer = syn(0..1000, 5);
        let mut echo = Echo::default();
        echo.may_send(&answer, |_, _| true);
        // Someone has asked for the members from elsewhere.
        let told = syn(0..1000, 6);
        echo.received(&told);
        assert!(echo.has_echoed());
        let (mut came, mut sent) = (told.len(), 0);
        for _ in 0..10_000 {
            echo.received(&Bytes::from_static(b"123456789"));
            came += 9;
            while echo.may_send(&answer, |_, _| false) {
                sent += answer.len();
            }
        }
        assert!((came * 60..=came * 64).contains(&sent), "{sent} for {came}");
    }

    #[test]
    fn a_forged_list_of_few_members_seldom_passes() {
        let answer = syn(0..100, 5);
        let passes = (0..1000).filter(|_| {
            let mut echo = Echo::default();
            echo.may_send(&answer, |_, _| true);
            echo.received(&syn(0..3, 5));
            echo.has_echoed
        });
        assert!(passes.count() < 100);
    }

    #[test]
    fn an_address_that_is_dialled_gets_a_first_message() {
        let mut echo = Echo::dialled();
        assert!(echo.may_send(&Bytes::from(vec![0; 1200]), |_, _| false));
        assert!(!echo.may_send(&Bytes::from_static(b"1"), |_, _| false));
    }

    #[test]
    fn what_exceeds_the_credit_is_taken_from_the_budget() {
        let mut echo = Echo::dialled();
        let mut asked = Vec::new();
        for _ in 0..2 {
            assert!(echo.may_send(&Bytes::from(vec![0; 1000]), |len, _| {
                asked.push(len);
                true
            }));
        }
        assert_eq!(asked, [1000]);
    }

    #[test]
    fn questions_leave_half_of_the_budget_to_answers() {
        let syn = syn(0..1, 1);
        let ack = ChitchatMessage::Ack {
            version: ProtocolVersion::V0,
            delta: Default::default(),
        };
        for (message, expected) in [(syn, Share::Half), (ack.into_bytes().unwrap(), Share::All)] {
            Echo::default().may_send(&message, |_, share| {
                assert_eq!(share, expected);
                true
            });
        }
    }
}
