//! Peers that state addresses: what is left of a claim when another identity comes or goes.

use super::*;

fn fixture() -> Fixture {
    Fixture::new(TransportLayerConfig::default())
}

/// Where connections from a NAT or proxy come from.
fn proxy(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

impl Fixture {
    /// Accepts a connection of `identity` from `from` that states `stated`.
    fn accept_from(&mut self, from: SocketAddr, identity: u8, stated: SocketAddr) -> u64 {
        let mut conn = self.conn(from, identity);
        conn.stated = Some(stated);
        self.enter(conn, Direction::Incoming)
    }

    fn named(&self) -> Vec<(SocketAddr, Identity)> {
        let peers = self.peers.connected_peers(&mut 0).unwrap();
        let mut peers: Vec<_> = peers.iter().map(|p| (p.addr, p.identity)).collect();
        peers.sort();
        peers
    }
}

#[test]
fn a_peer_that_has_lost_its_address_to_another_gets_it_again_once_that_one_was_gone_for_long() {
    let config = TransportLayerConfig::default().with_silence_timeout(secs(10_000));
    let mut f = Fixture::new(config.with_idle_timeout(secs(10_000)));
    f.accept_from(proxy(1), 1, addr(1));
    f.step(addr(1));
    f.take_signal(addr(1));
    // Another one answers there for a while.
    let link = f.connect(addr(1), 2, Direction::Outgoing);
    let key = id(1).address();
    assert!(f.take_signal(key), "its task looks again");
    f.now += secs(100);
    f.step(key);
    assert_eq!(f.named(), [(addr(1), id(2)), (key, id(1))]);
    f.lose(addr(1), link);
    f.now += secs(59);
    f.step(key);
    assert_eq!(f.named(), [(key, id(1))]);
    f.now += secs(2);
    f.step(key);
    assert_eq!(f.named(), [(addr(1), id(1))]);
    f.peers.assert_named_consistently();
}

#[test]
fn a_connection_that_is_refused_beside_another_one_of_its_identity_renames_nobody() {
    for direction in [Direction::Incoming, Direction::Outgoing] {
        let mut f = fixture();
        f.connect(addr(1), 1, direction);
        f.step(addr(1));
        f.now += secs(10);
        // A second program with the same key, which listens elsewhere. It tries again and again.
        for _ in 0..3 {
            f.connect(addr(2), 1, direction);
            assert_eq!(f.named(), [(addr(1), id(1))], "{direction:?}");
            f.step(addr(1));
            f.answer_probe(addr(1));
            f.step(addr(1));
            f.now += secs(10);
            f.step(addr(1));
            assert_eq!(f.named(), [(addr(1), id(1))], "{direction:?}");
            assert_eq!(f.connections().len(), 1);
        }
        f.peers.assert_named_consistently();
    }
}

#[test]
fn a_peer_that_comes_back_with_another_address_has_it_once_its_older_connection_is_given_up() {
    for direction in [Direction::Incoming, Direction::Outgoing] {
        let mut f = fixture();
        f.connect(addr(1), 1, direction);
        f.step(addr(1));
        f.now += secs(10);
        f.connect(addr(2), 1, direction);
        f.step(addr(1));
        f.now += secs(1);
        f.step(addr(1));
        f.step(addr(1));
        assert_eq!(f.named(), [(addr(2), id(1))], "{direction:?}");
        f.offer(addr(1));
        assert_eq!(f.peer(addr(2)).queued, 1, "{direction:?}");
        f.peers.assert_named_consistently();
    }
}

#[test]
fn a_program_with_the_key_of_a_peer_that_lives_takes_nothing_from_it_whichever_side_has_dialled() {
    use Direction::{Incoming, Outgoing};
    // Our identity is 100.
    for (theirs, first, second) in [
        (1, Incoming, Outgoing),
        (1, Outgoing, Incoming),
        (101, Incoming, Outgoing),
        (101, Outgoing, Incoming),
    ] {
        let mut f = fixture();
        let older = f.connect(addr(1), theirs, first);
        f.step(addr(1));
        f.now += secs(10);
        f.connect(addr(2), theirs, second);
        f.step(addr(1));
        f.now += Duration::from_millis(10);
        f.answer_probe(addr(1));
        f.step(addr(1));
        f.settle();
        let what = format!("{theirs} {first:?} {second:?}");
        let refusal = match second {
            Incoming => CloseCode::DUPLICATE,
            Outgoing => CloseCode::REDUNDANT,
        };
        assert_eq!(f.closed, [refusal], "{what}");
        assert_eq!(f.named(), [(addr(1), id(theirs))], "{what}");
        // It is dialled where it was reached.
        f.lose(addr(1), older);
        f.now += secs(10);
        f.offer(addr(1));
        assert!(
            matches!(f.step(addr(1)), Step::Dial(dial) if dial.to == addr(1)),
            "{what}"
        );
    }
}
