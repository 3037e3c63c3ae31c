//! A bound port, which sorts datagrams into flows.
//!
//! It receives; it sends nothing by itself. Invariant: there is at most one flow for each remote
//! address.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;

use super::budget::{Budget, Share};
use super::config::UdpConfig;
use super::echo::Echo;
use super::error::UdpError;
use super::flow::{Flow, Pushed};
use crate::host::{Host, one_to_end};
use crate::message::{
    ChitchatMessage, MAX_DATAGRAM_LEN, MAX_STREAM_LEN, Message as _, begins_a_message,
    expanded_len_bound,
};
use crate::net::{canonical, is_dialable};
use crate::rt::sync::{Epoch, Mutex, MutexGuard};
use crate::rt::{self, Instant, Task};

/// After this many datagrams in a row, other tasks may run.
const YIELD_AFTER: u32 = 64;

/// The wait before receiving again when the system has no memory for a datagram.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// Addresses that have echoed get together this many times what those get that have not. A few members with a large
/// state need it: their questions are short, and each answer is a full datagram.
const ECHOED_FACTOR: usize = 16;
/// The bytes into which a frame that is malformed on purpose decompresses before it is given up.
const MALFORMED_LEN: usize = 1 << 20;

/// The size of the receive buffer, in bytes: more than the longest datagram.
const BUFFER_LEN: usize = 1 << 16;

/// The number of datagrams that were dropped on arrival or withheld, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct UdpCounts {
    /// Datagrams that are not chitchat messages.
    pub malformed: u64,
    /// Messages from new addresses that too many others waited beside to be accepted, or that arrived on
    /// a port without a listener, and messages whose source is an address to which nothing can be
    /// sent, such as a key address or a link-local address.
    pub refused: u64,
    /// Messages from peers of which too many messages or bytes waited to be read.
    pub overflowed: u64,
    /// Messages that were not decompressed, because too many others had been
    /// ([`max_decompressed_bytes_per_second`](super::UdpConfig::max_decompressed_bytes_per_second)).
    pub overcompressed: u64,
    /// Messages that waited to be read when their connection was closed or refused.
    pub unread: u64,
    /// Outgoing messages that were not sent, because their address has not shown that it receives what is
    /// sent to it, and such addresses have had their share
    /// ([`max_unechoed_bytes_per_second`](super::UdpConfig::max_unechoed_bytes_per_second)).
    pub withheld: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    malformed: AtomicU64,
    refused: AtomicU64,
    overflowed: AtomicU64,
    overcompressed: AtomicU64,
    unread: AtomicU64,
    withheld: AtomicU64,
}

