//! A node's status, requested over a connection that stays open.
//!
//! The request and the wait for its answer are separate, so that several nodes can be asked at once
//! without a thread for each. It reads no more of HTTP than the nodes write.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

/// Limit for a connection, a request and an answer each.
const LIMIT: Duration = Duration::from_secs(10);
/// The age of the last answer from which on another connection is opened, since nodes close idle ones after
/// some seconds.
const KEPT: Duration = Duration::from_secs(1);
/// The longest status that is accepted, in bytes.
const MAX_LEN: usize = 16 << 20;

/// A connection to a node's HTTP port.
#[derive(Debug)]
pub(crate) struct Poll {
    addr: SocketAddrV4,
    reader: BufReader<TcpStream>,
    request: String,
    answered: Instant,
}

impl Poll {
    pub(crate) fn connect(addr: SocketAddrV4) -> io::Result<Self> {
        Ok(Self {
            addr,
            reader: open(addr)?,
            answered: Instant::now(),
            request: format!("GET /status HTTP/1.1\r\nHost: {addr}\r\n\r\n"),
        })
    }

    /// Sends a request. Each must be followed by one [`receive`](Self::receive).
    pub(crate) fn send(&mut self) -> io::Result<()> {
        if self.answered.elapsed() > KEPT {
            self.reader = open(self.addr)?;
        }
        self.reader.get_mut().write_all(self.request.as_bytes())
    }

    /// Waits for the answer to the request and returns its body.
    pub(crate) fn receive(&mut self) -> io::Result<String> {
        let mut len = None;
        let mut line = String::new();
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.starts_with("HTTP/") && !line.starts_with("HTTP/1.1 200") {
                return Err(io::Error::other(line));
            }
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                len = value.trim().parse().ok();
            }
        }
        let len = len.filter(|len| *len <= MAX_LEN);
        let len = len.ok_or_else(|| io::Error::other("the answer has no valid length"))?;
        let mut body = vec![0; len];
        self.reader.read_exact(&mut body)?;
        self.answered = Instant::now();
        String::from_utf8(body).map_err(io::Error::other)
    }
}

fn open(addr: SocketAddrV4) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&SocketAddr::V4(addr), LIMIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(BufReader::with_capacity(64 << 10, stream))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    #[test]
    fn answers_arrive_one_after_the_other_on_one_connection() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(addr) = listener.local_addr().unwrap() else {
            unreachable!("bound to an IPv4 address");
        };
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            for answer in [
                "Content-Length: 2\r\n\r\n{}",
                "content-length: 3\r\n\r\n[1]",
            ] {
                let mut line = String::new();
                while !line.ends_with("\r\n\r\n") {
                    reader.read_line(&mut line).unwrap();
                }
                assert!(line.starts_with("GET /status HTTP/1.1\r\n"), "{line}");
                write!(&stream, "HTTP/1.1 200 OK\r\nX: y\r\n{answer}").unwrap();
            }
        });
        let mut poll = Poll::connect(addr).unwrap();
        poll.send().unwrap();
        assert_eq!(poll.receive().unwrap(), "{}");
        poll.send().unwrap();
        assert_eq!(poll.receive().unwrap(), "[1]");
        server.join().unwrap();
    }
}
