//! The answer to a request that is not an upgrade.

use super::head::Request;

const UPGRADE: (&str, &str) = ("Upgrade", "websocket");

/// A response that says what is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tcp) struct Refusal {
    pub(in crate::tcp) status: (u16, &'static str),
    pub(in crate::tcp) fields: &'static [(&'static str, &'static str)],
    pub(in crate::tcp) body: &'static str,
}

impl Refusal {
    /// The response of a server which passes on no upgrades.
    #[cfg(feature = "http")]
    pub(in crate::tcp) const NO_UPGRADES: Self = Self {
        status: (500, "Internal Server Error"),
        fields: &[],
        body: "This server passes on no upgrades\n",
    };

    /// The response of a server whose streams no listener takes now.
    #[cfg(feature = "http")]
    pub(in crate::tcp) const NO_LISTENER: Self = Self {
        status: (503, "Service Unavailable"),
        fields: &[],
        body: "The gossip member of this server takes no connection now\n",
    };

    /// Returns the refusal of a request, which is that of an unknown path for a request that has nothing wrong.
    pub(in crate::tcp) fn of(request: &Request) -> Self {
        let needed = |fields, body| Self {
            status: (426, "Upgrade Required"),
            fields,
            body,
        };
        match request {
            Request::Get => needed(&[UPGRADE], "This port accepts WebSockets only\n"),
            Request::OtherWebSocketVersion => needed(
                &[UPGRADE, ("Sec-WebSocket-Version", "13")],
                "This port accepts version 13 of the WebSocket protocol only\n",
            ),
            Request::Http10 => needed(
                &[UPGRADE],
                "This port accepts WebSockets only, and HTTP/1.0 has none. If nginx is in front, set \
                 \"proxy_http_version 1.1;\" there, and pass the Upgrade and Connection headers\n",
            ),
            Request::OtherHttp => needed(
                &[UPGRADE],
                "WebSockets are accepted over HTTP/1.1 only. A proxy in front must not use HTTP/2 to this port\n",
            ),
            Request::Malformed { what } => Self {
                status: (400, "Bad Request"),
                fields: &[],
                body: what,
            },
            Request::Other | Request::Upgrade { .. } => Self {
                status: (404, "Not Found"),
                fields: &[],
                body: "Not found\n",
            },
        }
    }
}
