//! `/config.json`: the configuration with which a page joins the cluster. Nothing in it is secret, unless visitors are
//! invited: then it has an invite.

use std::collections::BTreeSet;
use std::time::Duration;

use gossip_transport::gossip::{Liveness, Member, PublicUrl};
use gossip_transport::message::ChitchatId;
use gossip_transport::net::is_dialable;
use serde::Serialize;

use crate::kind;
use crate::node::Node;

/// The most public URLs that a page is told of. One is enough to join; further ones are for the case that some of their nodes
/// are down. A page dials all of them, and has at most 255 WebSockets.
const MAX_URLS: usize = 16;

/// The cluster's name, where a page reaches members, and the gossip interval.
#[derive(Debug, Serialize)]
pub(crate) struct PageConfig {
    cluster: String,
    /// This node, followed by other live nodes.
    seeds: Vec<String>,
    gossip_interval_ms: u64,
    /// The word of an invite for this page.
    #[serde(skip_serializing_if = "Option::is_none")]
    invite: Option<String>,
    /// The seconds after which the page may ask for one again, if its host has asked for too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    invite_after_s: Option<u64>,
}

impl PageConfig {
    /// Returns the configuration for a page that has reached the gossip port of `node` at the URL `reached`. It has no inner
    /// address, and takes no lock, since everyone may ask for it.
    pub(crate) fn for_everyone(node: &Node, urls: &Urls, reached: &PublicUrl) -> Self {
        let reached = [reached.as_str().to_owned()].into_iter();
        Self::with_seeds(node, urls.after(reached))
    }

    /// Returns the first seed.
    pub(crate) fn first_seed(&self) -> Option<&str> {
        self.seeds.first().map(String::as_str)
    }

    /// Returns the configuration for a page that `node` serves on `--http`, or `None` if the node has left.
    pub(crate) fn new(node: &Node) -> Option<Self> {
        let (own, mut members, urls) = node.with(|participant| {
            let urls = participant.public_urls();
            (participant.id(), participant.members(), urls)
        })?;
        members.sort_by_key(|member| member.liveness != Liveness::Myself);
        let dialled = members.iter().filter(|member| accepts_pages(member));
        let addrs = dialled.map(|member| member.id.addr().to_string());
        Some(Self::with_seeds(node, Urls::of(&own, &urls).after(addrs)))
    }

    fn with_seeds(node: &Node, seeds: Vec<String>) -> Self {
        Self {
            cluster: node.cluster.to_string(),
            seeds,
            gossip_interval_ms: u64::try_from(node.gossip_interval.as_millis()).unwrap_or(u64::MAX),
            invite: None,
            invite_after_s: None,
        }
    }

    /// Adds the time after which the page may ask for an invite again.
    pub(crate) fn with_invite_after(self, wait: Duration) -> Self {
        Self {
            // Not rounded down: it would be refused again.
            invite_after_s: Some(wait.as_secs_f64().ceil().max(1.0) as u64),
            ..self
        }
    }

    /// Adds the word of an invite.
    pub(crate) fn with_invite(self, word: String) -> Self {
        Self {
            invite: Some(word),
            ..self
        }
    }
}

/// The public URLs that the pages of a node are told.
#[derive(Debug, Clone)]
pub(crate) struct Urls {
    has_own: bool,
    chosen: Vec<String>,
}

impl Urls {
    /// Returns those that the pages of `node` are told, or `None` if it has left.
    pub(crate) fn read(node: &Node) -> Option<Self> {
        let (own, urls) = node.with(|participant| (participant.id(), participant.public_urls()))?;
        Some(Self::of(&own, &urls))
    }

    /// Returns those of live nodes that the pages of the node `own` are told, its own first.
    ///
    /// `urls` are sorted by id. Of more than [`MAX_URLS`] they are those that follow the own id, so that the pages of
    /// different nodes are spread over all of them.
    fn of(own: &ChitchatId, urls: &[(ChitchatId, PublicUrl)]) -> Self {
        let first = urls.partition_point(|(id, _)| id < own);
        let has_own = urls.get(first).is_some_and(|(id, _)| id == own);
        // Nodes behind one proxy have the same URL.
        let mut listed = BTreeSet::new();
        let all = urls.iter().cycle().skip(first).take(urls.len());
        let different = all.filter(|(_, url)| listed.insert(url));
        let chosen = different.take(MAX_URLS);
        let chosen = chosen.map(|(_, url)| url.as_str().to_owned()).collect();
        Self { has_own, chosen }
    }

