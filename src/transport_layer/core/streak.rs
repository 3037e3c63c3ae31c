//! How long a reader has gone on without waiting for its connection.

/// After this many reads without waiting, other tasks get their turn.
const MOST_READS: u32 = 16;
/// After this many messages without waiting, other tasks get their turn: a record holds up to 8,000, and 16 records
/// would keep others waiting for long.
const MOST_MESSAGES: u32 = 2048;

/// The reads of a connection since its reader has last waited, or has let other tasks run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::transport_layer) struct Streak {
    reads: u32,
    messages: u32,
}

impl Streak {
    /// Notes a read that has returned `messages`, before which the reader has `waited` or not. Returns true
    /// if other tasks must get their turn now, from which on a new streak counts.
    ///
    /// A read that has waited begins a new streak. Letting other tasks run costs more than it looks: the
    /// executor then wakes an idle thread, which takes over the tasks of this one.
    pub(in crate::transport_layer) fn note(&mut self, messages: usize, waited: bool) -> bool {
        if waited {
            *self = Self::default();
        } else {
            self.reads += 1;
        }
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.messages = self.messages.saturating_add(messages);
        let is_long = self.reads >= MOST_READS || self.messages >= MOST_MESSAGES;
        if is_long {
            *self = Self::default();
        }
        is_long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of reads of `messages` each after which other tasks get their turn, of 10,000.
    fn turns(messages: usize, waited: bool) -> Vec<usize> {
        let mut streak = Streak::default();
        let reads = 1..=10_000;
        reads.filter(|_| streak.note(messages, waited)).collect()
    }

    #[test]
    fn other_tasks_get_their_turn_after_sixteen_reads_or_two_thousand_messages() {
        let every = |reads: usize| (reads..=10_000).step_by(reads).collect::<Vec<_>>();
        assert_eq!(turns(1, false), every(16));
        assert_eq!(turns(128, false), every(16));
        assert_eq!(turns(129, false), every(16));
        assert_eq!(turns(200, false), every(11));
        assert_eq!(turns(2047, false), every(2));
        assert_eq!(turns(2048, false), every(1));
        assert_eq!(turns(usize::MAX, false), every(1));
    }

    #[test]
    fn a_reader_that_waits_for_each_message_never_gives_up_its_turn() {
        assert!(turns(1, true).is_empty());
        assert!(turns(2047, true).is_empty());
        assert_eq!(turns(2048, true).len(), 10_000);
    }

    #[test]
    fn a_wait_begins_a_new_streak() {
        let mut streak = Streak::default();
        for waited in [true, false] {
            for _ in 0..15 {
                assert!(!streak.note(100, false));
            }
            assert_eq!(streak.note(100, waited), !waited);
        }
    }
}
