//! The first message of a TLS client, by which the server decides how it goes on.
//!
//! Invariant: at most one message is read, of at most the 64 KiB that rustls keeps.

use std::io;

use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use tokio::net::TcpStream;

use super::session::{Broken, Socket};

/// The alert `unexpected_message` (RFC 8446, section 6) as a record of TLS 1.2, which all versions take.
const UNEXPECTED: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 10];

/// Reads the ClientHello. `received` holds the bytes of the stream that have been read already.
///
/// # Errors
///
/// Fails if the stream breaks, or if the client breaks the rules; it has been sent an alert then, as far as the socket took
/// that at once.
pub(super) async fn read(tcp: &TcpStream, received: &[u8]) -> Result<Accepted, Broken> {
    let mut acceptor = Acceptor::default();
    let mut received = received;
    loop {
        while !received.is_empty() {
            acceptor.read_tls(&mut received).map_err(Broken::Io)?;
            if let Some(accepted) = accept(&mut acceptor, tcp)? {
                return Ok(accepted);
            }
        }
        match acceptor.read_tls(&mut Socket(tcp)) {
            Ok(0) => return Err(Broken::ended(true)),
            Ok(_) => {
                if let Some(accepted) = accept(&mut acceptor, tcp)? {
                    return Ok(accepted);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tcp.readable().await.map_err(Broken::Io)?;
            }
            Err(error) => return Err(Broken::Io(error)),
        }
    }
}

fn accept(acceptor: &mut Acceptor, tcp: &TcpStream) -> Result<Option<Accepted>, Broken> {
    acceptor
        .accept()
        .map_err(|(error, alert)| refused(error, alert, tcp))
}

/// Sends an alert, and returns the error that it tells.
pub(super) fn refused(error: rustls::Error, mut alert: AcceptedAlert, tcp: &TcpStream) -> Broken {
    // It is the first thing that is sent, so there is room for it.
    if matches!(alert.write(&mut Socket(tcp)), Ok(0)) {
        // rustls has none for a first message that is no ClientHello.
        let _ = tcp.try_write(&UNEXPECTED);
    }
    Broken::Tls(error)
}
