//! The opening of an incoming stream: who the client is, and which carrier of frames it becomes.
//!
//! It sends nothing but answers to HTTP requests and TLS handshakes. Only the latter have a timeout of their own. Invariant: bytes that
//! were read and belong to the carrier are handed on to it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::accepted_streams::Contents;
use super::carrier::{Reader, Readers, TcpReader, TcpWriter, Writer, raw, websocket};
use super::error::AcceptError;
use super::http;
use super::proxy::{self, Proxies};
use super::sniff::{Protocol, sniff};
use super::stream::Stream;
use super::tls::{REFUSAL, TlsPolicy};

/// An incoming stream, of which a part may have been read already.
#[derive(Debug)]
pub(super) struct Opening {
    stream: Stream,
    received: BytesMut,
    /// The head of the request with which the stream has begun, once it has been read.
    head: Option<BytesMut>,
    contents: Contents,
    /// The trusted proxy whose requests state their client.
    via: Option<SocketAddr>,
}

/// What the opening of a stream depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpeningTerms<'a> {
    pub(super) tls: &'a TlsPolicy,
    pub(super) proxies: &'a Proxies,
    /// Whether HTTP requests that ask for no WebSocket are taken. They are refused otherwise.
    pub(super) takes_requests: bool,
    pub(super) readers: &'a Readers,
}

/// What an incoming stream has become.
#[derive(Debug)]
pub(super) enum Opened {
    /// A carrier of frames.
    Carrier(TcpReader, TcpWriter),
    /// A stream of HTTP requests that ask for no WebSocket yet.
    Requests(Requests),
}

/// A stream of HTTP requests.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "http"),
    expect(dead_code, reason = "without the feature, nothing takes them")
)]
pub(super) struct Requests {
    pub(super) stream: Stream,
    /// What has been read of it.
    pub(super) received: BytesMut,
    /// The trusted proxy whose requests state their client.
    pub(super) via: Option<SocketAddr>,
}

impl Opening {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream: stream.into(),
            received: BytesMut::new(),
            head: None,
            contents: Contents::Any,
            via: None,
        }
    }

    pub(super) fn pushed(stream: Stream, received: BytesMut, contents: Contents) -> Self {
        Self {
            stream,
            received,
            head: None,
            contents,
            via: None,
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
        self.via = proxies.forwards_for(client.ip()).then_some(client);
        if self.via.is_some()
            && sniff(&mut self.stream, &mut self.received).await? == Some(Protocol::Http)
        {
            let head = http::read_head(&mut self.stream, &mut self.received).await?;
            let ip = proxies.client(client.ip(), &http::forwarded_for(&head));
            client.set_ip(ip);
            self.head = Some(head);
        }
        Ok(client)
    }

    /// Detects the protocol and returns what the stream has become. Sets `client` to the client that a trusted proxy states
    /// inside of TLS.
    pub(super) async fn open(
        mut self,
        terms: OpeningTerms<'_>,
        client: &mut SocketAddr,
    ) -> Result<Opened, AcceptError> {
        let OpeningTerms {
            tls,
            proxies,
            takes_requests,
            readers,
        } = terms;
        if let Some(tcp) = self.stream.tcp() {
            tcp.set_nodelay(true)?;
        }
        if self.contents == Contents::WebSocket {
            return Ok(self.websocket(readers));
        }
        let mut protocol = self.protocol().await?;
        if protocol == Some(Protocol::Tls) {
            // Boxed because it is large: each handshake would hold the room for it otherwise.
            self = Box::pin(self.inside_tls(tls)).await?;
            // Inside there is the same as outside, except TLS.
            protocol = self.protocol().await?.filter(|p| *p != Protocol::Tls);
            if let Some(via) = self.via
                && protocol == Some(Protocol::Http)
            {
                let head = http::read_head(&mut self.stream, &mut self.received).await?;
                client.set_ip(proxies.client(via.ip(), &http::forwarded_for(&head)));
                self.head = Some(head);
            }
        } else if matches!(tls, TlsPolicy::Required(_))
            && matches!(protocol, Some(Protocol::Http | Protocol::Frames))
            // The server that has accepted it knows what was around it.
            && !matches!(self.stream, Stream::Any(_))
        {
            if protocol == Some(Protocol::Http) {
                http::refuse_plain(&mut self.stream).await?;
            }
            return Err(AcceptError::TlsRequired);
        }
        match protocol {
            Some(Protocol::Http) => self.request(takes_requests, readers).await,
            Some(Protocol::Frames) => {
                let (reader, writer) = raw::split(self.stream, self.received, readers);
                let (reader, writer) = (Reader::Raw(reader), Writer::Raw(writer));
                Ok(Opened::Carrier(TcpReader(reader), TcpWriter(writer)))
            }
            Some(Protocol::Proxy) => Err(AcceptError::ProxyNotTrusted),
            Some(Protocol::Tls) | None => Err(AcceptError::UnknownProtocol),
        }
    }

    async fn protocol(&mut self) -> Result<Option<Protocol>, AcceptError> {
        if self.head.is_some() {
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
                head: None,
                contents: Contents::Any,
                via: self.via,
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

    /// Answers a request for a WebSocket. Leaves any other unanswered if the caller takes these.
    async fn request(
        mut self,
        takes_requests: bool,
        readers: &Readers,
    ) -> Result<Opened, AcceptError> {
        let head = match self.head.take() {
            Some(head) => head,
            None => http::read_head(&mut self.stream, &mut self.received).await?,
        };
        if takes_requests && http::is_plain(&head) {
            let mut received = head;
            received.unsplit(self.received);
            return Ok(Opened::Requests(Requests {
                stream: self.stream,
                received,
                via: self.via,
            }));
        }
        http::answer(&mut self.stream, http::parse(&head)).await?;
        Ok(self.websocket(readers))
    }

    fn websocket(self, readers: &Readers) -> Opened {
        let (reader, writer) = websocket::split(self.stream, self.received, readers);
        let (reader, writer) = (
            Reader::WebSocket(Box::new(reader)),
            Writer::WebSocket(writer),
        );
        Opened::Carrier(TcpReader(reader), TcpWriter(writer))
    }
}
