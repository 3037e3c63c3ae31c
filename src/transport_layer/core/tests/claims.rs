//! Peers that state addresses: what is left of a claim when another identity comes or goes.

use super::*;

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
