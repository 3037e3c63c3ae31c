//! The page: static files, what they need to know, and the headers that fence them in.

use std::net::SocketAddr;

use axum::http::header::{self, HeaderName, HeaderValue};
use gossip_transport::gossip::{Liveness, Member};
use gossip_transport::net::is_dialable;
use serde::Serialize;

use crate::node::{KIND_KEY, KIND_NODE, Node};

/// Everything comes from this server, but for gossip, which goes to any member.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; \
     style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self' ws: wss:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Set on every answer. The page's address carries the secret in its fragment; no referrer either.
pub(crate) const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY_POLICY),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// `/config.json`: whom the page dials, and how fast the cluster gossips. Nothing secret.
#[derive(Debug, Serialize)]
pub(crate) struct PageConfig {
    cluster: String,
    /// This node first, then the other live native members.
    seeds: Vec<SocketAddr>,
    gossip_interval_ms: u64,
}

impl PageConfig {
    /// For a page that this node serves; `None` once it has left.
    pub(crate) fn new(node: &Node) -> Option<Self> {
        let mut members = node.with(|participant| participant.members())?;
        members.sort_by_key(|member| member.liveness != Liveness::Myself);
        Some(Self {
            cluster: node.cluster.to_string(),
            seeds: members
                .iter()
                .filter(|member| accepts_pages(member))
                .map(|member| member.id.gossip_advertise_addr)
                .collect(),
            gossip_interval_ms: u64::try_from(node.gossip_interval.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// A page can dial this member: it lives, it listens, and it speaks WebSocket. Another tab does
/// not listen, and a member that says nothing of its kind may be on another transport.
fn accepts_pages(member: &Member) -> bool {
    let is_node = member
        .key_values
        .get(KIND_KEY)
        .is_some_and(|kind| kind.value == KIND_NODE);
    match member.liveness {
        Liveness::Myself => true,
        Liveness::Live => is_node && is_dialable(member.id.gossip_advertise_addr),
        Liveness::Dead => false,
    }
}
