//! The URLs at which browser tabs reach core members, as reserved keys of these.
//!
//! Each member states its own URL. Nothing is dialled, and which URLs a page is told is decided by those who serve it.
//! Invariant: only URLs that core members have set about themselves are returned, and each has the form of a [`PublicUrl`].

use super::engine::Engine;
use super::error::SetError;
use super::participant::Participant;
use super::public_url::PublicUrl;
use crate::message::ChitchatId;
use crate::net::NetTransport;

/// The name of the reserved key.
const NAME: &str = "url";

impl<T: NetTransport> Participant<T> {
    /// Sets the URL at which browser tabs reach this member, or removes it. Other members of this crate learn of it as of a
    /// key, with [`public_urls`](Self::public_urls); it takes no room from the keys of the user. What the holder of an invite
    /// sets here is of no use: others do not return it.
    ///
    /// # Errors
    ///
    /// Fails if the participant has left, or if there is no room beside its other keys.
    pub fn set_public_url(&self, url: Option<&PublicUrl>) -> Result<(), SetError> {
        if self.shared.changes.has_left() {
            return Err(SetError::Left);
        }
        let now = self.shared.now();
        let changed = match url {
            Some(url) => self.shared.engine().set_reserved(NAME, url.as_str(), now)?,
            None => self.shared.engine().delete_reserved(NAME, now),
        };
        self.shared.own_keys_changed(changed);
        Ok(())
    }

    /// Returns the core members that are live and have stated a URL, this one included, sorted by id. A URL of another form
    /// than that of this version is left out. Their number is bounded by that of the members.
    pub fn public_urls(&self) -> Vec<(ChitchatId, PublicUrl)> {
        of_live_members(&self.shared.engine())
    }
}

fn of_live_members(engine: &Engine) -> Vec<(ChitchatId, PublicUrl)> {
    let keys = engine.reserved().filter(|key| key.name == NAME);
    let stated = keys.filter_map(|key| Some((key.owner, key.payload.parse().ok()?)));
    let live = stated.filter(|(id, _)| engine.liveness(id).is_live());
    let mut urls: Vec<_> = live.map(|(id, url)| (id.clone(), url)).collect();
    urls.sort();
    urls
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::credential::{Claims, Invite, InviteId, Trust};
    use crate::gossip::GossipConfig;
    use crate::memory::{MemoryNetwork, MemoryTransport};
    use crate::rt::{sleep, timeout, unix_time};
    use crate::{ClusterSecret, NetCredential, TransportLayerTransport};

    const HOUR: Duration = Duration::from_secs(3600);

    type Member = Participant<MemoryTransport>;

    async fn join(network: &MemoryNetwork, n: u8, trust: Trust) -> Member {
        let host = network.host([10, 0, 0, n].into());
        let credential = NetCredential::generate(trust.clone());
        let identity = credential.identity();
        let transport = TransportLayerTransport::new(host, credential);
        let socket = transport.open(([10, 0, 0, n], 7000).into()).await.unwrap();
        let mut config = GossipConfig::new("cluster", format!("m{n}"));
        config.seeds = vec!["10.0.0.1:7000".to_owned()];
        config.advertise_addr = trust.held_invite().map(|_| identity.address());
        Participant::join(socket, config).await.unwrap()
    }

    fn url(text: &str) -> PublicUrl {
        text.parse().unwrap()
    }

    fn stated(by: &Member) -> Vec<(String, String)> {
        let urls = by.public_urls().into_iter();
        urls.map(|(id, url)| (id.node_id.to_string(), url.to_string()))
            .collect()
    }

    async fn until_stated(by: &Member, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(id, url)| ((*id).to_owned(), (*url).to_owned()))
            .collect();
        let arrived = timeout(HOUR, async {
            while stated(by) != expected {
                sleep(Duration::from_millis(100)).await;
            }
        });
        let is_stated = arrived.await.is_ok();
        assert!(is_stated, "{:?}, not {expected:?}", stated(by));
    }

    #[tokio::test(start_paused = true)]
    async fn members_learn_the_urls_of_live_core_members_and_no_others() {
        let network = MemoryNetwork::new(1);
        let secret = ClusterSecret::generate();
        let core = || Trust::secret(secret.clone()).accepting_invites();
        let one = join(&network, 1, core()).await;
        let two = join(&network, 2, core()).await;
        let id = InviteId::generate(unix_time(), HOUR).unwrap();
        let invite = Invite::issue(&secret, Claims::new(id), "cluster".to_owned(), Vec::new());
        let leaf = join(&network, 3, Trust::invite(invite.unwrap())).await;
        leaf.set_public_url(Some(&url("wss://leaf/"))).unwrap();
        leaf.set("later", "").unwrap();
        two.set_public_url(Some(&url("wss://two/"))).unwrap();
        one.set_public_url(Some(&url("wss://one/"))).unwrap();
        let both = [("m1", "wss://one/"), ("m2", "wss://two/")];
        for member in [&one, &two, &leaf] {
            until_stated(member, &both).await;
        }
        // Its URL was before this key.
        while one.member_value(&leaf.id(), "later").is_none() {
            sleep(Duration::from_millis(100)).await;
        }
        until_stated(&one, &both).await;
        two.set_public_url(Some(&url("wss://two/new"))).unwrap();
        until_stated(&one, &[both[0], ("m2", "wss://two/new")]).await;
        two.set_public_url(None).unwrap();
        until_stated(&one, &both[..1]).await;
        two.set_public_url(Some(&url("wss://two/"))).unwrap();
        until_stated(&one, &both).await;
        two.leave(Duration::from_secs(1)).await.unwrap();
        until_stated(&one, &both[..1]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_url_of_another_form_is_left_out() {
        let network = MemoryNetwork::new(1);
        let secret = ClusterSecret::generate();
        let one = join(&network, 1, Trust::secret(secret.clone())).await;
        let two = join(&network, 2, Trust::secret(secret)).await;
        let too_long = format!("wss://a/{}", "p".repeat(60_000));
        for wrong in [
            "",
            "javascript:alert(1)",
            "https://a/",
            "wss://u:p@a/",
            &too_long,
        ] {
            let now = two.shared.now();
            let set = two.shared.engine().set_reserved(NAME, wrong, now);
            assert_eq!(set, Ok(true));
            let len = wrong.len().to_string();
            two.set("later", &len).unwrap();
            while one.member_value(&two.id(), "later") != Some(len.clone()) {
                sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(stated(&one), [], "{}", wrong.len());
        }
        two.set_public_url(Some(&url("wss://a/"))).unwrap();
        until_stated(&one, &[("m2", "wss://a/")]).await;
    }
}
