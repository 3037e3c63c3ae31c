//! Opens a secure connection over a carrier, as dialler or as acceptor.
//!
//! The messages of the handshake are in `handshake`; this file adds the time limit and the carrier's
//! orderly end. Invariant: when a handshake fails, the carrier has been closed, and a reason that was
//! sent to the peer has had time to arrive.

use std::future::Future;
use std::time::Duration;

use super::config::SecureConfig;
use super::connection::SecureConnection;
use super::error::HandshakeError;
use super::frame::{FrameBuffer, FrameReader, FrameWriter};
use super::handshake::{self, Established, Failure};
use super::params::HandshakeParams;
use super::suite::Suite;
use crate::rt::{self, Instant};

/// The time in which the carrier of a failed handshake may end in order.
const SHUTDOWN_TIME: Duration = Duration::from_secs(1);

/// The largest number of frames that are read and ignored after a reason has been sent. An honest peer
/// has at most one on its way.
const MAX_IGNORED: usize = 16;

/// Runs the dialler's side of the handshake.
///
/// Completes once the acceptor has confirmed that it accepts this identity. Dropping the future drops
/// the carrier.
///
/// # Errors
///
/// Fails with a [`HandshakeError`], after the carrier has been closed.
pub async fn dial<R: FrameReader, W: FrameWriter>(
    mut reader: R,
    mut writer: W,
    suite: Suite,
    params: &HandshakeParams<'_>,
) -> Result<SecureConnection<R, W>, HandshakeError> {
    let began = Instant::now();
    let handshake = async {
        let dialled = handshake::dial(&mut reader, &mut writer, suite, params).await;
        dialled.map_err(Failure::from)
    };
    let result = in_time(params.config, handshake).await;
    finish(reader, writer, params, began, result).await
}

/// Runs the acceptor's side of the handshake. Dropping the future drops the carrier.
///
/// # Errors
///
/// Fails with a [`HandshakeError`], after the carrier has been closed. A dialler that has authenticated
/// itself and is refused receives the reason, and one that speaks another version receives ours; this
/// waits up to a second, within the handshake timeout, until the dialler has closed as well. Any other
/// dialler that is refused receives no reason.
pub async fn accept<R: FrameReader, W: FrameWriter>(
    mut reader: R,
    mut writer: W,
    params: &HandshakeParams<'_>,
) -> Result<SecureConnection<R, W>, HandshakeError> {
    let began = Instant::now();
    let handshake = handshake::accept(&mut reader, &mut writer, params);
    let result = in_time(params.config, handshake).await;
    finish(reader, writer, params, began, result).await
}

async fn in_time(
    config: &SecureConfig,
    handshake: impl Future<Output = Result<Established, Failure>>,
) -> Result<Established, Failure> {
    config.validate().map_err(HandshakeError::from)?;
    match rt::timeout(config.handshake_timeout, handshake).await {
        Ok(result) => result,
        Err(rt::Elapsed(after)) => Err(HandshakeError::Timeout { after }.into()),
    }
}

async fn finish<R: FrameReader, W: FrameWriter>(
    reader: R,
    mut writer: W,
    params: &HandshakeParams<'_>,
    began: Instant,
    result: Result<Established, Failure>,
) -> Result<SecureConnection<R, W>, HandshakeError> {
    match result {
        Ok(established) => Ok(SecureConnection::new(reader, writer, params, established)),
        Err(failure) if failure.farewell.is_empty() => {
            let _ = rt::timeout(SHUTDOWN_TIME, writer.shutdown()).await;
            Err(failure.error)
        }
        Err(failure) => {
            let left = params.config.handshake_timeout;
            let limit = left.saturating_sub(began.elapsed()).min(SHUTDOWN_TIME);
            let error = failure.error;
            let _ = rt::timeout(limit, part(reader, writer, failure.farewell)).await;
            Err(error)
        }
    }
}

/// Writes the reason, ends the stream, and reads until the peer has ended it as well.
///
/// Closing a TCP connection with unread bytes resets it, which would discard the reason before the peer
/// has read it.
async fn part<R: FrameReader, W: FrameWriter>(
    mut reader: R,
    mut writer: W,
    mut farewell: FrameBuffer,
) {
    if writer.write_frames(&mut farewell).await.is_err() || writer.shutdown().await.is_err() {
        return;
    }
    for _ in 0..MAX_IGNORED {
        match reader.read_frame().await {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
