//! Streams and requests that a listener never gets, on their way to its counts.
//!
//! Whoever loses one has no socket in which to count it, and the listener has. Invariant: each is counted once, and those
//! that wait for it take memory for each reason, not for each peer.

use std::net::SocketAddr;

use super::error::AcceptError;

/// The reason for which a listener does not get a stream, or a request on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Too many streams wait for the listener.
    Crowded {
        max: usize,
    },
    /// The peer had gone when the response was written that opens its WebSocket.
    #[cfg(feature = "http")]
    Gone,
    NotAnUpgrade,
    Http10,
    OtherWebSocketVersion,
    Malformed {
        what: &'static str,
    },
}

impl From<Loss> for AcceptError {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Crowded { max } => Self::TooManyStreams { max },
            #[cfg(feature = "http")]
            Loss::Gone => Self::NotUpgraded,
            Loss::NotAnUpgrade => Self::NotAnUpgrade,
            Loss::Http10 => Self::Http10,
            Loss::OtherWebSocketVersion => Self::OtherWebSocketVersion,
            Loss::Malformed { what } => Self::MalformedRequest { what },
        }
    }
}

/// The losses that a listener has not counted yet: how many there are for each reason, and the last peer.
#[derive(Debug, Default)]
pub(super) struct Losses(Vec<(Loss, SocketAddr, u64)>);

impl Losses {
    pub(super) fn add(&mut self, loss: Loss, peer: SocketAddr) {
        match self.0.iter_mut().find(|(known, ..)| *known == loss) {
            Some((_, last, count)) => {
                *last = peer;
                *count += 1;
            }
            None => self.0.push((loss, peer, 1)),
        }
    }

    /// Takes one of them out.
    pub(super) fn pop(&mut self) -> Option<(Loss, SocketAddr)> {
        let (loss, peer, count) = self.0.last_mut()?;
        let taken = (*loss, *peer);
        *count -= 1;
        if *count == 0 {
            self.0.pop();
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_is_returned_once_and_a_reason_takes_one_place() {
        let mut losses = Losses::default();
        let peer = |n| SocketAddr::from(([192, 0, 2, 1], n));
        for n in 1..=1_000 {
            losses.add(Loss::Crowded { max: 64 }, peer(n));
            losses.add(Loss::Http10, peer(n));
        }
        assert_eq!(losses.0.len(), 2);
        let mut counts = [0; 2];
        while let Some((loss, last)) = losses.pop() {
            assert_eq!(last, peer(1_000));
            counts[usize::from(loss == Loss::Http10)] += 1;
        }
        assert_eq!(counts, [1_000, 1_000]);
    }
}
