//! The opening of an incoming stream: who the client is, and which carrier of frames it becomes.
//!
//! It sends nothing but answers to HTTP requests and TLS handshakes. Only the latter have a timeout of their own. Invariant: bytes that
//! were read and belong to the carrier are handed on to it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::carrier::{Reader, Readers, TcpReader, TcpWriter, Writer, raw, websocket};
use super::error::AcceptError;
use super::http::{self, Request};
use super::proxy::{self, Proxies};
use super::sniff::{Protocol, sniff};
use super::stream::Stream;
use super::tls::{REFUSAL, TlsPolicy};

/// An incoming stream, of which a part may have been read already.
#[derive(Debug)]
pub(super) struct Opening {
    stream: Stream,
    received: BytesMut,
    /// The request with which the stream has begun, once it has been read.
    request: Option<Request>,
}

impl Opening {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream: stream.into(),
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
        tls: &TlsPolicy,
        readers: &Readers,
    ) -> Result<(TcpReader, TcpWriter), AcceptError> {
        self.stream.tcp().set_nodelay(true)?;
        let mut protocol = self.protocol().await?;
        if protocol == Some(Protocol::Tls) {
            // Boxed because it is large: each handshake would hold the room for it otherwise.
            self = Box::pin(self.inside_tls(tls)).await?;
            // Inside there is the same as outside, except TLS.
            protocol = self.protocol().await?.filter(|p| *p != Protocol::Tls);
        } else if matches!(tls, TlsPolicy::Required(_))
            && matches!(protocol, Some(Protocol::Http | Protocol::Frames))
        {
            if protocol == Some(Protocol::Http) {
                http::refuse_plain(&mut self.stream).await?;
            }
            return Err(AcceptError::TlsRequired);
        }
        match protocol {
            Some(Protocol::Http) => self.upgrade(readers).await,
            Some(Protocol::Frames) => {
                let (reader, writer) = raw::split(self.stream, self.received, readers);
                let (reader, writer) = (Reader::Raw(reader), Writer::Raw(writer));
                Ok((TcpReader(reader), TcpWriter(writer)))
            }
            Some(Protocol::Proxy) => Err(AcceptError::ProxyNotTrusted),
            Some(Protocol::Tls) | None => Err(AcceptError::UnknownProtocol),
        }
    }

    async fn protocol(&mut self) -> Result<Option<Protocol>, AcceptError> {
        if self.request.is_some() {
            return Ok(Some(Protocol::Http));
        }
        Ok(sniff(&mut self.stream, &mut self.received).await?)
    }

    /// Accepts TLS, and returns the stream inside.
    async fn inside_tls(mut self, tls: &TlsPolicy) -> Result<Self, AcceptError> {
        let Stream::Plain(stream) = self.stream else {
            return Err(AcceptError::UnknownProtocol);
        };
        let Some(acceptor) = tls.acceptor() else {
            self.stream = Stream::Plain(stream);
            self.stream.write_all(&REFUSAL).await?;
            self.stream.part().await?;
            return Err(AcceptError::TlsNotConfigured);
        };
        match acceptor.accept(stream, self.received).await {
            Ok(stream) => Ok(Self {
                stream: Stream::Tls(Arc::new(stream)),
                received: BytesMut::new(),
                request: None,
            }),
            Err((stream, error)) => {
                if let Some(stream) = stream {
                    // The error is more interesting than that the peer did not wait for it.
                    let _ = Stream::Plain(stream).part().await;
                }
                Err(error.into())
            }
        }
    }

    /// Answers a request for a WebSocket.
    async fn upgrade(mut self, readers: &Readers) -> Result<(TcpReader, TcpWriter), AcceptError> {
        let request = match self.request.take() {
            Some(request) => request,
            None => {
                let head = http::read_head(&mut self.stream, &mut self.received).await?;
                http::parse(&head)
            }
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
