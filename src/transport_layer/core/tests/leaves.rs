//! Peers that hold invites: the places that they get, and the names that they have.

use super::*;
use crate::credential::Refusal;
use crate::credential::{InviteId, Quotas, Role};
use crate::transport_layer::Refused;
use crate::transport_layer::core::Of;

/// Returns claims that allow so many connections.
fn claims(max_connections: u32) -> Arc<Claims> {
    let id = InviteId::generate(secs(1000), secs(60)).unwrap();
    let quotas = Quotas::default().with_max_connections(max_connections);
    Arc::new(Claims::new(id).with_quotas(quotas))
}

fn at(host: u8, port: u16) -> SocketAddr {
    ([10, 0, 0, host], port).into()
}

impl Fixture {
    /// Returns a connection of a leaf, which states no address.
    fn leaf_conn(&self, from: SocketAddr, identity: u8, claims: &Arc<Claims>) -> Conn {
        let Grounds::Secret(secret) = secret(1) else {
            unreachable!("these are the grounds of a secret");
        };
        let mut conn = self.conn(from, identity);
        conn.stated = None;
        let id = claims.id();
        conn.grounds = Grounds::Invite { id, secret };
        conn.claims = Some(Arc::clone(claims));
        conn
    }

    fn accept_leaf(&mut self, from: SocketAddr, identity: u8, claims: &Arc<Claims>) {
        let conn = self.leaf_conn(from, identity, claims);
        self.enter(conn, Direction::Incoming);
        self.settle();
    }

    /// The identities of connected peers, in order.
    fn connected(&self) -> Vec<Identity> {
        let connections = self.stats().connections;
        let mut identities: Vec<_> = connections.iter().map(|c| c.remote_identity).collect();
        identities.sort();
        identities
    }
}

/// A peer that connects.
enum Peer {
    /// A member of the cluster.
    Core,
    /// A holder of the invite with this number.
    Leaf(usize),
}

#[test]
fn leaves_have_the_places_of_their_invite_and_three_quarters_of_all_and_take_none_of_a_member() {
    use Peer::{Core, Leaf};
    /// The host of a newcomer, whose identity is its number in the list, counted from 1.
    type Newcomer = (u8, Peer);
    struct Case {
        what: &'static str,
        /// The places in all, and of each host.
        max: (usize, usize),
        /// The places of each invite.
        quotas: [u32; 2],
        newcomers: &'static [Newcomer],
        /// Those that are connected at the end.
        connected: &'static [u8],
        refused: u64,
    }
    let cases = [
        Case {
            what: "an invite that has its places gives none to the same host",
            max: (100, 100),
            quotas: [2, 2],
            newcomers: &[(1, Leaf(0)), (1, Leaf(0)), (1, Leaf(0)), (1, Leaf(1))],
            connected: &[1, 2, 4],
            refused: 1,
        },
        Case {
            what: "an invite that has its places gives one to a host that has fewer, but not in turn",
            max: (100, 100),
            quotas: [3, 2],
            newcomers: &[
                (1, Leaf(0)),
                (1, Leaf(0)),
                (1, Leaf(0)),
                (2, Leaf(0)),
                (1, Leaf(0)),
                (2, Leaf(0)),
            ],
            connected: &[2, 3, 4],
            refused: 2,
        },
        Case {
            what: "the holders of an invite take no place from those of another",
            max: (100, 100),
            quotas: [2, 5],
            newcomers: &[
                (1, Leaf(0)),
                (2, Leaf(0)),
                (3, Leaf(1)),
                (3, Leaf(1)),
                (3, Leaf(1)),
                (4, Leaf(0)),
            ],
            connected: &[1, 2, 3, 4, 5],
            refused: 1,
        },
        Case {
            what: "a leaf takes no place from members of a host that has more",
            max: (8, 100),
            quotas: [8, 8],
            newcomers: &[
                (1, Core),
                (1, Core),
                (1, Core),
                (1, Core),
                (2, Leaf(0)),
                (3, Leaf(0)),
                (4, Leaf(0)),
                (5, Leaf(0)),
                (6, Leaf(0)),
            ],
            connected: &[1, 2, 3, 4, 5, 6, 7, 8],
            refused: 1,
        },
        Case {
            what: "an invite without places",
            max: (100, 100),
            quotas: [0, 1],
            newcomers: &[(1, Leaf(0)), (1, Leaf(1))],
            connected: &[2],
            refused: 1,
        },
        Case {
            what: "all leaves together have three quarters",
            max: (8, 100),
            quotas: [100, 100],
            newcomers: &[
                (1, Leaf(0)),
                (1, Leaf(1)),
                (1, Leaf(0)),
                (1, Leaf(1)),
                (1, Leaf(0)),
                (1, Leaf(1)),
                (1, Leaf(0)),
            ],
            connected: &[1, 2, 3, 4, 5, 6],
            refused: 1,
        },
        Case {
            what: "a member takes the place of a leaf, and a leaf none of a member",
            max: (4, 100),
            quotas: [100, 100],
            newcomers: &[
                (1, Leaf(0)),
                (2, Leaf(0)),
                (3, Core),
                (4, Core),
                (5, Core),
                (6, Core),
                (7, Leaf(0)),
            ],
            connected: &[3, 4, 5, 6],
            refused: 1,
        },
        Case {
            what: "on one host as well",
            max: (100, 2),
            quotas: [100, 100],
            newcomers: &[(1, Core), (1, Leaf(0)), (1, Core), (1, Leaf(0))],
            connected: &[1, 3],
            refused: 1,
        },
        Case {
            what: "leaves of one host take turns at its places, as members do",
            max: (100, 2),
            quotas: [100, 100],
            newcomers: &[(1, Leaf(0)), (1, Core), (1, Leaf(0))],
            connected: &[2, 3],
            refused: 0,
        },
    ];
    for case in cases {
        let (in_all, of_host) = case.max;
        let config = TransportLayerConfig::default()
            .with_max_connections(in_all)
            .with_max_connections_per_host(of_host);
        let mut fixture = Fixture::new(config);
        let invites = case.quotas.map(claims);
        for ((host, peer), n) in case.newcomers.iter().zip(1..) {
            fixture.now += secs(1);
            let from = at(*host, 1000 + u16::from(n));
            match peer {
                Core => {
                    fixture.accept(from, n);
                }
                Leaf(invite) => fixture.accept_leaf(from, n, &invites[*invite]),
            }
        }
        fixture.settle();
        let expected: Vec<_> = case.connected.iter().map(|n| id(*n)).collect();
        assert_eq!(fixture.connected(), expected, "{}", case.what);
        assert_eq!(
            fixture.stats().leaves_refused,
            case.refused,
            "{}",
            case.what
        );
        let told = fixture.closed.iter().filter(|c| **c == CloseCode::QUOTA);
        assert_eq!(told.count() as u64, case.refused, "{}", case.what);
    }
}

