//! The requests to the authority, over HTTP/1.1 and TLS.
//!
//! There are some twenty for an order, so each has a connection of its own. It follows no redirects. Invariant: a request ends
//! within its limit, and an answer takes a bounded amount of memory.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::RequestError;
use super::schedule::MAX_RETRY_AFTER;
use crate::rt::sync::Mutex;
use crate::rt::{self, Task};
use crate::tcp::{TlsFileError, TlsRoots};

/// The longest answer, in bytes. A chain of certificates has a few kibibytes.
const MAX_ANSWER: usize = 1 << 20;
/// The type of the errors of ACME (RFC 7807). Others have no body that can be understood.
const PROBLEM: &str = "application/problem+json";

/// A client of the authority. Clones share what they remember.
#[derive(Clone)]
pub(super) struct Client {
    tls: TlsConnector,
    limit: Duration,
    retry_after: Arc<Mutex<Option<Duration>>>,
}

impl Client {
    /// Loads the authorities that are trusted. Each request may take `limit`.
    pub(super) async fn new(roots: TlsRoots, limit: Duration) -> Result<Self, RequestError> {
        let loading = tokio::task::spawn_blocking(move || roots.load());
        let loaded = loading.await.unwrap_or_else(|error| {
            Err(TlsFileError::NoSystemRoots {
                what: error.to_string(),
            })
        });
        let roots = loaded.map_err(|source| RequestError::Roots { source })?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| RequestError::Tls {
                host: String::new(),
                source: std::io::Error::other(error),
            })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            limit,
            retry_after: Arc::default(),
        })
    }

    /// Returns the time for which the last answer that was an error has asked to wait, if it has.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        *self.retry_after.lock()
    }

    async fn exchange(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, RequestError> {
        let (host, port) = place(request.uri())?;
        let bare = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let shown = format!("{host}:{port}");
        let stream = TcpStream::connect((&*bare, port)).await;
        let stream = stream.map_err(|source| RequestError::Connect {
            host: shown.clone(),
            source,
        })?;
        let url = || RequestError::Url {
            url: request.uri().to_string(),
        };
        let name = ServerName::try_from(bare).map_err(|_| url())?;
        let stream = self.tls.connect(name, stream).await;
        let stream = stream.map_err(|source| RequestError::Tls {
            host: shown.clone(),
            source,
        })?;
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| RequestError::Http {
            host: shown.clone(),
            source,
        };

        let authority = request.uri().authority().ok_or_else(url)?;
        let authority = HeaderValue::from_str(authority.as_str()).map_err(|_| url())?;
        let path = request.uri().path_and_query().cloned();
        request.headers_mut().insert(HOST, authority);
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        let is_post = request.method() == Method::POST;

        let opened = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = opened.map_err(|error| failed(error.into()))?;
        // Until the answer is complete.
        let _connection = Task::spawn(async { drop(connection.await) });
        let answer = sender.send_request(request).await;
        let (mut parts, body) = answer.map_err(|error| failed(error.into()))?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(failed)?.to_bytes();

        let is_error = parts.status.is_client_error() || parts.status.is_server_error();
        let wait = retry_after(&parts.headers, rt::unix_time());
        if let Some(wait) = wait {
            // instant-acme adds it to the present time, which may not overflow.
            parts.headers.insert(RETRY_AFTER, wait.as_secs().into());
        }
        if is_error {
            *self.retry_after.lock() = wait;
        }
        let content = parts.headers.get(CONTENT_TYPE);
        let is_problem =
            content.is_some_and(|content| content.as_bytes().starts_with(PROBLEM.as_bytes()));
        // instant-acme reads the problems of POST requests only.
        if is_error && !(is_post && is_problem) {
            return Err(RequestError::Status {
                host: shown,
                status: parts.status.as_u16(),
            });
        }
        Ok(BytesResponse {
            parts,
            body: Box::new(body),
        })
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            let answer = match rt::timeout(this.limit, this.exchange(request)).await {
                Ok(answer) => answer,
                Err(rt::Elapsed(after)) => Err(RequestError::Timeout { after }),
            };
            answer.map_err(|error| instant_acme::Error::Other(Box::new(error)))
        })
    }
}

/// Returns the host, with brackets if it is an IPv6 address, and the port of a URL.
fn place(url: &Uri) -> Result<(String, u16), RequestError> {
    match url.host() {
        Some(host) if url.scheme_str() == Some("https") => {
            Ok((host.to_owned(), url.port_u16().unwrap_or(443)))
        }
        _ => Err(RequestError::Url {
            url: url.to_string(),
        }),
    }
}

/// Returns the time for which the server asks to wait (RFC 9110, section 10.2.3), a week at most.
fn retry_after(headers: &HeaderMap, now: Duration) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let date = date
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .ok()?;
    Some(date.saturating_sub(now).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_wait_is_a_number_or_a_date() {
        let now = Duration::from_secs(1_700_000_000);
        for (value, expected) in [
            ("120", Some(120)),
            ("Tue, 14 Nov 2023 22:14:20 GMT", Some(60)),
            ("Tue, 14 Nov 2000 22:14:20 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(604_800)),
            ("18446744073709551615", Some(604_800)),
            ("18446744073709551616", None),
            ("-1", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            let found = retry_after(&headers, now);
            assert_eq!(found, expected.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn only_https_is_dialled() {
        let place = |url: &str| place(&url.parse().unwrap()).ok();
        assert_eq!(
            place("https://ca.example/dir"),
            Some(("ca.example".into(), 443))
        );
        assert_eq!(
            place("https://[::1]:14000/dir"),
            Some(("[::1]".into(), 14000))
        );
        assert_eq!(place("http://ca.example/dir"), None);
        assert_eq!(place("/dir"), None);
    }
}
