//! How often a round may ask a member that is not connected.
//!
//! A socket has a largest number of connections. In a cluster with more members than that, each dial ends another
//! connection on either side, whose peers dial again: if all rounds asked random members, connections would be
//! made and lost for ever. So the more connections to live members are lost, the fewer such members are asked,
//! and gossip goes on over the connections that exist. Since each dial is to another member, these keep changing,
//! and no part of the cluster is cut off from the rest.
//!
//! This file counts, and selects no member. Invariant: without losses, nothing is held back after
//! [`MAX_PAUSE`] rounds.

/// The largest number of rounds without a dial that follow one with a dial.
const MAX_PAUSE: u32 = 16;

/// The losses of connections to live members, and the rounds to wait for.
#[derive(Debug, Default)]
pub(super) struct Churn {
    losses: u32,
    pause: u32,
    left: u32,
}

impl Churn {
    /// Notes that a connection to a live member was lost, while others were kept.
    pub(super) fn note_lost(&mut self) {
        self.losses = self.losses.saturating_add(1);
    }

    /// Notes the start of a round: after losses, the pause doubles, and otherwise it is one round shorter.
    pub(super) fn begin_interval(&mut self) {
        let losses = std::mem::take(&mut self.losses);
        self.pause = match losses {
            0 => self.pause.saturating_sub(1),
            _ => (2 * self.pause).saturating_add(losses).min(MAX_PAUSE),
        };
        self.left = self.left.saturating_sub(1).min(self.pause);
    }

    /// Returns true if dials are held back.
    pub(super) fn is_high(&self) -> bool {
        self.pause > 0
    }

    /// Returns true if this round may ask a member that is not connected, and counts it.
    pub(super) fn may_dial(&mut self) -> bool {
        let may = self.left == 0;
        if may {
            self.left = self.pause.saturating_add(1);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of rounds that may dial out of `rounds`, of which each loses a connection or not.
    fn dials(churn: &mut Churn, rounds: usize, is_losing: bool) -> usize {
        let round = |_: &usize| {
            if is_losing {
                churn.note_lost();
            }
            churn.begin_interval();
            churn.may_dial()
        };
        (0..rounds).filter(round).count()
    }

    #[test]
    fn losses_make_dials_rare_until_there_are_none_for_a_while() {
        let mut churn = Churn::default();
        assert_eq!(dials(&mut churn, 20, false), 20);
        assert!(!churn.is_high());
        dials(&mut churn, 10, true);
        assert_eq!(dials(&mut churn, 17 * 5, true), 5);
        assert!(churn.is_high());
        dials(&mut churn, 15, false);
        assert!(churn.is_high());
        churn.begin_interval();
        assert!(!churn.is_high());
        dials(&mut churn, 1, false);
        assert_eq!(dials(&mut churn, 20, false), 20);
    }

    #[test]
    fn a_single_loss_holds_back_one_round() {
        let mut churn = Churn::default();
        churn.note_lost();
        churn.begin_interval();
        assert!(churn.is_high() && churn.may_dial() && !churn.may_dial());
        churn.begin_interval();
        assert!(!churn.is_high());
    }

    #[test]
    fn many_losses_at_once_hold_back_no_more_than_a_few_rounds() {
        let mut churn = Churn::default();
        (0..1000).for_each(|_| churn.note_lost());
        assert_eq!(dials(&mut churn, 16, false), 1);
        assert_eq!(dials(&mut churn, 20, false), 20);
    }
}
