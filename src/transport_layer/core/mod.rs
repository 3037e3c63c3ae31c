//! Decides what the transport layer queues, sends, drops, dials, closes and forgets.
//!
//! Everything here is a plain value. Time is an argument, and nothing waits, dials, writes, spawns
//! or locks: methods change the state and fill [`Effects`] with what the driver must do afterwards.
//! A connection is only a handle that is kept and passed on, and asked when its peer was last
//! heard. Invariant: after every call, for each peer and in all, submitted = sent + queued +
//! dropped and received = delivered + queued + dropped, and no bound is exceeded.
//!
//! | file | content |
//! |---|---|
//! | `peers` | all peers of a socket: admission, eviction, life cycle, statistics |
//! | `peer` | one peer: its queue, its connections, its dial, and the next step of its task |
//! | `link` | one connection of a peer: when it was used, read and written |
//! | `names` | the addresses that lead to peers |
//! | `conflict` | which of two connections of one peer stays |
//! | `trusted` | when a connection ends whose secret was removed |
//! | `silence` | whether a peer has been silent for too long |
//! | `doubt` | whether a connection has survived a sleep of this side |
//! | `queue`, `backoff` | the messages for one peer; when to dial it again |
//! | `requests` | senders that wait for room, and callers that wait for a connection |
//! | `pool`, `census` | peers with and without a proved identity; counts of connections by identity and host |
//! | `backlog` | the bound on what waits in all queues together |
//! | `inbox` | received messages of all peers that `recv` has not returned yet |
//! | `streak` | how long a reader has gone on without waiting |
//! | `step` | the steps and effects that the driver carries out |

mod backlog;
mod backoff;
mod census;
mod conflict;
mod doubt;
mod inbox;
mod link;
mod names;
mod peer;
mod peers;
mod pool;
mod queue;
mod requests;
mod silence;
mod step;
mod streak;
#[cfg(test)]
mod tests;
mod trusted;

pub(super) use inbox::{InHand, Inbox, Origin, ReaderPlace, Source};
pub(super) use link::{LinkEnd, Reading};
pub(super) use names::Own;
pub(super) use peers::{Judged, Of, Peers};
pub(super) use queue::BATCH_BYTES;
pub(super) use requests::{DirectWrite, Offered, SenderPlace, Wanted, Writer};
pub(super) use step::{Effects, LinkLife, NewDial, NewPeer, NewReader, PeerKey, Step};
pub(super) use streak::Streak;
