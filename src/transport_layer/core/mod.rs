//! The decisions of the transport layer: what is queued, sent, dropped, dialled, closed and forgotten.
//!
//! Everything here is a plain value. Time is an argument, and nothing waits, dials, writes, spawns or
//! locks: methods change the state and fill [`Effects`] with what the driver has to do afterwards. A
//! connection is only a handle that is kept and passed on, and asked how long its peer has been
//! silent. Invariant: after every call, for each peer and in all, submitted = sent + queued + dropped
//! and received = delivered + queued + dropped, and no bound is exceeded.
//!
//! | file | content |
//! |---|---|
//! | `peers` | all peers of a socket: admission, eviction, life cycle, statistics |
//! | `peer` | one peer: its queue, its connections, its dial, and the next step of its task |
//! | `link` | one connection of a peer: when it was used, read and written |
//! | `silence` | when the silence of a peer has lasted too long |
//! | `queue`, `backoff` | the messages for one peer; when to dial it again |
//! | `requests` | a message or a wish for a connection on its way into the core |
//! | `host`, `census`, `handshakes` | what a host is; connections by identity and host; which handshake ends when there are too many |
//! | `inbox` | the messages of all peers that `recv` has not taken yet |
//! | `step` | what the driver is asked to do |

mod backoff;
mod census;
mod handshakes;
mod host;
mod inbox;
mod link;
mod peer;
mod peers;
mod queue;
mod requests;
mod silence;
mod step;
#[cfg(test)]
mod tests;

pub(super) use handshakes::handshake_to_end;
pub(super) use host::Host;
pub(super) use inbox::{InHand, Inbox, Origin, ReaderPlace, Source};
pub(super) use link::Reading;
pub(super) use peers::Peers;
pub(super) use queue::BATCH_BYTES;
pub(super) use requests::{DirectWrite, Offered, SenderPlace, Wanted, Writer};
pub(super) use step::{Effects, NewPeer, PeerKey, Step};
