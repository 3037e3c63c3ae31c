//! The choice of the handshake to end when too many are running.

use crate::host::Host;

/// Chooses the handshake to end so that one more from `newcomer` fits: the oldest of the host that
/// has the most, `newcomer` counted. Ties go to the host with the oldest handshake. `running` lists
/// the hosts of the running handshakes, oldest first. Returns an index, or `None` if none is running.
pub(in crate::transport_layer) fn handshake_to_end(
    running: &[Host],
    newcomer: Host,
) -> Option<usize> {
    let count = |host: Host| {
        let own = running.iter().filter(|other| **other == host).count();
        own + usize::from(host == newcomer)
    };
    let most = running.iter().map(|host| count(*host)).max()?;
    running.iter().position(|host| count(*host) == most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u8) -> Host {
        Host::of([10, 0, 0, n].into())
    }

    #[test]
    fn the_host_with_the_most_handshakes_loses_its_oldest() {
        let cases: &[(&[u8], u8, Option<usize>)] = &[
            (&[], 1, None),
            // Every host has one handshake, so the oldest ends.
            (&[1, 2, 3], 4, Some(0)),
            // A flood from host 9 costs host 9 a handshake, whichever host comes next.
            (&[1, 9, 2, 9, 9], 3, Some(1)),
            (&[1, 9, 2, 9, 9], 9, Some(1)),
            // The newcomer counts: its host would have the most.
            (&[1, 2, 3], 3, Some(2)),
            (&[1, 1, 2], 2, Some(0)),
        ];
        for (running, newcomer, expected) in cases {
            let running: Vec<_> = running.iter().map(|n| host(*n)).collect();
            let end = handshake_to_end(&running, host(*newcomer));
            assert_eq!(end, *expected, "{running:?}, then {newcomer}");
        }
    }
}
