//! The seeds that a page can use.
//!
//! Only texts are read here. Invariant: a member keeps at least one of its seeds.

use std::net::{IpAddr, SocketAddr};

/// Returns the seeds that a page which was loaded over `https:` can open, or all if it can open none of them.
///
/// Such a page may open `ws:` only to its own machine. An invite also names the addresses for nodes, and each dial that a
/// browser refuses is an error in its console.
pub fn seeds_from_https(seeds: Vec<String>) -> Vec<String> {
    if !seeds.iter().any(|seed| opens_from_https(seed)) {
        return seeds;
    }
    let mut seeds = seeds;
    seeds.retain(|seed| opens_from_https(seed));
    seeds
}

fn opens_from_https(seed: &str) -> bool {
    let seed = seed.trim();
    if let Ok(addr) = seed.parse::<SocketAddr>() {
        return addr.ip().is_loopback();
    }
    match seed.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws") => is_own_machine(rest),
        // A name without a scheme is dialled with TLS there.
        _ => true,
    }
}

/// Returns whether what follows the scheme of a URL leads to the machine of the browser.
fn is_own_machine(rest: &str) -> bool {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    if let Ok(addr) = authority.parse::<SocketAddr>() {
        return addr.ip().is_loopback();
    }
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(seeds: &[&str]) -> Vec<String> {
        seeds_from_https(seeds.iter().map(|seed| (*seed).to_owned()).collect())
    }

    #[test]
    fn a_page_over_https_keeps_the_seeds_that_it_can_open() {
        let all = [
            "wss://a.example/gossip",
            "10.0.0.1:7946",
            "[2001:db8::1]:7946",
            "ws://a.example/",
            "WS://10.0.0.1:7946/",
            "ws://localhost.example/",
            "node.example:443",
            "127.0.0.1:7946",
            "[::1]:7946",
            "ws://localhost:7946/",
            "ws://127.0.0.2/",
            "ws://[::1]",
        ];
        let [first, .., _, _, _, _, _, _] = all;
        let expected = [&[first][..], &all[6..]].concat();
        assert_eq!(kept(&all), expected);
    }

    #[test]
    fn a_page_that_can_open_none_keeps_all_so_that_it_says_why() {
        let none = ["10.0.0.1:7946", "ws://a.example/"];
        assert_eq!(kept(&none), none);
        assert_eq!(kept(&[]), Vec::<String>::new());
    }
}
