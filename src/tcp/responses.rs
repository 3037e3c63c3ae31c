//! The responses to requests for WebSockets that hyper has parsed.

use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE,
};
use hyper::{Response, StatusCode};

use super::http::Refusal;

/// Returns the response to a request with this answer to its key.
pub(super) fn accepted<B: Default>(accept: &str) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    // It is base64.
    if let Ok(accept) = HeaderValue::from_str(accept) {
        fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// Returns the response to a request that is not an upgrade.
pub(super) fn refused<B: From<&'static str>>(refusal: Refusal) -> Response<B> {
    let mut response = Response::new(B::from(refusal.body));
    // It is one of few.
    let status = StatusCode::from_u16(refusal.status.0);
    *response.status_mut() = status.unwrap_or(StatusCode::BAD_REQUEST);
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    fields.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in refusal.fields {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            fields.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}
