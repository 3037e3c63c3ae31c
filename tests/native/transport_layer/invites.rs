//! Holders of invites, over TCP: the role that their messages have, and when their connections end.

use std::time::Duration;

use blake2::{Blake2s256, Digest as _};
use bytes::Bytes;
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use gossip_transport::credential::{Claims, Grounds, Invite, InviteId, Keyring, Quotas, Role};
use gossip_transport::net::{Alpn, NetTransport};
use gossip_transport::rt::unix_time;
use gossip_transport::secure::{HandshakeError, Refusal};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{
    Refused, SocketStats, TransportLayerConfig, TransportLayerSocket, TransportLayerTransport,
};
use gossip_transport::{ClusterSecret, NetCredential, Trust};
use tokio::time::Instant;

use crate::support::layer::{config, number, numbered, secs, until};
use crate::support::log::Log;
use crate::support::tab::{Tab, tab_at};
use crate::support::{ANY_PORT, PATIENCE, soon};

const HOUR: Duration = Duration::from_secs(3600);
/// The time within which a change has taken effect.
const EFFECT: Duration = Duration::from_secs(2);

type Socket = TransportLayerSocket<TcpTransport, Bytes>;
type Leaf = TransportLayerSocket<Tab<TcpTransport>, Bytes>;

fn issue(secret: &ClusterSecret, claims: Claims) -> Invite {
    Invite::issue(secret, claims, "cluster".to_owned(), Vec::new()).unwrap()
}

/// Returns claims that are valid for so long, beyond the two minutes that are allowed for clocks.
fn claims(valid_for: Duration) -> Claims {
    let issued = unix_time() + valid_for - HOUR;
    let id = InviteId::generate(issued, HOUR - InviteId::CLOCK_SKEW).unwrap();
    Claims::new(id)
}

async fn member_with(trust: &Trust, config: TransportLayerConfig) -> Socket {
    let credential = NetCredential::generate(trust.clone());
    let network = TcpTransport::default();
    let transport = TransportLayerTransport::with_config(network, credential, config);
    transport.open(ANY_PORT).await.unwrap()
}

async fn leaf(trust: &Trust) -> Leaf {
    let credential = NetCredential::generate(trust.clone());
    tab_at(TcpTransport::default(), &credential).await
}

/// A member that accepts invites, and a holder of one that has sent it a message.
struct Guests {
    secret: ClusterSecret,
    members: Trust,
    guests: Trust,
    member: Socket,
    guest: Leaf,
    claims: Claims,
}

impl Guests {
    async fn with(claims: Claims) -> Self {
        let secret = ClusterSecret::generate();
        let members = Trust::secret(secret.clone()).accepting_invites();
        let guests = Trust::invite(issue(&secret, claims.clone()));
        let member = member_with(&members, config()).await;
        let guest = leaf(&guests).await;
        let met = Self {
            secret,
            members,
            guests,
            member,
            guest,
            claims,
        };
        met.reach(0).await;
        met
    }

    /// Sends a message to the member, and one back.
    async fn reach(&self, n: u64) {
        let to = self.member.local_addr();
        self.guest.send(to, numbered(n, 8)).await.unwrap();
        let received = soon(self.member.recv_detailed()).await.unwrap();
        assert_eq!(number(&received.message), n);
        assert_eq!(received.role, Role::Leaf);
        assert_eq!(received.from, self.guest.local_identity().address());
        self.member
            .send(received.from, numbered(n, 8))
            .await
            .unwrap();
        let received = soon(self.guest.recv_detailed()).await.unwrap();
        assert_eq!((received.role, received.from), (Role::Core, to));
    }