#[test]
fn a_dial_or_a_member_evicts_a_leaf_before_a_member() {
    let config = TransportLayerConfig::default().with_max_connections(4);
    let mut fixture = Fixture::new(config);
    let invite = claims(100);
    fixture.accept(at(1, 1), 1);
    fixture.accept(at(1, 2), 2);
    fixture.accept(at(1, 3), 3);
    fixture.now += secs(1);
    fixture.accept_leaf(at(2, 1), 4, &invite);
    fixture.accept(at(3, 1), 5);
    assert_eq!(fixture.connected(), [1, 2, 3, 5].map(id));
}

#[test]
fn a_leaf_is_known_by_its_key_address_whatever_it_states() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let invite = claims(2);
    let mut conn = fixture.leaf_conn(at(1, 7000), 1, &invite);
    conn.stated = Some(at(1, 7000));
    fixture.enter(conn, Direction::Incoming);
    assert_eq!(fixture.connections(), [id(1).address()]);
    assert_eq!(fixture.stats().naming.stated_addrs_ignored, 1);
    let peers = fixture.peers.connected_peers(&mut 0).unwrap();
    assert_eq!(peers[0].role, Role::Leaf);
    assert_eq!(peers[0].invite, Some(invite));
    // A member is registered where it can be dialled.
    fixture.accept(at(2, 7000), 2);
    let peers = fixture.peers.connected_peers(&mut 0).unwrap();
    let member = peers.iter().find(|peer| peer.addr == at(2, 7000)).unwrap();
    assert_eq!((member.role, &member.invite), (Role::Core, &None));
}

#[test]
fn a_connection_with_a_renewed_invite_finds_room_though_the_leaves_have_no_more() {
    let config = TransportLayerConfig::default().with_max_connections(4);
    let mut fixture = Fixture::new(config);
    let [old, new] = [claims(1), claims(1)];
    for n in 1..=3 {
        let other = claims(1);
        fixture.accept_leaf(at(n, 1), n, if n == 1 { &old } else { &other });
    }
    assert_eq!(fixture.connected(), [1, 2, 3].map(id));
    fixture.accept_leaf(at(1, 2), 1, &new);
    fixture.settle();
    assert_eq!(fixture.left, [CloseCode::RENEWED]);
    assert_eq!(fixture.stats().leaves_refused, 0);
    assert_eq!(fixture.connected(), [1, 1, 2, 3].map(id));
}

#[test]
fn a_second_connection_with_the_same_invite_finds_no_room_if_the_leaves_have_no_more() {
    let config = TransportLayerConfig::default().with_max_connections(4);
    let mut fixture = Fixture::new(config);
    let invite = claims(9);
    for n in 1..=3 {
        fixture.accept_leaf(at(n, 1), n, &invite);
    }
    fixture.accept_leaf(at(1, 2), 1, &invite);
    fixture.settle();
    assert_eq!(fixture.stats().leaves_refused, 1);
    assert_eq!(fixture.connected(), [1, 2, 3].map(id));
}

