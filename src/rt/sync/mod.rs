//! Locks and waiting, the same on every target.
//!
//! Nothing here spawns a task or owns a queue of messages. Invariant: a waiter that is dropped
//! passes its turn to the next one, so that no wake-up is lost with it.
//!
//! | type | use it when |
//! |---|---|
//! | [`Mutex`] | short critical sections; never hold it over an await |
//! | [`WaitList`] | tasks queue for something that another lock guards, first come, first served |
//! | [`Signal`] | one task must check its state again |
//! | [`Epoch`] | any number of tasks wait for a change |
//! | [`Timer`] | a task waits for a deadline that moves |

mod epoch;
mod mutex;
mod signal;
mod timer;
mod wait_list;

pub(crate) use epoch::Epoch;
pub(crate) use mutex::{Mutex, MutexGuard};
pub(crate) use signal::{Signal, yield_now};
pub(crate) use timer::Timer;
pub(crate) use wait_list::{Ticket, WaitList};