    /// Waits until the connection has ended, and returns why the next dial fails.
    async fn refused(&self) -> Refusal {
        until(&self.member, |s| s.connections.is_empty()).await;
        let to = self.member.local_addr();
        until(&self.guest, |s| s.connections.is_empty()).await;
        self.guest.send(to, numbered(0, 8)).await.unwrap();
        until(&self.guest, |s| s.dials_failed > 0).await;
        let network = TcpTransport::default();
        let credential = NetCredential::generate(self.guests.clone());
        let error = network.connect(to, &[ALPN], &credential).await.unwrap_err();
        match error.downcast_ref() {
            Some(HandshakeError::Refused { reason }) => *reason,
            other => panic!("{other:?}"),
        }
    }
}

/// The protocol of sockets whose messages are bytes.
const ALPN: Alpn = <Bytes as gossip_transport::Message>::ALPN;

#[tokio::test]
async fn a_holder_is_known_by_its_key_and_its_role_and_each_side_knows_the_invite() {
    let met = Guests::with(claims(HOUR)).await;
    let peers = met.member.connected_peers(&mut 0).unwrap();
    assert_eq!(peers[0].role, Role::Leaf);
    assert_eq!(peers[0].invite.as_deref(), Some(&met.claims));
    let peers = met.guest.connected_peers(&mut 0).unwrap();
    assert_eq!((peers[0].role, &peers[0].invite), (Role::Core, &None));
    let (id, secret) = (met.claims.id(), met.secret.id());
    let grounds = |connections: Vec<gossip_transport::transport_layer::ConnectionInfo>| {
        connections.iter().map(|c| c.grounds).collect::<Vec<_>>()
    };
    let of_guest = grounds(met.member.stats().connections);
    assert_eq!(of_guest, [Grounds::Invite { id, secret }]);
    let of_member = grounds(met.guest.stats().connections);
    assert_eq!(of_member, [Grounds::Core { invite: id }]);
}

#[tokio::test]
async fn a_native_holder_listens_to_nobody_and_is_known_by_its_key() {
    let secret = ClusterSecret::generate();
    let members = Trust::secret(secret.clone()).accepting_invites();
    let member = member_with(&members, config()).await;
    let guests = Trust::invite(issue(&secret, claims(HOUR)));
    let guest = member_with(&guests, config()).await;
    assert_eq!(guest.advertised_addr(), guest.local_identity().address());
    guest
        .send(member.local_addr(), numbered(1, 8))
        .await
        .unwrap();
    let received = soon(member.recv_detailed()).await.unwrap();
    assert_eq!(received.from, guest.advertised_addr());
    let other = member_with(&members, config()).await;
    other
        .send(guest.local_addr(), numbered(1, 8))
        .await
        .unwrap();
    until(&guest, |s| s.accept_failed > 0).await;
    assert!(other.stats().connections.is_empty());
}

#[tokio::test]
async fn a_revoked_invite_ends_its_connections_and_no_other() {
    let met = Guests::with(claims(HOUR)).await;
    let other = Trust::invite(issue(&met.secret, claims(HOUR)));
    let other = leaf(&other).await;
    let to = met.member.local_addr();
    other.send(to, numbered(1, 8)).await.unwrap();
    soon(met.member.recv()).await.unwrap();
    let start = Instant::now();
    assert_eq!(met.members.revoke(met.claims.id()), Ok(true));
    assert_eq!(met.members.revoked(), [met.claims.id()]);
    let stats = until(&met.member, |s| s.connections.len() == 1).await;
    assert!(start.elapsed() < EFFECT, "{:?}", start.elapsed());
    assert_eq!(stats.connections[0].remote_identity, other.local_identity());
    drop(other);
    assert_eq!(met.refused().await, Refusal::Revoked);
}

#[tokio::test]
async fn an_invite_that_expires_ends_its_connections() {
    let start = Instant::now();
    let met = Guests::with(claims(secs(3))).await;
    assert_eq!(met.refused().await, Refusal::Expired);
    let after = start.elapsed();
    assert!((secs(1)..secs(6)).contains(&after), "{after:?}");
}

