//! The fixed pattern in which rumours pass from member to member.
//!
//! If every member sent a rumour to random others, some would receive it ten times, and each member
//! would have to send about twelve copies so that none of a hundred receives none. In the graph of
//! Imase and Itoh ("Design to minimize diameter on building-block network", 1981), member `i` of `n`
//! has the successors `-d * i - r` modulo `n`, for `r` from 1 to `d`. Every member then has exactly
//! `d` predecessors, each is reached from each other in at most `log n` to the base `d` steps, and
//! stays so if fewer than `d - 1` members fail. Since the pattern is fixed, rumours keep using the
//! same connections.
//!
//! Members whose views of the cluster differ have different patterns, and the copies then spread like
//! random ones. This file knows addresses and positions only. Invariant: at most `d` successors, all
//! different; the order of the same addresses is the same for every member.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::gossip::engine::order;

/// Returns `addrs` in the order on which all members agree. It is that of a hash: neighbours in the
/// order of addresses have much in common, such as a host, and would then fail together.
pub(in crate::gossip::engine) fn in_pattern(addrs: BTreeSet<SocketAddr>) -> Vec<SocketAddr> {
    order::sorted(addrs.into_iter().collect(), |addr| (false, hash(addr), 0))
}

/// Returns the 64-bit FNV-1a hash of an address, mixed as MurmurHash3 does at its end.
fn hash(addr: &SocketAddr) -> u64 {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in ip.octets().into_iter().chain(addr.port().to_be_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Returns the positions to which the member at position `of` sends, out of `members`. One of them
/// may be `of` itself.
pub(in crate::gossip::engine) fn successors(
    of: usize,
    members: usize,
    degree: usize,
) -> impl Iterator<Item = usize> + use<> {
    let most = degree.min(members);
    (1..=most).map(move |r| {
        let forward = degree.wrapping_mul(of).wrapping_add(r) % members;
        (members - forward) % members
    })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Returns the number of steps from member 0 to the one that is furthest away.
    fn eccentricity(members: usize, degree: usize, is_gone: impl Fn(usize) -> bool) -> usize {
        let mut seen = BTreeSet::from([0]);
        let mut queue = VecDeque::from([(0, 0)]);
        let mut furthest = 0;
        while let Some((member, steps)) = queue.pop_front() {
            furthest = steps;
            for next in successors(member, members, degree) {
                if !is_gone(next) && seen.insert(next) {
                    queue.push_back((next, steps + 1));
                }
            }
        }
        let gone = (0..members).filter(|n| is_gone(*n)).count();
        assert_eq!(
            seen.len() + gone,
            members,
            "{members} members, {degree} each"
        );
        furthest
    }

    #[test]
    fn every_member_has_as_many_predecessors_as_successors() {
        for members in 1..200 {
            for degree in 1..6 {
                let mut predecessors = vec![0; members];
                for of in 0..members {
                    let to: BTreeSet<_> = successors(of, members, degree).collect();
                    assert_eq!(to.len(), degree.min(members));
                    to.into_iter().for_each(|n| predecessors[n] += 1);
                }
                let each = degree.min(members);
                assert!(predecessors.iter().all(|count| *count == each));
            }
        }
    }

    #[test]
    fn every_member_is_reached_in_a_logarithmic_number_of_steps() {
        for members in [2, 3, 5, 6, 10, 50, 99, 100, 101, 500, 1000, 3001] {
            let mut most = 1;
            while 4_usize.pow(most) < members {
                most += 1;
            }
            let steps = eccentricity(members, 4, |_| false);
            assert!(steps <= most as usize, "{members}: {steps} of {most}");
        }
    }

    #[test]
    fn the_order_is_fixed_and_has_nothing_to_do_with_that_of_the_addresses() {
        let addr = |n: u16| SocketAddr::from(([10, 0, 0, 1], n));
        let order = in_pattern((0..100).map(addr).collect());
        assert_eq!(order, in_pattern((0..100).rev().map(addr).collect()));
        let rises = order.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((35..65).contains(&rises), "{rises}");
        // As every other implementation of this pattern has to compute it.
        assert_eq!(hash(&addr(7946)), 0x6d9f_1dd7_a68f_5233);
        assert_eq!(
            hash(&addr(7946)),
            hash(&"[::ffff:10.0.0.1]:7946".parse().unwrap())
        );
    }

    #[test]
    fn the_failure_of_any_two_members_separates_no_others() {
        for (a, b) in (1..40).flat_map(|a| (1..a).map(move |b| (a, b))) {
            eccentricity(40, 4, |n| n == a || n == b);
        }
    }
}
