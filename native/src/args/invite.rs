//! What an invite says about the node that joins with it, where the command line does not.

use gossip_transport::credential::{Identity, Invite};

use super::Args;
use super::error::Invalid;
use crate::values::parse_seed;

impl Args {
    /// Takes the cluster and the seeds from `invite`, unless they were given.
    ///
    /// # Errors
    ///
    /// Fails if the invite does not allow the name that was given, or if no seed that it names is one for nodes.
    pub(crate) fn join_with(&mut self, invite: &Invite) -> Result<(), Invalid> {
        let prefix = invite.claims().name_prefix();
        if let Some(id) = self.id.as_ref().filter(|id| !prefix.allows(id)) {
            return Err(Invalid::new(
                "id",
                format!("is {id:?}, but must begin with {prefix:?}, which the invite demands"),
            ));
        }
        if !self.gives_cluster {
            invite.cluster_id().clone_into(&mut self.cluster);
        }
        if self.seeds.is_empty() {
            self.seeds = node_seeds(invite);
            if self.seeds.is_empty() {
                return Err(Invalid::new(
                    "seed",
                    "is missing: the invite names no HOST:PORT of a member, so give one",
                ));
            }
        }
        Ok(())
    }
}

/// Returns the seeds that a node can dial. Others are URLs for browser tabs.
pub(crate) fn node_seeds(invite: &Invite) -> Vec<String> {
    let seeds = invite.seeds().iter();
    let seeds = seeds.filter(|seed| parse_seed(seed).is_ok());
    seeds.cloned().collect()
}

/// Returns the name of a node with this key that is given no other. It begins as the invite demands, if there is one.
pub(crate) fn default_id(identity: &Identity, invite: Option<&Invite>) -> String {
    let prefix = invite.map_or("", |invite| invite.claims().name_prefix().as_str());
    format!("{prefix}node-{}", identity.short())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser as _;
    use gossip_transport::ClusterSecret;
    use gossip_transport::credential::{Claims, InviteId};

    use super::*;

    fn invite(seeds: &[&str]) -> Invite {
        let id = InviteId::generate(Duration::ZERO, Duration::from_secs(60)).unwrap();
        let claims = Claims::new(id).with_name_prefix("tab-".parse().unwrap());
        let seeds = seeds.iter().map(|seed| (*seed).to_owned()).collect();
        Invite::issue(&ClusterSecret::generate(), claims, "c".to_owned(), seeds).unwrap()
    }

    fn joined(words: &[&str], invite: &Invite) -> Result<Args, Invalid> {
        let words = [&["gossip-node", "--invite", "file"], words].concat();
        let mut args = Args::try_parse_from(words).unwrap();
        args.join_with(invite)?;
        Ok(args)
    }

    #[test]
    fn cluster_and_seeds_are_those_of_the_invite_unless_given() {
        let invite = invite(&["wss://a.example/gossip", "b.example:7946"]);
        let args = joined(&[], &invite).unwrap();
        assert_eq!(
            (&*args.cluster, &*args.seeds),
            ("c", &["b.example:7946".to_owned()][..])
        );
        let args = joined(&["--seed", "d.example:1"], &invite).unwrap();
        assert_eq!(args.seeds, ["d.example:1"]);
    }

    #[test]
    fn a_name_must_begin_as_the_invite_says() {
        let invite = invite(&["b.example:7946"]);
        assert!(joined(&["--id", "tab-7"], &invite).is_ok());
        let error = joined(&["--id", "node"], &invite).unwrap_err().to_string();
        assert!(
            error.contains("--id") && error.contains("\"tab-\""),
            "{error}"
        );
        let name = default_id(&Identity::from_bytes([1; 32]), Some(&invite));
        assert!(name.starts_with("tab-node-"), "{name}");
    }

    #[test]
    fn an_invite_without_a_seed_for_nodes_needs_one_that_is_given() {
        for seeds in [&[][..], &["wss://a.example/gossip"]] {
            let error = joined(&[], &invite(seeds)).unwrap_err().to_string();
            assert!(error.contains("--seed"), "{error}");
        }
    }
}
