//! A `tower` service of any type.

use std::future::poll_fn;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use tower_service::Service;

use crate::rt::BoxFuture;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type BoxBody = UnsyncBoxBody<Bytes, BoxError>;

/// Answers requests.
pub(super) trait Handler: Send + Sync {
    fn handle(
        &self,
        request: Request<Incoming>,
    ) -> BoxFuture<'static, Result<Response<BoxBody>, BoxError>>;
}

/// A handler that clones a `tower` service for each request.
pub(super) struct Cloned<S>(pub(super) S);

impl<S, B> Handler for Cloned<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn handle(
        &self,
        request: Request<Incoming>,
    ) -> BoxFuture<'static, Result<Response<BoxBody>, BoxError>> {
        let mut service = self.0.clone();
        Box::pin(async move {
            let ready = poll_fn(|cx| service.poll_ready(cx)).await;
            ready.map_err(Into::into)?;
            let response = service.call(request).await.map_err(Into::into)?;
            Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
        })
    }
}
