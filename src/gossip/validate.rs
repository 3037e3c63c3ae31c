//! The check of a [`GossipConfig`]: its values, and whether its address can be advertised.
//!
//! It is not in the engine, which knows nothing of networks. Nothing is resolved or dialled. Invariant: a value is
//! accepted if and only if it is within the bound that the documentation of its field states.

use super::engine::GossipConfig;
use crate::config::ConfigError;
use crate::credential::is_key_address;
use crate::net::is_dialable;

impl GossipConfig {
    /// Checks every value. [`Participant::join`](crate::gossip::Participant::join) calls it;
    /// [`Engine::new`](super::Engine::new) does not.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is out of the bounds which its documentation states. The
    /// fields of [`failure_detector`](Self::failure_detector) and [`rumours`](Self::rumours) are
    /// named with a dot, for example `rumours.interval`.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_values()?;
        if let Some(addr) = self.advertise_addr
            && !is_dialable(addr)
            && !is_key_address(addr)
        {
            let bound = "an address that others can dial, or a key address";
            return Err(ConfigError::new("advertise_addr", addr.to_string(), bound));
        }
        Ok(())
    }
}
