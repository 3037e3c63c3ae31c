//! Incoming HTTP requests: a WebSocket upgrade is answered, everything else is refused.
//!
//! This is not a web server: it serves nothing but the upgrade, and other requests go to
//! [`TcpConfig::http`](super::TcpConfig::http) if there is one. Any path and any `Origin` are
//! accepted, because the secure channel inside the WebSocket decides which peers may connect, and a
//! page of another origin cannot pass its handshake. Invariant: the head of a request is read into
//! bounded memory, in linear time, before anything is sent.
//!
//! | file | contents |
//! |---|---|
//! | `head` | the fields of an upgrade in the head of a request |
//! | `accept_key` | the answer to the key of an upgrade |
//! | `refusal` | the answer to every other request |

mod accept_key;
mod head;
mod refusal;

use bytes::BytesMut;

use super::error::AcceptError;
use super::losses::Loss;
use super::stream::Stream;
use crate::net::MAX_REQUEST_HEAD_LEN;
use head::EndOfHead;
pub(super) use head::{Request, forwarded_for, is_plain, parse};
#[cfg(feature = "http")]
pub(super) use head::{has_to_do_with_websockets, meaning};
pub(super) use refusal::Refusal;

/// Reads the head of a request, of which `received` may hold the start. Leaves the bytes after the head
/// in `received`.
///
/// # Errors
///
/// Fails if the head is longer than 16 KiB, after a response that says so, or if the stream ends or
/// breaks before the end of the head.
pub(super) async fn read_head(
    stream: &mut Stream,
    received: &mut BytesMut,
) -> Result<BytesMut, AcceptError> {
    let mut end = EndOfHead::default();
    let len = loop {
        if let Some(len) = end
            .find(received)
            .filter(|len| *len <= MAX_REQUEST_HEAD_LEN)
        {
            break len;
        }
        if received.len() >= MAX_REQUEST_HEAD_LEN {
            respond(stream, (431, "Request Header Fields Too Large"), &[], "").await?;
            return Err(AcceptError::HeadTooLong {
                max: MAX_REQUEST_HEAD_LEN,
            });
        }
        received.reserve(1 << 10);
        if stream.read_buf(received).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    };
    Ok(received.split_to(len))
}

/// Answers a request. Returns the error of every request that is not an upgrade, after a response
/// that says what is wrong.
pub(super) async fn answer(stream: &mut Stream, request: Request) -> Result<(), AcceptError> {
    if let Request::Upgrade { accept } = &request {
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(response.as_bytes()).await?;
        return Ok(());
    }
    let refusal = Refusal::of(&request);
    respond(stream, refusal.status, refusal.fields, refusal.body).await?;
    Err(loss(&request).into())
}

/// Returns the reason for which a request that is refused becomes no WebSocket.
pub(super) fn loss(request: &Request) -> Loss {
    match *request {
        Request::OtherWebSocketVersion => Loss::OtherWebSocketVersion,
        Request::Http10 => Loss::Http10,
        Request::Malformed { what } => Loss::Malformed { what },
        Request::Upgrade { .. } | Request::Get | Request::OtherHttp | Request::Other => {
            Loss::NotAnUpgrade
        }
    }
}

/// Answers a request that came without TLS to a port that accepts nothing else.
pub(super) async fn refuse_plain(stream: &mut Stream) -> Result<(), AcceptError> {
    let body = "This port accepts TLS only: use https:// or wss:// in place of http:// or ws://\n";
    respond(stream, (400, "Bad Request"), &[], body).await
}

/// Sends a response that refuses a request, and ends the stream.
async fn respond(
    stream: &mut Stream,
    (code, reason): (u16, &str),
    fields: &[(&str, &str)],
    body: &str,
) -> Result<(), AcceptError> {
    let connection = if fields.is_empty() {
        "close"
    } else {
        "close, Upgrade"
    };
    let mut response = format!("HTTP/1.1 {code} {reason}\r\n");
    for (name, value) in fields {
        response += &format!("{name}: {value}\r\n");
    }
    response += &format!(
        "Connection: {connection}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(response.as_bytes()).await?;
    stream.part().await?;
    Ok(())
}