impl Counters {
    fn add_unread(&self, messages: usize) {
        self.unread.fetch_add(messages as u64, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> UdpCounts {
        UdpCounts {
            malformed: self.malformed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            overflowed: self.overflowed.load(Ordering::Relaxed),
            overcompressed: self.overcompressed.load(Ordering::Relaxed),
            unread: self.unread.load(Ordering::Relaxed),
            withheld: self.withheld.load(Ordering::Relaxed),
        }
    }
}

/// A bound port. It is freed when the last handle is dropped.
#[derive(Debug)]
pub(super) struct Endpoint {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    /// Whether IPv4 addresses must be mapped into IPv6 ones to send to them.
    is_ipv6: bool,
    _receiving: Task,
}

#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    config: UdpConfig,
    counters: Arc<Counters>,
    state: Mutex<State>,
    /// What may be sent to addresses that may be forged, in all.
    unechoed: Mutex<Budget>,
    /// What may be sent, beyond their credit, to addresses that have echoed, which someone may have prepared.
    echoed: Mutex<Budget>,
    /// The bytes into which messages may decompress.
    decompressed: Mutex<Budget>,
    // Advances when a flow becomes pending, and when the port fails.
    changed: Epoch,
}

#[derive(Debug, Default)]
struct State {
    flows: HashMap<SocketAddr, Arc<Flow>>,
    /// Flows from new addresses that have not been accepted, oldest first.
    pending: VecDeque<Arc<Flow>>,
    listening: bool,
    failed: Option<Arc<io::Error>>,
}

impl Endpoint {
    pub(super) async fn bind(
        addr: SocketAddr,
        config: UdpConfig,
        counters: Arc<Counters>,
    ) -> io::Result<Arc<Self>> {
        let socket = UdpSocket::bind(addr).await?;
        let local_addr = socket.local_addr()?;
        let now = Instant::now();
        let rate = config.max_unechoed_bytes_per_second;
        let unechoed = Budget::new(rate, MAX_DATAGRAM_LEN, now);
        let more = rate.saturating_mul(ECHOED_FACTOR);
        let echoed = Budget::new(more, MAX_DATAGRAM_LEN, now);
        let rate = config.max_decompressed_bytes_per_second;
        let decompressed = Budget::new(rate, MAX_STREAM_LEN, now);
        let shared = Arc::new(Shared {
            socket,
            config,
            counters,
            state: Mutex::default(),
            unechoed: Mutex::new(unechoed),
            echoed: Mutex::new(echoed),
            decompressed: Mutex::new(decompressed),
            changed: Epoch::default(),
        });
        Ok(Arc::new(Self {
            _receiving: Task::spawn(Arc::clone(&shared).receive()),
            shared,
            local_addr: canonical(local_addr),
            is_ipv6: local_addr.is_ipv6(),
        }))
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Sends a message of `flow` as a datagram. Completes when the system has accepted it, or when it is
    /// withheld, and counted.
    pub(super) async fn send(&self, message: &Bytes, flow: &Flow) -> io::Result<()> {
        let to = flow.remote_addr();
        if !self.shared.may_send(message, flow) {
            self.withhold(to);
            return Ok(());
        }
        let to = match to {
            SocketAddr::V4(v4) if self.is_ipv6 => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            to => to,
        };
        self.shared.socket.send_to(message, to).await?;
        Ok(())
    }

    fn withhold(&self, addr: SocketAddr) {
        let withheld = self
            .shared
            .counters
            .withheld
            .fetch_add(1, Ordering::Relaxed)
            + 1;
        if withheld.is_power_of_two() {
            tracing::warn!(
                withheld,
                %addr,
                "not answered: addresses that may be forged have had their share"
            );
        }
    }

    /// Sets whether flows from new addresses become pending. Turning it off drops pending flows.
    pub(super) fn set_listening(&self, listening: bool) {
        let mut state = self.shared.lock();
        state.listening = listening;
        let refused = if listening {
            VecDeque::new()
        } else {
            std::mem::take(&mut state.pending)
        };
        for flow in refused {
            state.flows.remove(&flow.remote_addr());
            self.shared.counters.add_unread(flow.discard());
        }
    }

    /// Returns the pending flow that has waited longest, waiting if there is none, and the id of a connection of it.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// Fails if the port has failed.
    pub(super) async fn next_pending(&self) -> Result<(Arc<Flow>, u64), UdpError> {
        loop {
            let seen = self.shared.changed.current();
            {
                let mut state = self.shared.lock();
                if let Some(flow) = state.pending.pop_front() {
                    let id = flow.join();
                    return Ok((flow, id));
                }
                state.check()?;
            }
            self.shared.changed.later_than(seen).await;
        }
    }

    /// Returns the flow of `remote`, and the id of one more connection of it. Creates the flow if there is none.
    ///
    /// # Errors
    ///
    /// Fails if the port has failed.
    pub(super) fn flow(&self, remote: SocketAddr) -> Result<(Arc<Flow>, u64), UdpError> {
        let mut state = self.shared.lock();
        state.check()?;
        // A pending flow that is dialled need not be accepted any more.
        state.pending.retain(|flow| flow.remote_addr() != remote);
        let flow = state
            .flows
            .entry(remote)
            .or_insert_with(|| Arc::new(Flow::new(remote, Echo::dialled())));
        Ok((Arc::clone(flow), flow.join()))
    }

    /// Ends the connection `id` of `flow`. After the last one, removes the flow, and drops the messages that wait in it;
    /// the next message from its address starts a new one.
    pub(super) fn leave(&self, flow: &Arc<Flow>, id: u64) {
        let mut state = self.shared.lock();
        let is_last = flow.leave(id);
        if is_last
            && let Entry::Occupied(entry) = state.flows.entry(flow.remote_addr())
            && Arc::ptr_eq(entry.get(), flow)
        {
            entry.remove();
        }
        drop(state);
        if is_last {
            self.shared.counters.add_unread(flow.discard());
        }
        flow.wake();
    }
}

/// Returns whether the error reports the fate of an earlier outgoing datagram, while the port still
/// works. Some systems report such errors on receiving.
fn is_about_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Interrupted
    )
}

