//! The opening of an incoming stream: who the client is, and which carrier of frames it becomes.
//!
//! It sends nothing but answers to HTTP requests, and has no timeout of its own. Invariant: bytes that
//! were read and belong to the carrier are handed on to it.

use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::carrier::{Reader, Readers, TcpReader, TcpWriter, Writer, raw, websocket};
use super::error::AcceptError;
use super::http::{self, Request};
use super::proxy::{self, Proxies};
use super::sniff::{Protocol, sniff};

/// An incoming stream, of which a part may have been read already.
#[derive(Debug)]
pub(super) struct Opening {
    stream: TcpStream,
    received: BytesMut,
    /// The request with which the stream has begun, once it has been read.
    request: Option<Request>,
}

impl Opening {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            request: None,
        }
    }

    /// Reads as much as is needed to know the client, which is `peer` unless that is a trusted proxy.
    pub(super) async fn identify(
        &mut self,
        peer: SocketAddr,
        proxies: &Proxies,
    ) -> Result<SocketAddr, AcceptError> {
        let mut client = peer;
        if proxies.speaks_proxy_protocol(peer.ip()) {
            let stated = proxy::read_header(&mut self.stream, &mut self.received).await?;
            client = stated.unwrap_or(peer);
        }
        if proxies.forwards_for(client.ip())
            && sniff(&mut self.stream, &mut self.received).await? == Some(Protocol::Http)
        {
            let head = http::read_head(&mut self.stream, &mut self.received).await?;
            let ip = proxies.client(client.ip(), &http::forwarded_for(&head));
            client.set_ip(ip);
            self.request = Some(http::parse(&head));
        }
        Ok(client)
    }

    /// Detects the protocol and returns the carrier of frames over the stream.
    pub(super) async fn open(
        mut self,
        readers: &Readers,
    ) -> Result<(TcpReader, TcpWriter), AcceptError> {
        self.stream.set_nodelay(true)?;
        let request = match self.request.take() {
            Some(request) => request,
            None => match sniff(&mut self.stream, &mut self.received).await? {
                Some(Protocol::Http) => {
                    let head = http::read_head(&mut self.stream, &mut self.received).await?;
                    http::parse(&head)
                }
                Some(Protocol::Frames) => {
                    let (reader, writer) = raw::split(self.stream, self.received, readers);
                    let (reader, writer) = (Reader::Raw(reader), Writer::Raw(writer));
                    return Ok((TcpReader(reader), TcpWriter(writer)));
                }
                Some(Protocol::Tls) => return Err(AcceptError::TlsNotConfigured),
                Some(Protocol::Proxy) => return Err(AcceptError::ProxyNotTrusted),
                None => return Err(AcceptError::UnknownProtocol),
            },
        };
        http::answer(&mut self.stream, request).await?;
        let (reader, writer) = websocket::split(self.stream, self.received, readers);
        let (reader, writer) = (
            Reader::WebSocket(Box::new(reader)),
            Writer::WebSocket(writer),
        );
        Ok((TcpReader(reader), TcpWriter(writer)))
    }
}
