//! A stranger that speaks HTTP: it wants a WebSocket, or gets a plain refusal.
//!
//! No web server: the only thing served here is the upgrade. Any path will do, and any `Origin`:
//! who may come in is decided by the secure channel inside, which a foreign page cannot pass.
//! Invariant: a request's head is read in bounded memory before anything is answered.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The longest head of a request, in bytes. Browsers send less than 1 KiB, and their cookies.
const MAX_HEAD_LEN: usize = 16 << 10;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// A WebSocket.
    Upgrade,
    /// A document, which there is not.
    Get,
    /// Something else.
    Other,
}

/// Reads a request's head into `head`, which may hold a part of it already.
pub(super) async fn read_request(
    stream: &mut TcpStream,
    head: &mut BytesMut,
) -> io::Result<Request> {
    while find_end(head).is_none() {
        if head.len() >= MAX_HEAD_LEN {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "an HTTP request whose head is longer than 16 KiB",
            ));
        }
        head.reserve(1 << 10);
        if stream.read_buf(head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(classify(head))
}

/// Tells a stranger plainly that there is nothing to see, and ends the stream.
pub(super) async fn refuse(stream: &mut TcpStream, request: Request) -> io::Result<()> {
    let answer: &[u8] = match request {
        Request::Get | Request::Upgrade => {
            b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: close, Upgrade\r\n\
              Content-Type: text/plain\r\nContent-Length: 36\r\n\r\nThis port takes WebSockets of peers."
        }
        Request::Other => {
            b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Type: text/plain\r\n\
              Content-Length: 9\r\n\r\nNot found"
        }
    };
    stream.write_all(answer).await?;
    stream.shutdown().await
}

fn find_end(head: &[u8]) -> Option<usize> {
    head.windows(4).position(|four| four == b"\r\n\r\n")
}

fn classify(head: &[u8]) -> Request {
    let mut lines = head.split(|byte| *byte == b'\n');
    let is_get = lines.next().is_some_and(|line| line.starts_with(b"GET "));
    if !is_get {
        return Request::Other;
    }
    let upgrades = lines.any(|line| {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default().trim_ascii();
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
    fn only_a_get_with_an_upgrade_header_wants_a_websocket() {
        assert_eq!(
            classify(b"GET /x HTTP/1.1\r\nHost: a\r\nuPGRADE:  WebSocket\r\n\r\n"),
            Request::Upgrade
        );
        assert_eq!(classify(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Request::Get);
        assert_eq!(
            classify(b"POST / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
            Request::Other
        );
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        assert_eq!(find_end(b"GET / HTTP/1.1\r\n"), None);
        assert_eq!(find_end(b"GET / HTTP/1.1\r\n\r\nrest"), Some(14));
    }
}
