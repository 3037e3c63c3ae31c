//! Numbered channels on one carrier: the rules, without sockets, tasks, locks or time.
//!
//! A carrier between two of our nodes carries channel 0, which is their secure connection, and other channels, each a
//! stream of frames in both directions. [`Channels`] is one end of a carrier. It decides which frames are sent and kept,
//! and when a channel or the carrier ends; whoever drives it reads and writes. Frames are neither encrypted nor decoded
//! here. Inside the carrier, [control messages](wire) travel encrypted on channel 0, so only the peer can have sent them.
//! The number of a frame is readable and can be forged by anyone on the path, so what a channel carries needs a
//! handshake of its own.
//!
//! The rules:
//!
//! 1. The dialler of the carrier opens channels with odd numbers, the acceptor those with even ones, each in order and
//!    without gaps. No number is used again; a side that has used all of its numbers opens no more.
//! 2. The opener sends nothing until its `open` is answered by `opened`. A frame before that closes the channel.
//! 3. A frame costs its length and [`FRAME_COST`] bytes of credit. `open` and `opened` give the first credit for the
//!    other direction, `credit` gives more. A frame beyond the credit closes the channel.
//! 4. Each side ends each channel with exactly one message, `close` (or `refuse`, instead of `opened`), and sends nothing
//!    for it afterwards. A side that has ended a channel first ignores the frames for it until the end of the
//!    other side arrives, up to the credit that was outstanding.
//! 5. A channel counts against the limit of its opener until both ends have been sent. A side answers the end of the other
//!    one when its own reader has taken everything, so what waits to be read is within the limit, too.
//! 6. Whatever a peer that follows these rules cannot send is a [`Violation`], which ends the carrier.
//!
//! Invariants: the frames that wait here never cost more than [`ChannelConfig`] allows, whatever the peer does; each
//! open channel can always send and receive one frame, whatever other channels do; every frame that was accepted for
//! sending or received is counted in [`ChannelStats`] as passed on, waiting or dropped.
//!
//! The driver's loop: pass what has been read to [`on_control`](Channels::on_control) and
//! [`on_frame`](Channels::on_frame), take all [events](Channels::next_event) after each call of any method, and write what
//! [`next_turn`](Channels::next_turn) says while the carrier takes more.
//!
//! | file | contents |
//! |---|---|
//! | `channels` | [`Channels`]: one end of a carrier, as its user sees it |
//! | `receiving` | what control messages and frames of the peer change |
//! | `sending` | which frame or control message is written next |
//! | `entry` | one channel |
//! | `incoming`, `outgoing` | the two directions of a channel: frames that wait, and their credit |
//! | `turns` | which channel sends next |
//! | `pool` | a number of bytes that the channels of a carrier share |
//! | `wire` | the control messages and their exact bytes |
//! | `number` | the numbers of channels |
//! | `config`, `stats`, `error`, `event` | plain values |

mod channels;
mod config;
mod entry;
mod error;
mod event;
mod incoming;
mod number;
mod outgoing;
mod pool;
mod receiving;
mod sending;
mod stats;
#[cfg(test)]
mod tests;
mod turns;
pub mod wire;

pub use channels::Channels;
pub use config::{ChannelConfig, FRAME_COST, MAX_FRAME_LEN, SMALLEST_WINDOW};
pub use error::{OpenError, SendError, Violation};
pub use event::{ChannelCode, ChannelEnd, ChannelEvent, Turn};
pub use number::{ChannelNumber, Side};
pub use stats::ChannelStats;