#[test]
fn a_leaf_that_has_lost_the_only_connection_of_its_invite_is_soon_let_in_again() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let invite = claims(1);
    let leaf = id(1).address();
    fixture.accept_leaf(at(1, 1), 1, &invite);
    fixture.now += secs(10);
    // As long as the connection is alive, there is no place.
    fixture.accept_leaf(at(1, 2), 1, &invite);
    assert_eq!(name(&fixture.step(leaf)), "probe");
    fixture.now += Duration::from_millis(100);
    fixture.answer_probe(leaf);
    fixture.now += secs(3);
    assert_eq!(name(&fixture.step(leaf)), "wait");
    assert_eq!(fixture.connected(), [id(1)]);
    fixture.accept_leaf(at(1, 3), 1, &invite);
    assert_eq!(name(&fixture.step(leaf)), "probe");
    fixture.now += secs(3);
    assert_eq!(name(&fixture.step(leaf)), "wait");
    assert_eq!(fixture.connected(), []);
    fixture.accept_leaf(at(1, 4), 1, &invite);
    assert_eq!(fixture.connected(), [id(1)]);
    assert_eq!(fixture.stats().leaves_refused, 2);
}

#[test]
fn only_the_connections_that_a_change_is_about_are_judged() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let judged = |fixture: &Fixture, of| {
        let links = fixture.peers.to_judge(of);
        let mut identities: Vec<_> = links.iter().map(|link| link.identity).collect();
        identities.sort();
        identities
    };
    fixture.accept(at(1, 1), 1);
    fixture.accept(at(2, 1), 2);
    assert_eq!(judged(&fixture, Of::Leaves), []);
    fixture.accept_leaf(at(3, 1), 3, &claims(9));
    assert_eq!(judged(&fixture, Of::Leaves), [id(3)]);
    assert_eq!(judged(&fixture, Of::Identity(id(2))), [id(2)]);
    assert_eq!(judged(&fixture, Of::All), [1, 2, 3].map(id));
}

#[test]
fn a_peer_that_sends_messages_before_it_refuses_is_dialled_less_and_less_often() {
    let config = TransportLayerConfig::default()
        .with_backoff_min(secs(1))
        .with_backoff_max(secs(1_000));
    let mut fixture = Fixture::new(config);
    let mut connect = |refused: u32| {
        let conn = fixture.conn(addr(1), 1);
        let link = fixture.enter(conn, Direction::Outgoing);
        fixture.hear(addr(1), link);
        if refused > 0 {
            fixture.end(addr(1), link, LinkEnd::Remote(CloseCode::NAME));
            let (failures, _) = fixture.peers.dial_failure(addr(1)).unwrap();
            assert_eq!(failures, refused);
            fixture.offer(addr(1));
            assert_eq!(name(&fixture.step(addr(1))), "wait");
            fixture.now += secs(1_000);
        } else {
            // One that is not refused ends that.
            fixture.now += secs(1);
            fixture.end(addr(1), link, LinkEnd::Lost);
        }
    };
    for refused in [1, 2, 3, 0, 1] {
        connect(refused);
    }
}

#[test]
fn a_dial_that_is_refused_for_a_reason_fails_with_that_error_and_is_repeated_later() {
    for (code, reason) in [
        (CloseCode::QUOTA, Refusal::Quota),
        (CloseCode::NAME, Refusal::Name),
        (CloseCode::CLOCK, Refusal::Clock),
    ] {
        let mut fixture = Fixture::new(TransportLayerConfig::default());
        let conn = fixture.conn(addr(1), 1);
        let link = fixture.enter(conn, Direction::Outgoing);
        fixture.end(addr(1), link, LinkEnd::Remote(code));
        let (failures, error) = fixture.peers.dial_failure(addr(1)).unwrap();
        assert_eq!(failures, 1);
        let addr = addr(1);
        assert_eq!(error.downcast_ref(), Some(&Refused { addr, reason }));
        fixture.offer(addr);
        assert_eq!(name(&fixture.step(addr)), "wait");
    }
}

#[test]
fn a_leaf_that_is_refused_loses_its_connections_and_no_one_else_does() {
    for (reason, code) in [
        (Refusal::Name, CloseCode::NAME),
        (Refusal::Clock, CloseCode::CLOCK),
    ] {
        let mut fixture = Fixture::new(TransportLayerConfig::default());
        let invite = claims(100);
        fixture.accept(at(1, 1), 1);
        fixture.accept_leaf(at(2, 1), 2, &invite);
        fixture.accept_leaf(at(2, 2), 3, &invite);
        // A member of the cluster is not refused in this way.
        for addr in [id(2).address(), at(1, 1), id(4).address()] {
            let (now, fx) = (fixture.now, &mut fixture.fx);
            fixture.peers.refuse_leaf(addr, reason, now, fx);
        }
        fixture.settle();
        assert_eq!(fixture.connected(), [1, 3].map(id));
        assert_eq!(fixture.closed, [code]);
    }
}
