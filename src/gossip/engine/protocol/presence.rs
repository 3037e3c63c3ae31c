//! Members that leave: how this one says so, what it says about leaves, and what it believes.
//!
//! Invariant: nothing that is said about this member changes how it sees itself.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Engine;
use super::software::Software;
use crate::credential::is_key_address;
use crate::gossip::engine::config::DialPolicy;
use crate::gossip::engine::event::Output;
use crate::gossip::engine::order;
use crate::gossip::engine::presence::{DEPARTED, Departure, Departures, LEFT, Presence};
use crate::gossip::engine::routes::Change;
use crate::message::ChitchatId;

/// A member that has left is forgotten after this many times the initial interval of the failure detector (5 intervals
/// by default). That is longer than it is mentioned, so that nobody teaches it to those that have forgotten it.
const LEFT_INTERVALS: u32 = 6;
/// While a member of the published crate was heard within this many, those that have left are forgotten as dead ones
/// are: it would send their state to everyone that does not mention them.
const UPSTREAM_INTERVALS: u32 = 60;

impl Engine {
    /// Sets the reserved key that says that this member has left, and returns messages that tell all connected
    /// members, which pass it on. A few also get the whole state of this member. If it goes on nevertheless, its next
    /// heartbeat revives it.
    pub fn leave(&mut self, now: Duration) -> Vec<Output> {
        let own = self.cluster.own();
        let (heartbeat, version) = (own.heartbeat, own.max_version);
        let unsent = self.rumours.floor(self.id());
        if let Err(error) = self.set_reserved(LEFT, &heartbeat.to_string(), now) {
            tracing::debug!(%error, "cannot say that this member leaves");
        }
        let floor = unsent.map_or(version, |unsent| unsent.min(version));
        self.farewell(floor, now)
    }

    /// Notes what members say about departures. Returns true if one has left that had not before.
    pub(super) fn note_departures(&mut self, departures: &Departures, now: Duration) -> bool {
        if departures.is_empty() {
            return false;
        }
        let mut left = Vec::new();
        for (id, heartbeat) in &departures.left {
            if self.cluster.note_left(id, *heartbeat) {
                left.push(id.clone());
            }
        }
        let others = self.cluster.others();
        // Whoever is connected to a leaf knows better.
        let is_told =
            |id: &&ChitchatId| is_key_address(id.addr()) && !self.routes.is_connected(id.addr());
        let departed = departures.departed_of(others.filter(is_told));
        for (id, heartbeat) in departed {
            if self.cluster.note_left(&id, heartbeat) {
                left.push(id);
            }
        }
        self.detector.depart(&left, now)
    }

    /// Notes the leaves that have lost their last connection to this member, or have one again.
    pub(super) fn note_leaves(&mut self, change: &Change, now: Duration) {
        for addr in &change.new {
            self.presence.note_connected(*addr);
        }
        // A member that only its own connections reach is in no position to tell.
        if self.config.dial == DialPolicy::SeedsOnly || is_key_address(self.id().addr()) {
            return;
        }
        if !change.lost.iter().any(|addr| is_key_address(*addr)) {
            return;
        }
        // Only members, so that strangers who come and go take no memory.
        for id in self.cluster.others() {
            let is_lost = change.lost.binary_search(&id.addr()).is_ok();
            if is_lost && is_key_address(id.addr()) && !self.detector.has_left(id) {
                self.presence.note_lost(id.addr(), now);
            }
        }
    }

    /// Says of leaves that have lost their connection and are silent that they are gone, and withdraws what was
    /// said long ago. Returns true if a member has left that had not before.
    pub(super) fn watch_leaves(&mut self, now: Duration) -> bool {
        for number in self.presence.take_expired(now) {
            self.delete_reserved(&format!("{DEPARTED}{number}"), now);
        }
        let mut changed = false;
        if self.presence.take_new() {
            let mut departures = Departures::default();
            for key in self.cluster.reserved() {
                departures.note_departed(key.name, key.payload);
            }
            changed |= self.note_departures(&departures, now);
        }
        if !self.presence.watches_any() {
            return changed;
        }
        if self.routes.connected().is_empty() {
            // The others may be fine.
            self.presence.note_cut_off(now);
            return changed;
        }
        let silence = Presence::silence(self.config.gossip_interval);
        let mut gone = self.silent_leaves(silence, now);
        // The others are watched on, and found dead by their silence if there is no room in time.
        gone.truncate(self.presence.room());
        self.state_departures(&gone, now);
        changed |= self.detector.depart(&gone, now);
        let mut gone_addrs: BTreeSet<_> = order::set(gone.iter().map(ChitchatId::addr));
        // A later generation at such an address may not be silent yet.
        for id in self.cluster.others() {
            if gone_addrs.contains(&id.addr()) && !self.detector.has_left(id) {
                gone_addrs.remove(&id.addr());
            }
        }
        let is_gone = |addr| gone_addrs.contains(&addr);
        self.presence.watch_others(is_gone, silence, now);
        changed
    }

    /// Returns the leaves that have lost their connection to this member, and whose heartbeat has not risen for
    /// `silence` since, those that have lost it first at the beginning. Also those that were not live yet, or not any more.
    fn silent_leaves(&self, silence: Duration, now: Duration) -> Vec<ChitchatId> {
        let is_silent = |id: &&ChitchatId| {
            let lost = self.presence.lost(id.addr());
            let since = lost.max(self.detector.last_heartbeat(id));
            let is_silent = since.is_some_and(|since| now.saturating_sub(since) >= silence);
            lost.is_some() && is_silent && !self.detector.has_left(id)
        };
        let silent = self.cluster.others().filter(is_silent).cloned();
        order::sorted(silent.collect(), |id| {
            let lost = self.presence.lost(id.addr()).unwrap_or_default();
            (false, lost.as_secs(), lost.subsec_nanos().into())
        })
    }

    /// Says that leaves are gone.
    fn state_departures(&mut self, gone: &[ChitchatId], now: Duration) {
        let mut departures = Vec::with_capacity(gone.len());
        for id in gone {
            let heartbeat = self.cluster.get(id).map_or(0, |state| state.heartbeat);
            self.cluster.note_left(id, heartbeat);
            departures.push(Departure::of(id, heartbeat));
        }
        for (number, payload) in self.presence.state(departures, now) {
            if let Err(error) = self.set_reserved(&format!("{DEPARTED}{number}"), &payload, now) {
                tracing::debug!(%error, "cannot say that leaves are gone");
            }
        }
    }

    /// Notes whether a peer that takes part in exchanges may be of the published crate.
    pub(super) fn note_software(&mut self, from: SocketAddr, now: Duration) {
        // Not a leaf whose connection is gone already: it is one of ours.
        if !matches!(self.software(from), Software::Ours | Software::Leaf) && !is_key_address(from)
        {
            self.presence.note_upstream(now);
        }
    }

    /// Returns the time after which a member that has left is forgotten.
    pub(super) fn left_for(&self, now: Duration) -> Duration {
        let initial = self.config.failure_detector.initial_interval;
        let recently = initial.saturating_mul(UPSTREAM_INTERVALS);
        if self.presence.has_upstream(recently, now) {
            Duration::MAX
        } else {
            initial.saturating_mul(LEFT_INTERVALS)
        }
    }
}
