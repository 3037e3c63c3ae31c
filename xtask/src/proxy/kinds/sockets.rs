//! The TCP connections of a network namespace, as `ss -H -O -t -i -n state established` prints them.

use std::net::SocketAddr;
use std::time::Duration;

/// A connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    /// The time since data was sent or received last. Keepalives of TCP and acknowledgements are no data.
    pub(crate) silence: Duration,
}

/// Returns the connections in the output of `ss`. Addresses of IPv4 that are mapped into IPv6 are those of IPv4.
pub(crate) fn parse(text: &str) -> Vec<Socket> {
    text.lines().filter_map(socket).collect()
}

fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace();
    let [_received, _sent, local, peer] = [(); 4].map(|()| words.next());
    let (mut sent, mut received) = (0, 0_u64);
    for word in words {
        // A time of 0 is left out.
        if let Some(millis) = word.strip_prefix("lastsnd:") {
            sent = millis.parse().ok()?;
        } else if let Some(millis) = word.strip_prefix("lastrcv:") {
            received = millis.parse().ok()?;
        }
    }
    Some(Socket {
        local: addr(local?)?,
        peer: addr(peer?)?,
        silence: Duration::from_millis(received.min(sent)),
    })
}

fn addr(text: &str) -> Option<SocketAddr> {
    let mut addr: SocketAddr = text.parse().ok()?;
    addr.set_ip(addr.ip().to_canonical());
    Some(addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_silence_is_that_of_both_directions() {
        let text = "0 0 10.90.1.1:51234 10.90.1.15:7946 cubic wscale:7,7 bytes_sent:1 lastsnd:76012 lastrcv:75961 lastack:12\n\
                    0 0 [::ffff:198.51.100.1]:9442 [::ffff:198.51.100.2]:40000 cubic lastsnd:80000 lastack:5\n\
                    not a line\n";
        let sockets = parse(text);
        assert_eq!(sockets.len(), 2);
        assert_eq!(sockets[0].peer, "10.90.1.15:7946".parse().unwrap());
        assert_eq!(sockets[0].silence, Duration::from_millis(75_961));
        assert_eq!(sockets[1].local, "198.51.100.1:9442".parse().unwrap());
        assert_eq!(sockets[1].silence, Duration::ZERO);
    }
}
