//! Incoming HTTP requests: a WebSocket upgrade is prepared, everything else is refused.
//!
//! This is not a web server: it serves nothing but the upgrade. Any path and any `Origin` are
//! accepted, because the secure channel inside the WebSocket decides which peers may connect, and a
//! page of another origin cannot pass its handshake. Invariant: the head of a request is read into
//! bounded memory before anything is sent, and of an upgrade request only the header fields reach
//! the WebSocket library.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rt;

/// The longest head of a request, in bytes. Browsers send less than 1 KiB plus their cookies.
const MAX_HEAD_LEN: usize = 16 << 10;
/// The first line of every upgrade request that is passed on.
const UPGRADE_LINE: &[u8] = b"GET / HTTP/1.1\r\n";
/// The time in which a refused peer may read the response and close.
const LINGER: Duration = Duration::from_secs(1);

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// A WebSocket upgrade.
    Upgrade,
    /// Any other `GET` over HTTP/1.1.
    Get,
    /// Any other method or version.
    Other,
}

/// Reads the head of a request into `head` and returns the kind of the request.
///
/// `head` may hold the start of the request already, and may hold bytes after the head on return.
/// The path of an upgrade request is replaced by `/`.
///
/// # Errors
///
/// Fails if the head is longer than [`MAX_HEAD_LEN`], or if the stream ends or breaks before the
/// end of the head.
pub(super) async fn read_request(
    stream: &mut TcpStream,
    head: &mut BytesMut,
) -> io::Result<Request> {
    let len = loop {
        if let Some(len) = find_end(head) {
            break len;
        }
        if head.len() >= MAX_HEAD_LEN {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the head of an HTTP request is longer than 16 KiB",
            ));
        }
        head.reserve(1 << 10);
        if stream.read_buf(head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let request = classify(head.get(..len).unwrap_or_default());
    if request == Request::Upgrade {
        replace_first_line(head);
    }
    Ok(request)
}

/// Replaces the first line of an upgrade request, so that its path is `/`.
///
/// tokio-websockets 0.13 panics on paths that `httparse` accepts and `http` refuses, such as `/<`.
/// The path has no meaning here, so the library need not see it.
fn replace_first_line(head: &mut BytesMut) {
    let Some(end) = head.windows(2).position(|two| two == b"\r\n") else {
        return;
    };
    let rest = head.split_off(end + 2);
    *head = BytesMut::with_capacity(UPGRADE_LINE.len() + rest.len());
    head.extend_from_slice(UPGRADE_LINE);
    head.extend_from_slice(&rest);
}

/// Sends a response that refuses the request, and ends the stream.
pub(super) async fn refuse(stream: &mut TcpStream, request: Request) -> io::Result<()> {
    let answer: &[u8] = match request {
        Request::Get | Request::Upgrade => {
            b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: close, Upgrade\r\n\
              Content-Type: text/plain\r\nContent-Length: 33\r\n\r\nThis port accepts WebSockets only"
        }
        Request::Other => {
            b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Type: text/plain\r\n\
              Content-Length: 9\r\n\r\nNot found"
        }
    };
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    // Closing a socket with unread bytes resets the connection, and the response could be lost.
    let drained = async {
        let mut unread = [0; 1 << 10];
        while stream.read(&mut unread).await.is_ok_and(|read| read > 0) {}
    };
    // A peer that is still sending after this has had time to read its response.
    let _ = rt::timeout(LINGER, drained).await;
    Ok(())
}

/// Returns the length of the head, including its empty line, once all of it has been read.
fn find_end(head: &[u8]) -> Option<usize> {
    let end = head.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

fn classify(head: &[u8]) -> Request {
    let mut lines = head.split(|byte| *byte == b'\n');
    // An upgrade to WebSocket requires HTTP/1.1 (RFC 6455, section 4.1).
    let is_get = lines.next().is_some_and(|line| {
        line.starts_with(b"GET ") && line.trim_ascii_end().ends_with(b" HTTP/1.1")
    });
    if !is_get {
        return Request::Other;
    }
    let upgrades = lines.any(|line| {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"upgrade") && value.eq_ignore_ascii_case(b"websocket")
    });
    if upgrades {
        Request::Upgrade
    } else {
        Request::Get
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_get_with_an_upgrade_header_is_an_upgrade() {
        assert_eq!(
            classify(b"GET /x HTTP/1.1\r\nHost: a\r\nuPGRADE:  WebSocket\r\n\r\n"),
            Request::Upgrade
        );
        assert_eq!(classify(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Request::Get);
        assert_eq!(
            classify(b"POST / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
            Request::Other
        );
        assert_eq!(
            classify(b"GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n"),
            Request::Other
        );
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        assert_eq!(find_end(b"GET / HTTP/1.1\r\n"), None);
        assert_eq!(find_end(b"GET / HTTP/1.1\r\n\r\nrest"), Some(18));
    }

    #[test]
    fn only_the_first_line_of_an_upgrade_is_replaced() {
        let mut head = BytesMut::from(&b"GET /<any> HTTP/1.1\r\nHost: a\r\n\r\nmore"[..]);
        replace_first_line(&mut head);
        assert_eq!(&head[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore");
    }
}
