//! The participant: a member of a chitchat cluster, on a native node or in a browser tab.
//!
//! The protocol is that of the published `chitchat` crate, which does not compile for a browser.
//! Members of both kinds share a cluster. The decisions are made by [`engine`], a state machine
//! without network, clock or runtime; [`Participant`] runs one on a socket. This module does not
//! dial, encrypt or queue: that is the job of [`transport_layer`](crate::transport_layer).
//! Invariant: [`engine`] does not depend on the other files here.
//!
//! | where | what |
//! |---|---|
//! | [`engine`] | the protocol, with its outline and an example of a driver loop |
//! | `participant` | runs an engine on a socket, with two tasks |
//! | `driver` | the task that receives messages, and passes in rounds and rumours |
//! | `shared` | what the tasks share; passes events to the engine, and performs its outputs |
//! | `revocations` | revoked invites, as reserved keys of core members |
//! | `seeds` | resolves the seeds, and tells why none can be reached |
//! | `public_url` | reads the URL at which browser tabs reach a member |
//! | `page_seeds` | the seeds that a page can use |
//! | `url_keys` | these URLs, as reserved keys of core members |
//! | `validate` | checks a configuration |
//! | `watch` | waits for changes of the membership |
//! | `error` | the errors of all of these |

mod driver;
pub mod engine;
mod error;
mod page_seeds;
mod participant;
mod public_url;
mod revocations;
mod seeds;
mod shared;
mod url_keys;
mod validate;
mod watch;

#[doc(inline)]
pub use engine::{
    Connection, Denial, DenialCounts, DialPolicy, Engine, EngineCounts, Event,
    FailureDetectorConfig, GossipConfig, Liveness, Member, MemberValue, Output, RumourConfig,
};
pub use error::{ConnectedError, DeleteError, JoinError, LeaveError, SetError};
pub use page_seeds::seeds_from_https;
pub use participant::Participant;
pub use public_url::{PublicUrl, PublicUrlError};
pub use seeds::SeedStatus;
pub use watch::MembershipWatch;