#[tokio::test]
async fn removing_a_secret_ends_the_connections_of_its_invites_alone() {
    let met = Guests::with(claims(HOUR)).await;
    let next = ClusterSecret::generate();
    let both = Keyring::new([next.clone(), met.secret.clone()]).unwrap();
    met.members.set_keyring(both);
    met.reach(1).await;
    let start = Instant::now();
    met.members.set_keyring(next);
    until(&met.member, |s| s.connections.is_empty()).await;
    assert!(start.elapsed() < EFFECT, "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_invite_is_renewed_on_the_open_connection_without_losing_a_message() {
    let met = Guests::with(claims(HOUR)).await;
    let to = met.member.local_addr();
    let from = met.guest.local_identity().address();
    for round in 0..20_u64 {
        let next = claims(HOUR);
        let id = next.id();
        for n in 0..50 {
            met.guest.send(to, numbered(n, 8)).await.unwrap();
            met.member.send(from, numbered(n, 8)).await.unwrap();
            if n == 10 {
                let renewed = met.guests.set_invite(issue(&met.secret, next.clone()));
                assert_eq!(renewed, Ok(true));
            }
        }
        for n in 0..50 {
            let (_, message) = soon(met.member.recv()).await.unwrap();
            assert_eq!(number(&message), n, "{round}");
            let (_, message) = soon(met.guest.recv()).await.unwrap();
            assert_eq!(number(&message), n, "{round}");
        }
        until(&met.member, |s| {
            let secret = met.secret.id();
            s.connections.len() == 1 && s.connections[0].grounds == Grounds::Invite { id, secret }
        })
        .await;
        let peers = met.member.connected_peers(&mut 0).unwrap();
        assert_eq!(peers[0].invite.as_deref(), Some(&next));
    }
    // The first one can be revoked now.
    met.members.revoke(met.claims.id()).unwrap();
    met.reach(1).await;
    for stats in [met.member.stats(), met.guest.stats()] {
        assert_eq!(stats.total.dropped.total(), 0);
    }
}

/// Returns a holder that has the only place of an invite, and another word of the same invite.
async fn with_full_invite(met: &Guests) -> (Leaf, Invite) {
    let one = Quotas::default().with_max_connections(1);
    let word = issue(&met.secret, claims(HOUR).with_quotas(one));
    let other = leaf(&Trust::invite(word.clone())).await;
    let to = met.member.local_addr();
    other.send(to, numbered(1, 8)).await.unwrap();
    soon(met.member.recv()).await.unwrap();
    (other, word)
}

#[tokio::test]
async fn a_renewal_by_an_invite_that_is_full_keeps_the_connection_and_waits_for_a_place() {
    let met = Guests::with(claims(HOUR)).await;
    let (other, word) = with_full_invite(&met).await;
    assert_eq!(met.guests.set_invite(word.clone()), Ok(true));
    until(&met.member, |s| s.leaves_refused > 0).await;
    met.reach(1).await;
    let secret = met.secret.id();
    let by = |claims: &Claims| Grounds::Invite {
        id: claims.id(),
        secret,
    };
    let has = |s: &SocketStats, claims| s.connections.iter().any(|c| c.grounds == by(claims));
    assert!(has(&met.member.stats(), &met.claims));
    drop(other);
    until(&met.member, |s| {
        s.connections.len() == 1 && has(s, word.claims())
    })
    .await;
    met.reach(2).await;
    assert_eq!(met.guest.stats().total.dropped.total(), 0);
}

#[tokio::test]
async fn a_renewal_by_an_invite_that_is_full_ends_with_the_old_invite_and_says_why() {
    let start = Instant::now();
    let met = Guests::with(claims(secs(4))).await;
    let (_other, word) = with_full_invite(&met).await;
    assert_eq!(met.guests.set_invite(word), Ok(true));
    until(&met.member, |s| s.leaves_refused > 0).await;
    met.reach(1).await;
    until(&met.guest, |s| s.connections.is_empty()).await;
    let after = start.elapsed();
    assert!((secs(2)..secs(7)).contains(&after), "{after:?}");
    let addr = met.member.local_addr();
    met.guest.send(addr, numbered(2, 8)).await.unwrap();
    let refused = async {
        loop {
            let failure = met.guest.dial_failure(addr);
            if let Some(refused) =
                failure.and_then(|(_, error)| error.downcast_ref::<Refused>().copied())
            {
                break refused;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let reason = Refusal::Quota;
    assert_eq!(soon(refused).await, Refused { addr, reason });
}

#[tokio::test]
async fn a_member_takes_no_invite_and_a_holder_becomes_a_member_with_the_secret() {
    let met = Guests::with(claims(HOUR)).await;
    let word = issue(&met.secret, claims(HOUR));
    assert!(met.members.set_invite(word.clone()).is_err());
    assert!(
        Trust::dangerously_anyone()
            .set_invite(word.clone())
            .is_err()
    );
    met.reach(1).await;
    met.guests.set_keyring(met.secret.clone());
    assert!(met.guests.set_invite(word).is_err());
    until(&met.member, |s| {
        s.connections.len() == 1 && s.connections[0].grounds == Grounds::Secret(met.secret.id())
    })
    .await;
    let to = met.member.local_addr();
    met.guest.send(to, numbered(2, 8)).await.unwrap();
    let received = soon(met.member.recv_detailed()).await.unwrap();
    assert_eq!(received.role, Role::Core);
}

/// A page may know the secret at one time, and an invite at another.
#[tokio::test]
async fn a_key_that_is_member_and_holder_in_turn_hundreds_of_times_has_the_right_role_and_one_place()
 {
    let met = Guests::with(claims(HOUR)).await;
    let page = NetCredential::generate(met.members.clone());
    let as_holder = page.with_trust(met.guests.clone());
    let to = met.member.local_addr();
    for n in 0..300 {
        let (credential, role) = match n % 2 {
            0 => (&page, Role::Core),
            _ => (&as_holder, Role::Leaf),
        };
        let tab = tab_at(TcpTransport::default(), credential).await;
        tab.send(to, numbered(n, 8)).await.unwrap();
        let received = soon(met.member.recv_detailed()).await.unwrap();
        assert_eq!((number(&received.message), received.role), (n, role));
        assert_eq!(received.from, page.identity().address());
        let stats = met.member.stats();
        assert_eq!(stats.peers.len(), 2, "one entry for each key");
        assert_eq!(stats.naming.duplicates_refused, 0);
    }
    until(&met.member, |s| s.connections.len() == 1).await;
    met.reach(1).await;
}

#[tokio::test]
async fn an_invite_used_by_many_tabs_has_its_connections_and_members_keep_theirs() {
    const MAX: usize = 8;
    let secret = ClusterSecret::generate();
    let members = Trust::secret(secret.clone()).accepting_invites();
    let member = member_with(&members, config()).await;
    let other = member_with(&members, config()).await;
    other
        .send(member.local_addr(), numbered(1, 8))
        .await
        .unwrap();
    soon(member.recv()).await.unwrap();
    let quotas = Quotas::default().with_max_connections(u32::try_from(MAX).unwrap());
    let guests = Trust::invite(issue(&secret, claims(HOUR).with_quotas(quotas)));
    let mut tabs = Vec::new();
    for _ in 0..3 * MAX {
        let tab = leaf(&guests).await;
        tab.send(member.local_addr(), numbered(2, 8)).await.unwrap();
        tabs.push(tab);
    }
    let stats = until(&member, |s| s.leaves_refused >= 2 * MAX as u64).await;
    assert_eq!(stats.connections.len(), MAX + 1);
    // One that leaves makes room for one that tries again.
    let connected = |tab: &Leaf| !tab.stats().connections.is_empty();
    let start = Instant::now();
    while tabs.iter().filter(|tab| connected(tab)).count() < MAX {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let place = tabs.iter().position(connected).unwrap();
    drop(tabs.remove(place));
    let to = member.local_addr();
    for tab in &tabs {
        let _ = tab.send(to, numbered(3, 8)).await;
    }
    until(&member, |s| s.connections.len() == MAX + 1).await;
    other.send(to, numbered(4, 8)).await.unwrap();
    let from_other = async {
        loop {
            let (from, message) = member.recv().await.unwrap();
            if from == other.local_addr() {
                break number(&message);
            }
        }
    };
    assert_eq!(soon(from_other).await, 4);
}

#[tokio::test]
async fn no_encoding_of_a_secret_or_a_word_is_in_the_log_of_any_crate() {
    let log = Log::collect("trace");
    let met = Guests::with(claims(HOUR)).await;
    let word = issue(&met.secret, met.claims.clone());
    let next = issue(&met.secret, claims(HOUR));
    met.guests.set_invite(next.clone()).unwrap();
    until(&met.member, |s| s.connections.len() == 1).await;
    met.reach(1).await;
    // A refusal, and a dial with another secret.
    met.members.revoke(next.claims().id()).unwrap();
    met.refused().await;
    let stranger = member_with(&Trust::secret(ClusterSecret::generate()), config()).await;
    stranger
        .send(met.member.local_addr(), numbered(1, 8))
        .await
        .unwrap();
    until(&stranger, |s| s.dials_failed > 0).await;
    let log = log.take();
    assert!(log.contains("the trust has changed"), "{log}");
    let texts = [
        met.secret.to_text().to_string(),
        word.to_text().to_string(),
        next.to_text().to_string(),
    ];
    let mut keys = Vec::new();
    for text in &texts {
        let body = text.rsplit('-').next().unwrap();
        assert_absent(&log, body, 12);
        keys.push(base32(body));
    }
    // What Noise mixes in.
    let mut psk = Blake2s256::new_with_prefix(b"gossip-transport cluster secret\0");
    psk.update(&keys[0]);
    keys.push(psk.finalize().to_vec());
    for key in &keys {
        assert_absent(&log, &HEXLOWER.encode(key), 12);
        assert_absent(&log, &HEXUPPER.encode(key), 12);
        let list: Vec<_> = key.iter().map(u8::to_string).collect();
        for part in list.windows(6) {
            assert_absent(&log, &part.join(", "), usize::MAX);
        }
        for start in 0..3 {
            assert_absent(&log, &BASE64_NOPAD.encode(&key[start..]), 12);
            assert_absent(&log, &BASE64URL_NOPAD.encode(&key[start..]), 12);
        }
    }
}

/// Asserts that no `len` characters of `text` in a row are in `log`.
fn assert_absent(log: &str, text: &str, len: usize) {
    let len = len.min(text.len());
    for part in text.as_bytes().windows(len) {
        let part = std::str::from_utf8(part).unwrap();
        let line = log.lines().find(|line| line.contains(part));
        assert_eq!(line, None, "{part} of {text}");
    }
}

/// Returns the bytes of a text in base32, without those that are cut off.
fn base32(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut len) = (0_u32, 0);
    for letter in text.bytes() {
        let value = match letter {
            b'a'..=b'z' => letter - b'a',
            b'2'..=b'7' => letter - b'2' + 26,
            _ => continue,
        };
        bits = (bits << 5) | u32::from(value);
        len += 5;
        if len >= 8 {
            len -= 8;
            bytes.push((bits >> len) as u8);
        }
    }
    bytes
}

#[tokio::test]
async fn the_log_contains_no_word() {
    let log = Log::collect("gossip_transport=trace");
    let met = Guests::with(claims(HOUR)).await;
    met.members.revoke(met.claims.id()).unwrap();
    met.refused().await;
    let log = log.take();
    assert!(log.contains("the trust has changed"), "{log}");
    assert!(!log.contains("gossip-invite-"), "{log}");
    let secret = met.secret.to_text();
    assert!(!log.contains(&secret["gossip-secret-".len()..]), "{log}");
}
