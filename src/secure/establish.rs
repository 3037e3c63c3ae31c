//! Opens a secure connection over a carrier, as dialler or as acceptor.
//!
//! The messages of the handshake are in `handshake`; this file adds the time limit and the carrier's
//! orderly end. Invariant: when a handshake fails, the carrier has been closed.

use std::future::Future;
use std::time::Duration;

use super::config::SecureConfig;
use super::connection::{Endpoints, SecureConnection};
use super::error::HandshakeError;
use super::frame::{FrameReader, FrameWriter};
use super::handshake::{self, Established};
use super::suite::Suite;
use crate::credential::NetCredential;
use crate::net::Alpn;
use crate::rt;

/// The time in which the carrier of a failed handshake may end in order.
const SHUTDOWN_TIME: Duration = Duration::from_secs(1);

/// Runs the dialler's side of the handshake.
///
/// Completes once the acceptor has confirmed that it accepts this identity. The protocols in
/// `alpn_preferred` are offered in this order, and the acceptor takes the first that it supports.
/// Dropping the future drops the carrier.
///
/// # Errors
///
/// Fails with a [`HandshakeError`], after the carrier has been closed.
pub async fn dial<R: FrameReader, W: FrameWriter>(
    mut reader: R,
    mut writer: W,
    endpoints: Endpoints,
    suite: Suite,
    alpn_preferred: &[Alpn],
    credential: &NetCredential,
    config: &SecureConfig,
) -> Result<SecureConnection<R, W>, HandshakeError> {
    let handshake = handshake::dial(
        &mut reader,
        &mut writer,
        suite,
        alpn_preferred,
        credential,
        config,
    );
    let result = in_time(config, handshake).await;
    finish(reader, writer, endpoints, credential, config, result).await
}

/// Runs the acceptor's side of the handshake.
///
/// Takes the first protocol in the dialler's offer that is in `alpn_supported`. Dropping the future
/// drops the carrier.
///
/// # Errors
///
/// Fails with a [`HandshakeError`], after the carrier has been closed. A dialler that is refused
/// receives no reason.
pub async fn accept<R: FrameReader, W: FrameWriter>(
    mut reader: R,
    mut writer: W,
    endpoints: Endpoints,
    alpn_supported: &[Alpn],
    credential: &NetCredential,
    config: &SecureConfig,
) -> Result<SecureConnection<R, W>, HandshakeError> {
    let handshake = handshake::accept(
        &mut reader,
        &mut writer,
        endpoints.remote,
        alpn_supported,
        credential,
        config,
    );
    let result = in_time(config, handshake).await;
    finish(reader, writer, endpoints, credential, config, result).await
}

async fn in_time(
    config: &SecureConfig,
    handshake: impl Future<Output = Result<Established, HandshakeError>>,
) -> Result<Established, HandshakeError> {
    config.validate()?;
    match rt::timeout(config.handshake_timeout, handshake).await {
        Ok(result) => result,
        Err(rt::Elapsed(after)) => Err(HandshakeError::Timeout { after }),
    }
}

async fn finish<R: FrameReader, W: FrameWriter>(
    reader: R,
    mut writer: W,
    endpoints: Endpoints,
    credential: &NetCredential,
    config: &SecureConfig,
    result: Result<Established, HandshakeError>,
) -> Result<SecureConnection<R, W>, HandshakeError> {
    match result {
        Ok(established) => Ok(SecureConnection::new(
            reader,
            writer,
            endpoints,
            credential.identity(),
            established,
            config,
        )),
        Err(error) => {
            let _ = rt::timeout(SHUTDOWN_TIME, writer.shutdown()).await;
            Err(error)
        }
    }
}
