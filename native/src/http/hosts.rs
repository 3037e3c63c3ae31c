//! Which requests may read the members: those that name this server as their host.
//!
//! A page of another site can make a browser send requests here under a name of its own that leads to
//! this address (DNS rebinding), and would read the response. Such a request has that name in `Host`.
//! Invariant: nothing but the name and the address of the connection decides.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use gossip_transport::gossip::PublicUrl;
use gossip_transport::http_service::HttpClient;

/// A host name under which this server is known, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostName(String);

impl HostName {
    /// Parses a name or an IP address, without a scheme and a port.
    ///
    /// # Errors
    ///
    /// Fails with a text that says what to change.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str =
            "must be a host name without scheme, port and path, such as gossip.example.com";
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<IpAddr>().is_ok() {
            return Ok(Self(bare.to_owned()));
        }
        let authority: Authority = text.parse().map_err(|_| EXPECTED)?;
        if authority.as_str() != authority.host() || text.contains('@') {
            return Err(EXPECTED.to_owned());
        }
        Ok(Self(normal(text)))
    }

    /// Returns the host of a URL at which this server is reached.
    pub(crate) fn of_url(url: &PublicUrl) -> Option<Self> {
        let (_, rest) = url.as_str().split_once("://")?;
        let (authority, _) = rest.split_once('/')?;
        let authority: Authority = authority.parse().ok()?;
        Self::parse(authority.host()).ok()
    }
}

