//! The order in which readers hand in what has arrived on several connections of one peer.
//!
//! A peer may write to a connection, lose it, and write to another one before this side has handed in, read
//! or even noticed the first. Where nothing in the network tells which of two connections is empty, the task
//! that would know is woken and looks: a reader whether there is more to read, a dial whether it has ended.
//! What it saw counts only if nothing has changed since, since its thread may have been stopped after it had
//! looked.

use std::task::Waker;

use super::Peers;
use crate::net::NetConnection;
use crate::rt::Instant;
use crate::transport_layer::core::link::LinkRole;
use crate::transport_layer::core::step::{DialKey, Effects, PeerKey};

impl<C: NetConnection> Peers<C> {
    /// Records how to wake the reader of a connection.
    pub(in crate::transport_layer) fn reader_began(
        &mut self,
        key: PeerKey,
        link: u64,
        waker: &Waker,
    ) {
        if let Some(reader) = self.get(key).and_then(|peer| peer.reader(link)) {
            reader.waker = Some(waker.clone());
        }
    }

    /// Records that the reader of a connection has found nothing more to read, after it had looked at the
    /// revision, which was `seen`.
    pub(in crate::transport_layer) fn read_empty(
        &mut self,
        key: PeerKey,
        link: u64,
        seen: u64,
        now: Instant,
    ) {
        let is_current = seen == self.revision;
        if let Some(link) = self.get(key).and_then(|peer| peer.link(link)) {
            link.is_read_empty = is_current && link.is_quiet(now);
        }
    }

    /// Records that a dial has not ended, after it had looked at the revision, which was `seen`, and how to
    /// wake it.
    pub(in crate::transport_layer) fn dial_waits(
        &mut self,
        key: DialKey,
        seen: u64,
        waker: &Waker,
    ) {
        let is_current = seen == self.revision;
        let dial = self.get(key.peer).and_then(|peer| peer.dial.as_mut());
        if let Some(dial) = dial.filter(|dial| dial.id == key.id) {
            dial.has_waited = is_current;
            dial.waker = Some(waker.clone());
        }
    }

    /// Returns whether the reader of a connection must not hand in anything yet: that of another connection
    /// which went out of service before has not ended, or an older connection may hold messages, or a dial
    /// may have resulted in one. Has the task that knows look whether that is so.
    pub(in crate::transport_layer) fn must_hold_back(
        &mut self,
        key: PeerKey,
        link: u64,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> bool {
        let Some(peer) = self.get(key) else {
            return false;
        };
        if peer.is_behind_another_reader(link) {
            return true;
        }
        let Some(newer) = peer.link(link) else {
            return false;
        };
        let is_standby = newer.role == LinkRole::Standby;
        let Some(before) = newer.after else {
            return false;
        };
        let waker = if let Some(dial) = peer.dial.as_ref().filter(|dial| dial.id == before) {
            if dial.has_waited {
                return false;
            }
            dial.waker.clone()
        } else if let Some(older) = peer.link(before) {
            // A goodbye will tell when everything has arrived there.
            let ends = is_standby || older.is_leaving();
            if ends || !older.is_quiet(now) {
                older.is_read_empty = false;
                return true;
            }
            if older.is_read_empty {
                return false;
            }
            let reader = peer.reader(before);
            reader.and_then(|reader| reader.waker.clone())
        } else {
            return false;
        };
        fx.wakers.extend(waker);
        // What the task has seen before does not count.
        self.revision += 1;
        true
    }
}
