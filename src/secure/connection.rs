//! A [`NetConnection`] over frames.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{FrameReader, FrameWriter};
use crate::credential::Identity;
use crate::net::{Alpn, CloseCode, CloseReason, NetConnection};

/// A secure, ordered stream of messages.
#[derive(Debug)]
pub struct SecureConnection<R, W>(PhantomData<fn() -> (R, W)>);

impl<R, W> Clone for SecureConnection<R, W> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<R: FrameReader, W: FrameWriter> NetConnection for SecureConnection<R, W> {
    fn local_addr(&self) -> SocketAddr {
        todo!()
    }
    fn remote_addr(&self) -> SocketAddr {
        todo!()
    }
    fn local_identity(&self) -> Identity {
        todo!()
    }
    fn remote_identity(&self) -> Identity {
        todo!()
    }
    fn alpn_negotiated(&self) -> &Alpn {
        todo!()
    }
    async fn send_many(&self, _batch: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        todo!()
    }
    async fn keepalive(&self) -> anyhow::Result<()> {
        todo!()
    }
    async fn recv(&self) -> anyhow::Result<Option<Bytes>> {
        todo!()
    }
    fn silence(&self) -> Duration {
        todo!()
    }
    async fn close(&self, _code: CloseCode) {
        todo!()
    }
    async fn watch_close(&self) -> CloseReason {
        todo!()
    }
}
