//! A stranger that speaks HTTP: it wants a WebSocket, or gets a plain refusal.
//!
//! No web server: the only thing served here is the upgrade. Any path will do, and any `Origin`:
//! who may come in is decided by the secure channel inside, which a foreign page cannot pass.
//! Invariant: a request's head is read in bounded memory before anything is answered, and of a
//! request that goes on to the WebSocket library nothing but the header fields is the stranger's.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rt;

/// The longest head of a request, in bytes. Browsers send less than 1 KiB, and their cookies.
const MAX_HEAD_LEN: usize = 16 << 10;
/// The first line of an upgrade request, whichever path it named.
const UPGRADE_LINE: &[u8] = b"GET / HTTP/1.1\r\n";
/// How long a refused stranger may take to hear the refusal and go.
const LINGER: Duration = Duration::from_secs(1);

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

/// Reads a request's head into `head`, which may hold a part of it already and may hold more than
/// it in the end. An upgrade's path is replaced by `/`.
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
                "an HTTP request whose head is longer than 16 KiB",
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

/// tokio-websockets 0.13 panics on a path that `httparse` takes and `http` does not (`/<`, say).
/// No path means anything here, so it never sees one.
fn replace_first_line(head: &mut BytesMut) {
    let Some(end) = head.windows(2).position(|two| two == b"\r\n") else {
        return;
    };
    let rest = head.split_off(end + 2);
    *head = BytesMut::with_capacity(UPGRADE_LINE.len() + rest.len());
    head.extend_from_slice(UPGRADE_LINE);
    head.extend_from_slice(&rest);
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
    stream.shutdown().await?;
    // Closing with bytes unread resets the stream, and the answer could be lost with it.
    let drained = async {
        let mut unread = [0; 1 << 10];
        while stream.read(&mut unread).await.is_ok_and(|read| read > 0) {}
    };
    // Whoever goes on sending has had its answer.
    let _ = rt::timeout(LINGER, drained).await;
    Ok(())
}

/// The length of the head, its empty line included.
fn find_end(head: &[u8]) -> Option<usize> {
    let end = head.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

fn classify(head: &[u8]) -> Request {
    let mut lines = head.split(|byte| *byte == b'\n');
    // A WebSocket needs HTTP/1.1 (RFC 6455, section 4.1).
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
    fn a_path_is_forgotten_and_nothing_else() {
        let mut head = BytesMut::from(&b"GET /<any> HTTP/1.1\r\nHost: a\r\n\r\nmore"[..]);
        replace_first_line(&mut head);
        assert_eq!(&head[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore");
    }
}