    /// Returns the seeds for a page: these URLs, and before them `addrs`, if the node has no URL of its own. A node with a
    /// public URL serves pages of strangers, which reach no inner address: pages over https cannot even try, and a
    /// loopback address would be that of the stranger's machine.
    fn after(&self, addrs: impl Iterator<Item = String>) -> Vec<String> {
        let addrs = addrs.filter(|_| !self.has_own);
        addrs.chain(self.chosen.iter().cloned()).collect()
    }
}

/// Returns whether a page can dial a member: it is live, it listens, and it speaks WebSocket. A tab
/// does not listen, and a member without a kind may use another transport.
fn accepts_pages(member: &Member) -> bool {
    match member.liveness {
        Liveness::Myself => true,
        Liveness::Live => kind::is_node(member) && is_dialable(member.id.addr()),
        Liveness::Left | Liveness::Dead => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u16) -> ChitchatId {
        ChitchatId::new(format!("n{n:02}"), 1, ([10, 0, 0, 1], 7000 + n).into())
    }

    /// Returns the seeds for a page of node 5 if these nodes have these URLs.
    fn seeds_of_5(urls: &[(u16, &str)]) -> Vec<String> {
        let urls = urls.iter();
        let urls: Vec<_> = urls
            .map(|(n, url)| (id(*n), url.parse().unwrap()))
            .collect();
        Urls::of(&id(5), &urls).after(["inner".to_owned()].into_iter())
    }

    #[test]
    fn a_page_is_told_to_wait_until_it_gets_an_invite_in_whole_seconds() {
        for (millis, told) in [(1, 1), (1_000, 1), (1_001, 2), (2_900, 3)] {
            let config = PageConfig {
                cluster: String::new(),
                seeds: Vec::new(),
                gossip_interval_ms: 1_000,
                invite: None,
                invite_after_s: None,
            };
            let config = config.with_invite_after(Duration::from_millis(millis));
            assert_eq!(config.invite_after_s, Some(told), "{millis}");
        }
    }

    #[test]
    fn without_a_url_of_its_own_a_node_lists_addresses_and_then_the_urls_of_others() {
        assert_eq!(seeds_of_5(&[]), ["inner"]);
        let others = [(3, "wss://three/"), (7, "wss://seven/")];
        assert_eq!(
            seeds_of_5(&others),
            ["inner", "wss://seven/", "wss://three/"]
        );
    }

    #[test]
    fn a_node_with_a_url_lists_urls_only_and_its_own_first() {
        let urls = [(3, "wss://three/"), (5, "wss://five/"), (7, "wss://seven/")];
        let expected = ["wss://five/", "wss://seven/", "wss://three/"];
        assert_eq!(seeds_of_5(&urls), expected);
    }

    #[test]
    fn the_url_of_several_nodes_is_listed_once() {
        let urls = [
            (3, "wss://a/"),
            (5, "wss://b/"),
            (6, "wss://a/"),
            (7, "WSS://B:443"),
        ];
        assert_eq!(seeds_of_5(&urls), ["wss://b/", "wss://a/"]);
    }

    #[test]
    fn of_many_urls_the_next_16_are_listed() {
        let names: Vec<_> = (0..40).map(|n| format!("wss://h{n}/")).collect();
        let urls: Vec<_> = (0..40).zip(names.iter().map(String::as_str)).collect();
        let expected: Vec<_> = names[5..21].to_vec();
        assert_eq!(seeds_of_5(&urls), expected);
        let few: Vec<_> = urls[..10].to_vec();
        let expected = [&names[5..10], &names[..5]].concat();
        assert_eq!(seeds_of_5(&few), expected);
    }
}
