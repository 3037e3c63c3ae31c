//! Possible causes of a failed dial.
//!
//! A browser hides from a page why a WebSocket failed, so that pages cannot scan networks. The
//! texts here therefore name what may be the cause, and what to do about it. Invariant: a cause
//! that the browser is known to enforce is reported as [`ConnectError::NotPermitted`], since a
//! retry does not help against it.

use std::net::{IpAddr, SocketAddr};

use wasm_bindgen::{JsCast as _, JsValue};

use super::{environment, names, socket};
use crate::net::ConnectError;
use crate::net::address::is_discard_only;

/// Returns the error of a dial for which the constructor of `WebSocket` threw an exception.
pub(super) fn not_created(addr: SocketAddr, url: &str, thrown: &JsValue) -> ConnectError {
    if !environment::has_websocket() {
        let help =
            "this environment has no WebSocket. In Node.js, use version 22 or later, or start \
                    version 20 with --experimental-websocket"
                .to_owned();
        return ConnectError::NotPermitted { addr, help };
    }
    let message = socket::exception_text(thrown);
    let is_security_error = thrown
        .dyn_ref::<js_sys::Error>()
        .is_some_and(|error| error.name() == "SecurityError");
    let help = if is_security_error && environment::is_https() && url.starts_with("ws://") {
        format!("{} (the browser reports: {message})", mixed_content(url))
    } else if is_security_error && BLOCKED_PORTS.contains(&addr.port()) {
        blocked_port(url)
    } else if is_security_error {
        format!("the browser does not let this page open {url} (it reports: {message})")
    } else {
        format!("the browser does not accept the URL {url} (it reports: {message})")
    };
    ConnectError::NotPermitted { addr, help }
}

/// Returns the error of a dial whose WebSocket ended before it was open.
pub(super) fn not_opened(addr: SocketAddr, url: &str) -> ConnectError {
    let distance = distance_of(addr, url);
    if environment::is_https() && url.starts_with("ws://") && distance != Distance::OwnMachine {
        return ConnectError::NotPermitted {
            addr,
            help: mixed_content(url),
        };
    }
    if BLOCKED_PORTS.contains(&addr.port()) {
        return ConnectError::NotPermitted {
            addr,
            help: blocked_port(url),
        };
    }
    let mut help = format!(
        "the browser does not report why. Check that a node listens at {url} and accepts WebSocket \
         connections, and that no firewall or proxy is in between"
    );
    if url.starts_with("wss://") {
        help.push_str("; that its certificate is valid for this name");
    }
    if distance != Distance::Anywhere {
        help.push_str(
            "; and that this page is allowed to access the local network (the browser asks once, \
             and shows the answer in the settings of the site)",
        );
    }
    ConnectError::Refused { addr, help }
}

/// The ports that browsers never dial, which are those of protocols that a request could be taken for (Fetch
/// standard, section 2.9, "Port blocking").
const BLOCKED_PORTS: [u16; 82] = [
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102,
    103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465,
    512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993,
    995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668,
    6669, 6679, 6697, 10080,
];

fn blocked_port(url: &str) -> String {
    format!(
        "browsers never open {url}, because its port is one of another protocol: let the node listen on \
         another port"
    )
}

fn mixed_content(url: &str) -> String {
    let secure = match url.strip_prefix("ws://") {
        Some(rest) => format!("wss://{rest}"),
        None => "a wss:// URL".to_owned(),
    };
    format!(
        "a page that was loaded over https:// may not open ws://. Put the node behind TLS and dial \
         {secure}, or load this page over http://"
    )
}

/// The distance to a target. Browsers restrict access to targets nearby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distance {
    OwnMachine,
    LocalNetwork,
    Anywhere,
}

/// Returns how far away the target is, as far as its address or URL shows.
fn distance_of(addr: SocketAddr, url: &str) -> Distance {
    if is_discard_only(addr) {
        let host = names::host(url);
        return match host.parse().ok() {
            Some(ip) => distance_of_ip(ip),
            None if host.ends_with(".local") => Distance::LocalNetwork,
            None => Distance::Anywhere,
        };
    }
    distance_of_ip(addr.ip())
}

fn distance_of_ip(ip: IpAddr) -> Distance {
    let local = match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    if ip.is_loopback() {
        Distance::OwnMachine
    } else if local {
        Distance::LocalNetwork
    } else {
        Distance::Anywhere
    }
}