/// Returns a host as it is compared.
fn normal(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// The hosts of which this server is one.
#[derive(Debug, Clone, Default)]
pub(super) struct Hosts {
    names: Vec<HostName>,
    /// Whether every IP address is one.
    any_ip: bool,
}

impl Hosts {
    /// Returns the loopback names, the address at which a request arrives, and `names`.
    pub(super) fn new(names: Vec<HostName>) -> Self {
        let any_ip = false;
        Self { names, any_ip }
    }

    /// Adds all IP addresses: this server may have another address outside of its network, and a page whose link has an
    /// address comes from there.
    pub(super) fn with_any_ip(self) -> Self {
        let any_ip = true;
        Self { any_ip, ..self }
    }

    /// Returns whether `host`, which may have a port, is one of them for a connection to `local`.
    fn contain(&self, host: &str, local: Option<IpAddr>) -> bool {
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        let has_port = |rest: &str| {
            let port = rest.strip_prefix(':');
            port.is_some_and(|port| port.parse::<u16>().is_ok())
        };
        let rest = host.strip_prefix(authority.host());
        if !rest.is_some_and(|rest| rest.is_empty() || has_port(rest)) {
            return false;
        }
        let host = normal(authority.host());
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let ip = bare.parse().ok().map(|ip: IpAddr| ip.to_canonical());
        if let Some(ip) = ip {
            let is_local = local == Some(ip);
            let same = |HostName(name): &HostName| name.parse() == Ok(ip);
            return self.any_ip || ip.is_loopback() || is_local || self.names.iter().any(same);
        }
        host == "localhost" || self.names.iter().any(|HostName(name)| *name == host)
    }

    /// Returns whether the request is for one of them.
    pub(super) fn allow(&self, request: &Request) -> bool {
        let client = request.extensions().get::<HttpClient>();
        let local = client.map(|client| client.local_addr().ip());
        let mut named = request.headers().get_all(header::HOST).iter();
        let (Some(host), None) = (named.next(), named.next()) else {
            return false;
        };
        // A proxy's form of a request has a host before the path, too.
        let in_target = request.uri().authority().map(Authority::as_str);
        let hosts = [host.to_str().ok(), Some(in_target.unwrap_or("localhost"))];
        hosts
            .iter()
            .all(|host| host.is_some_and(|host| self.contain(host, local)))
    }
}

/// Passes on requests for one of `hosts`, and refuses others with 421 (RFC 9110, section 15.5.20).
pub(super) async fn only_these(
    State(hosts): State<Hosts>,
    request: Request,
    next: Next,
) -> Response {
    if hosts.allow(&request) {
        return next.run(request).await;
    }
    let text = "This server answers here only for localhost and its own address. To read the members \
                under another name, for example through a proxy, start the node with --http-host NAME.\n";
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Hosts {
        let names = names.iter().map(|name| HostName::parse(name).unwrap());
        Hosts::new(names.collect())
    }

    #[test]
    fn loopback_names_the_own_address_and_configured_names_are_no_foreign_hosts() {
        let hosts = hosts(&["Gossip.Example.com", "192.0.2.9", "2001:db8::9"]);
        let local = Some(IpAddr::from([192, 0, 2, 1]));
        for own in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "127.0.0.1:8080",
            "127.3.4.5",
            "[::1]:8080",
            "192.0.2.1:8080",
            "192.0.2.1",
            "[::ffff:192.0.2.1]",
            "gossip.example.com",
            "GOSSIP.example.com.:443",
            "192.0.2.9",
            "[2001:db8::9]:1",
        ] {
            assert!(hosts.contain(own, local), "{own}");
        }
        for foreign in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.localhost",
            "gossip.example.com.evil.example",
            "sub.gossip.example.com",
            "192.0.2.2",
            "[2001:db8::1]",
            "0.0.0.0",
            "evil@localhost",
            "localhost@evil.example",
            "localhost evil",
            "http://localhost",
            "localhost/",
            "localhost:evil",
            "127.0.0.1:80.evil.example",
            "[::1]evil.example",
            "[::1].evil.example",
            "",
        ] {
            assert!(!hosts.contain(foreign, local), "{foreign}");
        }
    }

    #[test]
    fn without_the_address_of_the_connection_only_names_and_loopback_addresses_pass() {
        assert!(hosts(&[]).contain("127.0.0.1", None));
        assert!(!hosts(&[]).contain("192.0.2.1", None));
    }

    #[test]
    fn any_address_may_be_one_and_no_name_with_it() {
        let hosts = hosts(&[]).with_any_ip();
        assert!(hosts.contain("203.0.113.5:7946", None) && hosts.contain("[2001:db8::1]", None));
        assert!(!hosts.contain("203.0.113.5.evil.example", None));
        assert!(!hosts.contain("evil.example", None));
    }

    #[test]
    fn the_host_of_a_url_is_a_name() {
        for (url, host) in [
            ("wss://Gossip.example.com/path?to=3", "gossip.example.com"),
            ("wss://gossip.example.com:8443", "gossip.example.com"),
            ("wss://192.0.2.1/", "192.0.2.1"),
            ("wss://[2001:db8::1]:1/", "2001:db8::1"),
        ] {
            let url: PublicUrl = url.parse().unwrap();
            assert_eq!(HostName::of_url(&url), Some(HostName(host.to_owned())));
        }
    }

    #[test]
    fn a_request_must_name_one_host_and_the_same_kind_in_its_target() {
        let request = |target: &str, named: &[&str]| {
            let mut request = axum::http::Request::get(target);
            for host in named {
                request = request.header("Host", *host);
            }
            hosts(&[]).allow(&request.body(axum::body::Body::empty()).unwrap())
        };
        assert!(request("/status", &["localhost"]));
        assert!(request("http://localhost:1/status", &["localhost"]));
        assert!(!request("/status", &[]));
        assert!(!request("/status", &["localhost", "localhost"]));
        assert!(!request("/status", &["evil.example"]));
        assert!(!request("http://evil.example/status", &["localhost"]));
        assert!(!request("http://localhost/status", &["evil.example"]));
    }

    #[test]
    fn a_configured_name_has_no_scheme_and_no_port() {
        for wrong in ["", "http://a", "a:80", "a/b", "a b", "u@a", "[::1]:80"] {
            assert!(HostName::parse(wrong).is_err(), "{wrong}");
        }
        for right in [
            "a",
            "a.example.com",
            "A.Example.",
            "192.0.2.1",
            "::1",
            "[::1]",
        ] {
            assert!(HostName::parse(right).is_ok(), "{right}");
        }
    }
}
