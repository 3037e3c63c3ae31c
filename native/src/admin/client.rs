//! The connection of a subcommand to its node.
//!
//! Blocks, since a subcommand does nothing else meanwhile.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::value::RawValue;

use super::error::ClientError;
use super::port::TokenFile;
use super::protocol::{Command, Reply};

/// The time in which a node that listens accepts a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The time after which a node that says nothing is taken for stuck.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A connection to a node.
pub(super) struct Client {
    stream: BufReader<Box<dyn Stream>>,
    token: Option<String>,
    path: PathBuf,
}

trait Stream: Read + Write {
    fn set_limits(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_limits(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(read)?;
        self.set_write_timeout(write)
    }
}

#[cfg(unix)]
impl Stream for std::os::unix::net::UnixStream {
    fn set_limits(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(read)?;
        self.set_write_timeout(write)
    }
}

impl Client {
    /// Connects to the node that listens at `path`.
    pub(super) fn connect(path: &Path) -> Result<Self, ClientError> {
        let (stream, token) = open(path).map_err(|error| unreachable(path, &error))?;
        Ok(Self {
            stream: BufReader::new(stream),
            token,
            path: path.to_path_buf(),
        })
    }

    /// Sends a command and passes the items of its result to `take`, until that returns false.
    pub(super) fn run(
        &mut self,
        command: &Command,
        mut take: impl FnMut(&RawValue) -> bool,
    ) -> Result<(), ClientError> {
        // Between two changes may be any time.
        let silence = (*command != Command::Watch).then_some(ANSWER_LIMIT);
        let sent = self.send(command, silence);
        loop {
            match (self.next(), &sent) {
                (Ok(Reply::Item(item)), _) if take(&item) => {}
                (Ok(Reply::Item(_) | Reply::Done {}), _) => return Ok(()),
                (Ok(Reply::Error(failure)), _) => return Err(ClientError::Refused(failure)),
                // A node that refuses a request before it has read all of it breaks the connection.
                (Err(_), Err(error)) => return Err(self.broken(error)),
                (Err(error), Ok(())) => return Err(self.broken(&error)),
            }
        }
    }

    fn send(&mut self, command: &Command, silence: Option<Duration>) -> io::Result<()> {
        let line = command.to_line(self.token.as_deref())?;
        let stream = self.stream.get_mut();
        stream.set_limits(silence, Some(ANSWER_LIMIT))?;
        stream.write_all(line.as_bytes())?;
        stream.flush()
    }

    fn next(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    fn broken(&self, error: &io::Error) -> ClientError {
        let path = self.path.display();
        ClientError::Unreachable(match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                format!("the node at {path} has ended or closed the connection")
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                format!("the node at {path} does not answer: it is stopped or overloaded")
            }
            _ => format!("what listens at {path} is not a node of this version: {error}"),
        })
    }
}

/// Opens the connection and returns it with the token, if it needs one.
fn open(path: &Path) -> io::Result<(Box<dyn Stream>, Option<String>)> {
    let file = std::fs::metadata(path)?;
    if file.is_file() {
        let TokenFile { addr, token } = TokenFile::read(path).map_err(io::Error::other)?;
        let stream = TcpStream::connect_timeout(&addr, CONNECT_LIMIT)?;
        return Ok((Box::new(stream), Some(token.as_str().to_owned())));
    }
    if file.is_dir() {
        let reason = "it is a directory; name the path that the node was given with --admin";
        return Err(io::Error::other(reason));
    }
    open_socket(path)
}

#[cfg(unix)]
fn open_socket(path: &Path) -> io::Result<(Box<dyn Stream>, Option<String>)> {
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    Ok((Box::new(stream), None))
}

#[cfg(not(unix))]
fn open_socket(_path: &Path) -> io::Result<(Box<dyn Stream>, Option<String>)> {
    Err(ErrorKind::Unsupported.into())
}

fn unreachable(path: &Path, error: &io::Error) -> ClientError {
    let shown = path.display();
    ClientError::Unreachable(match error.kind() {
        ErrorKind::NotFound => format!(
            "no node listens at {shown}: start one with gossip-node --admin {shown}, or name the \
             path of a running one with --admin"
        ),
        ErrorKind::ConnectionRefused => format!(
            "no node listens at {shown} any more: start one with gossip-node --admin {shown}, or \
             name the path of a running one with --admin"
        ),
        ErrorKind::PermissionDenied => {
            format!("{shown} belongs to another user: run this as the user of the node, or as root")
        }
        _ => format!("cannot connect to {shown}: {error:#}"),
    })
}
