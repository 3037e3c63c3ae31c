//! Carries out what the core decides: locks, tasks, dials, reads and writes.
//!
//! Nothing is decided here. Data goes one way: the intake starts tasks, the tasks report to what they
//! share, and nothing below knows what is above. Invariants: no lock is held over an await or while the
//! waker of a caller is woken (the core raises the signals of our own tasks under its lock), and only
//! the accept loop owns the listener, so that ending it frees the port.
//!
//! | file | content |
//! |---|---|
//! | `listener` | accepts connections: [`handle_socket_listener`] |
//! | `intake` | messages to send and wishes for connections enter here; starts the tasks of peers |
//! | `outgoing` | the task of a peer, which dials and writes: `handle_outgoing_connection` |
//! | `incoming` | the task of a connection, which reads: `handle_incoming_connection` |
//! | `shared` | the core behind its lock, the inbox and the tasks of one socket |
//! | `inbox` | the inbox behind its lock, and waiting for it |
//! | `tasks` | sets of background tasks |

mod inbox;
mod incoming;
mod intake;
mod listener;
mod outgoing;
mod shared;
mod tasks;

pub(super) use intake::{Intake, Outbound, connected, submit};
pub(super) use listener::handle_socket_listener;
pub(super) use shared::Shared;
