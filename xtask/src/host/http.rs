//! An HTTP client for servers on this machine: the nodes' status and the browser's driver.

use std::time::Duration;

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Limit of one request. Starting a browser on a busy machine takes this long; nothing else does.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A response with any status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// Parses the body as JSON. Fails if the status is not 2xx.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        self.check()?;
        serde_json::from_str(&self.body).context("unexpected JSON in an answer")
    }

    /// Fails if the status is not 2xx.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            (200..300).contains(&self.status),
            "HTTP {}: {}",
            self.status,
            self.body.trim()
        );
        Ok(())
    }
}

/// A client that keeps its connections open between requests.
#[derive(Debug, Clone)]
pub(crate) struct Client(ureq::Agent);

impl Client {
    pub(crate) fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            // The body of an error response explains more than its status.
            .http_status_as_error(false)
            // A proxy cannot reach this machine's loopback interface.
            .proxy(None)
            .build();
        Self(config.into())
    }

    pub(crate) fn get(&self, url: &str) -> anyhow::Result<Answer> {
        answer(url, self.0.get(url).call())
    }

    pub(crate) fn delete(&self, url: &str) -> anyhow::Result<Answer> {
        answer(url, self.0.delete(url).call())
    }

    pub(crate) fn post(&self, url: &str, body: &str) -> anyhow::Result<Answer> {
        answer(url, self.0.post(url).send(body))
    }

    pub(crate) fn post_json(&self, url: &str, body: &Value) -> anyhow::Result<Answer> {
        let request = self.0.post(url).content_type("application/json");
        answer(url, request.send(body.to_string()))
    }
}

fn answer(
    url: &str,
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> anyhow::Result<Answer> {
    let mut response = response.with_context(|| format!("no answer from {url}"))?;
    let body = response.body_mut().read_to_string();
    Ok(Answer {
        status: response.status().as_u16(),
        body: body.with_context(|| format!("incomplete answer from {url}"))?,
    })
}
