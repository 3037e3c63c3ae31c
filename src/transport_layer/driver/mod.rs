//! Carries out the decisions of the core, with locks, tasks, dials, reads and writes.
//!
//! Nothing is decided here. Dependencies go one way: the intake starts tasks, the tasks report to
//! the state that they share, and that state knows neither. Invariants: no lock is held over an
//! await or while the waker of a caller is woken (the core raises the signals of our own tasks under
//! its lock), and only the accept loop owns the listener, so that ending it frees the port.
//!
//! | file | content |
//! |---|---|
//! | `listener` | accepts connections: [`handle_socket_listener`] |
//! | `intake` | takes messages to send and requests for connections; starts the tasks of peers |
//! | `outgoing` | the task of a peer, which dials and writes: `handle_outgoing_connection` |
//! | `dial` | a dial, which runs beside the task of its peer |
//! | `incoming` | the task of a connection, which reads: `handle_incoming_connection` |
//! | `decoding` | the turns in which messages that take long are decoded |
//! | `shared` | the core behind its lock, the inbox and the tasks of one socket |
//! | `inbox` | the inbox behind its lock, and the futures that wait for it |
//! | `tasks` | sets of background tasks |
//! | `trust` | notices that the trust has changed, and has connections judged |
//! | `waking` | notices that the machine or the page has woken up |

mod decoding;
mod dial;
mod inbox;
mod incoming;
mod intake;
mod listener;
mod outgoing;
mod shared;
mod tasks;
mod trust;
mod waking;

pub(super) use intake::{Intake, Outbound, connected, submit, submit_to_all};
pub(super) use listener::handle_socket_listener;
pub(super) use shared::{Shared, advertised_addr};
pub(super) use trust::watch_trust;
pub(super) use waking::watch_wakings;