impl State {
    fn check(&self) -> Result<(), UdpError> {
        match &self.failed {
            None => Ok(()),
            Some(error) => Err(UdpError::Failed(Arc::clone(error))),
        }
    }

    /// Drops the oldest pending flow of the host that has the most, so that one of `newcomer` fits. Returns how many
    /// messages waited in it.
    fn end_one_pending(&mut self, newcomer: Host) -> usize {
        let hosts = self.pending.iter();
        let hosts: Vec<_> = hosts
            .map(|flow| Host::of(flow.remote_addr().ip()))
            .collect();
        let one = one_to_end(&hosts, newcomer).and_then(|index| self.pending.remove(index));
        one.map_or(0, |flow| {
            self.flows.remove(&flow.remote_addr());
            flow.discard()
        })
    }
}

impl Shared {
    /// Receives datagrams until the port fails.
    async fn receive(self: Arc<Self>) {
        let mut buffer = vec![0; BUFFER_LEN];
        let mut in_a_row = 0;
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((len, from)) => {
                    self.arrived(canonical(from), buffer.get(..len).unwrap_or_default());
                }
                Err(error) if is_about_one_peer(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                    rt::sleep(SHORTAGE_PAUSE).await;
                }
                Err(error) => {
                    self.fail(error);
                    return;
                }
            }
            in_a_row += 1;
            if in_a_row >= YIELD_AFTER {
                in_a_row = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Passes a message to a flow, and counts it if there is no room. Returns false if the flow was discarded.
    fn pass_to(&self, flow: &Flow, message: Bytes) -> bool {
        match flow.push(message, &self.config) {
            Pushed::Queued => true,
            Pushed::Full => {
                count(&self.counters.overflowed);
                true
            }
            Pushed::Discarded => false,
        }
    }

    fn arrived(&self, from: SocketAddr, bytes: &[u8]) {
        if !begins_a_message(bytes) {
            count(&self.counters.malformed);
            return;
        }
        // A forged source could otherwise be the key address of a peer that proves its identity. Answers
        // to a link-local address would have to name an interface.
        if !is_dialable(from) {
            count(&self.counters.refused);
            return;
        }
        let known = self.lock().flows.get(&from).cloned();
        let has_echoed = known.as_ref().is_some_and(|flow| flow.has_echoed());
        if !self.may_decompress(from, bytes, has_echoed) {
            return count(&self.counters.overcompressed);
        }
        // A copy of the datagram, because keeping the buffer would cost 64 KiB for each.
        let bytes = Bytes::copy_from_slice(bytes);
        if known.is_some_and(|flow| self.pass_to(&flow, bytes.clone())) {
            return;
        }
        // A new address that does not speak the protocol must not take memory.
        if ChitchatMessage::decode(bytes.clone()).is_err() {
            if expanded_len_bound(&bytes) > 0 {
                let (host, mut budget) = (Host::of(from.ip()), self.decompressed.lock());
                budget.take_up_to(host, MALFORMED_LEN, Share::Half, Instant::now());
            }
            count(&self.counters.malformed);
            return;
        }
        let mut state = self.lock();
        if let Some(dialled) = state.flows.get(&from).cloned() {
            // It was dialled meanwhile.
            drop(state);
            if !self.pass_to(&dialled, bytes) {
                self.counters.add_unread(1);
            }
            return;
        }
        if !state.listening {
            count(&self.counters.refused);
            return;
        }
        if state.pending.len() >= self.config.max_pending_flows {
            let refused = state.end_one_pending(Host::of(from.ip()));
            let counter = &self.counters.refused;
            counter.fetch_add(refused as u64, Ordering::Relaxed);
        }
        let flow = Arc::new(Flow::new(from, Echo::default()));
        flow.push(bytes, &self.config);
        state.flows.insert(from, Arc::clone(&flow));
        state.pending.push_back(flow);
        drop(state);
        self.changed.advance();
    }

    /// Returns whether a message may be sent to an address that may be forged, and takes what exceeds the credit
    /// of the address from the bytes of the port.
    fn may_send(&self, message: &Bytes, flow: &Flow) -> bool {
        let host = Host::of(flow.remote_addr().ip());
        let budget = match flow.has_echoed() {
            true => &self.echoed,
            false => &self.unechoed,
        };
        flow.may_send(message, |len, share| {
            budget.lock().take(host, len, share, Instant::now())
        })
    }

    /// Returns whether a message of `from` may be decompressed, and takes the bytes into which it may decompress
    /// from those of the port: a datagram of 1.4 KB can become 4 MiB, which takes 14 ms of CPU time.
    fn may_decompress(&self, from: SocketAddr, message: &[u8], has_echoed: bool) -> bool {
        let len = expanded_len_bound(message);
        let share = if has_echoed { Share::All } else { Share::Half };
        let host = Host::of(from.ip());
        len == 0 || (self.decompressed.lock()).take(host, len, share, Instant::now())
    }

    fn fail(&self, error: io::Error) {
        tracing::error!(%error, "receiving on a plaintext UDP port has failed");
        let error = Arc::new(error);
        let flows: Vec<_> = {
            let mut state = self.lock();
            state.failed = Some(Arc::clone(&error));
            state.flows.drain().map(|(_, flow)| flow).collect()
        };
        for flow in flows {
            flow.fail(UdpError::Failed(Arc::clone(&error)));
        }
        self.changed.advance();
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Identity;
    use crate::message::ProtocolVersion;

    async fn listening(counters: &Arc<Counters>) -> Arc<Endpoint> {
        let any_port = ([127, 0, 0, 1], 0).into();
        let endpoint = Endpoint::bind(any_port, UdpConfig::default(), Arc::clone(counters));
        let endpoint = endpoint.await.unwrap();
        endpoint.set_listening(true);
        endpoint
    }

    fn message() -> Bytes {
        let message = ChitchatMessage::BadCluster {
            version: ProtocolVersion::V0,
        };
        message.into_bytes().unwrap()
    }

    #[tokio::test]
    async fn the_address_that_has_waited_longest_is_accepted_first() {
        let endpoint = listening(&Arc::default()).await;
        for port in 7000..7003 {
            let from = ([127, 0, 0, 1], port).into();
            endpoint.shared.arrived(from, &message());
        }
        for port in 7000..7003 {
            let (flow, _) = endpoint.next_pending().await.unwrap();
            assert_eq!(flow.remote_addr().port(), port);
        }
    }

    /// Returns a datagram of 1.4 KB that becomes 4 MiB, and is malformed then.
    fn bomb() -> Vec<u8> {
        let block = rt::compress(&[0; 65_535]).unwrap();
        let mut bytes = message()[..2].to_vec();
        // Version 1, an Ack.
        bytes.extend([1, 2]);
        for _ in 0..64 {
            bytes.push(1);
            bytes.extend((block.len() as u16).to_le_bytes());
            bytes.extend(&block);
        }
        bytes.push(0);
        assert!(bytes.len() < 2000);
        bytes
    }

    #[tokio::test]
    async fn what_is_decompressed_in_a_second_is_bounded_and_no_other_message_is_dropped() {
        let config = UdpConfig::default().with_max_decompressed_bytes_per_second(16 << 20);
        let counters = Arc::default();
        let any_port = ([127, 0, 0, 1], 0).into();
        let endpoint = Endpoint::bind(any_port, config, Arc::clone(&counters));
        let endpoint = endpoint.await.unwrap();
        endpoint.set_listening(true);
        let bomb = bomb();
        let start = Instant::now();
        for port in 7000..7100 {
            let from = ([127, 0, 0, 1], port).into();
            endpoint.shared.arrived(from, &bomb);
        }
        let counts = counters.counts();
        assert_eq!(counts.malformed + counts.overcompressed, 100);
        // Some time passes meanwhile.
        let most = 1 + start.elapsed().as_millis() * 16 / 4000;
        assert!(u128::from(counts.malformed) <= most + 1, "{counts:?}");
        // What is left is for others.
        let from = ([127, 0, 0, 1], 7000).into();
        while endpoint.shared.may_decompress(from, &bomb, false) {}
        assert!(endpoint.shared.may_decompress(from, &bomb, true));
        let from = ([127, 0, 0, 1], 8000).into();
        endpoint.shared.arrived(from, &message());
        assert!(endpoint.shared.lock().flows.contains_key(&from));
    }

    #[tokio::test]
    async fn a_host_that_sends_all_it_can_keeps_no_other_from_being_read_or_answered() {
        let endpoint = listening(&Arc::default()).await;
        let bomb = bomb();
        let from = |host, port| SocketAddr::from(([10, 0, 0, host], port));
        let may_read = |from, has_echoed| {
            let shared = &endpoint.shared;
            shared.may_decompress(from, &bomb, has_echoed)
        };
        let answer = vec![0; 40_000].into();
        let may_answer = |from| {
            let flow = Flow::new(from, Echo::default());
            endpoint.shared.may_send(&answer, &flow)
        };
        // Both those who have echoed and those who may be forged.
        for has_echoed in [false, true] {
            for port in 7000..7100 {
                may_read(from(1, port), has_echoed);
            }
            assert!(may_read(from(2, 7000), has_echoed), "{has_echoed}");
        }
        for port in 7000..7100 {
            may_answer(from(1, port));
        }
        assert!(may_answer(from(2, 7000)));
    }

    #[tokio::test]
    async fn a_host_from_which_many_addresses_wait_is_the_one_that_is_refused() {
        let counters = Arc::default();
        let endpoint = listening(&counters).await;
        let honest = ([10, 0, 0, 2], 7000).into();
        endpoint.shared.arrived(honest, &message());
        for port in 7000..7300 {
            let from = ([10, 0, 0, 1], port).into();
            endpoint.shared.arrived(from, &message());
        }
        let late = ([10, 0, 0, 3], 7000).into();
        endpoint.shared.arrived(late, &message());
        let waiting = UdpConfig::default().max_pending_flows;
        assert_eq!(counters.counts().refused, 302 - waiting as u64);
        assert_eq!(endpoint.shared.lock().flows.len(), waiting);
        for addr in [honest, late] {
            assert!(endpoint.shared.lock().flows.contains_key(&addr), "{addr}");
        }
    }

    /// Its flow would have the address of a tab, which has not proved that it is the tab.
    #[tokio::test]
    async fn a_datagram_that_claims_to_come_from_where_nothing_can_be_sent_is_refused() {
        let counters = Arc::default();
        let endpoint = listening(&counters).await;
        let message = message();
        let tab = Identity::from_bytes([7; 32]).address();
        for (refused, from) in [(1, tab), (2, ([127, 0, 0, 1], 0).into())] {
            endpoint.shared.arrived(from, &message);
            assert!(endpoint.shared.lock().flows.is_empty(), "{from}");
            assert_eq!(counters.counts().refused, refused);
        }
        endpoint
            .shared
            .arrived(([127, 0, 0, 1], 7000).into(), &message);
        assert_eq!(endpoint.shared.lock().flows.len(), 1);
    }
}
