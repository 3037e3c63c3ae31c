//! Where this code was loaded from, and what that allows: the words for a dial that failed.
//!
//! A browser hides from a page why a WebSocket failed, so that pages cannot scan networks. What is
//! said here is therefore what may be the cause. It works without a `window`.

use std::net::{IpAddr, SocketAddr};

use wasm_bindgen::JsValue;
use web_sys::Url;

use super::names;
use crate::net::ConnectError;

/// Whether the page came over TLS, and so may not open `ws://`, but to its own machine.
pub(super) fn is_https() -> bool {
    origin().is_some_and(|origin| origin.starts_with("https://"))
}

/// The page's origin, `https://host:port`; for a worker, that of the page that started it.
fn origin() -> Option<String> {
    let origin = js_sys::Reflect::get(&js_sys::global(), &JsValue::from_str("origin"));
    origin.ok()?.as_string()
}

/// A constructor that threw: `name` is the exception's.
pub(super) fn not_created(addr: SocketAddr, url: &str, name: &str, said: &str) -> ConnectError {
    if name == "SecurityError" {
        return ConnectError::NotPermitted {
            addr,
            help: format!("{} (the browser said: {said})", mixed_content(url)),
        };
    }
    ConnectError::NotPermitted {
        addr,
        help: format!("the browser does not take the URL {url} (it said: {said})"),
    }
}

/// A WebSocket that ended before it was open.
pub(super) fn not_opened(addr: SocketAddr, url: &str) -> ConnectError {
    let target = target(addr, url);
    if is_https() && url.starts_with("ws://") && target != Reach::OwnMachine {
        return ConnectError::NotPermitted {
            addr,
            help: mixed_content(url),
        };
    }
    let mut help = format!(
        "the browser does not say why. Check that a node listens at {url} and accepts WebSocket \
         connections, and that no firewall or proxy is in between"
    );
    if url.starts_with("wss://") {
        help.push_str("; that its certificate is valid for this name");
    }
    if target != Reach::Anywhere {
        help.push_str(
            "; and that this page has been given access to the local network (the browser asks \
             for it once, and the site's settings show the answer)",
        );
    }
    ConnectError::Refused { addr, help }
}

fn mixed_content(url: &str) -> String {
    let secure = match url.strip_prefix("ws://") {
        Some(rest) => format!("wss://{rest}"),
        None => "a wss:// URL".to_owned(),
    };
    format!(
        "a page that was loaded over https:// may not open ws://. Put the node behind TLS and \
         dial {secure}, or load this page over http://"
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    OwnMachine,
    LocalNetwork,
    Anywhere,
}

/// How far the target is, as far as the URL tells.
fn target(addr: SocketAddr, url: &str) -> Reach {
    if names::is_stand_in(addr) {
        let host = Url::new(url).map_or_else(|_| String::new(), |url| url.hostname());
        return match names::ip(&host) {
            Some(ip) => reach(ip),
            None if host.ends_with(".local") => Reach::LocalNetwork,
            None => Reach::Anywhere,
        };
    }
    reach(addr.ip())
}

fn reach(ip: IpAddr) -> Reach {
    let local = match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    if ip.is_loopback() {
        Reach::OwnMachine
    } else if local {
        Reach::LocalNetwork
    } else {
        Reach::Anywhere
    }
}
