//! A client for servers on this machine: the nodes' status, and the browser's driver.

use std::time::Duration;

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A driver that starts a browser on a busy machine takes a while; nothing else does.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An answer of any status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// The body, if the server says that all is well.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        self.check()?;
        serde_json::from_str(&self.body).context("an answer is not as expected")
    }

    /// An error unless the server says that all is well.
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

/// Keeps connections open between requests.
#[derive(Debug, Clone)]
pub(crate) struct Client(ureq::Agent);

impl Client {
    pub(crate) fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            // What the server says about an error is worth more than its number.
            .http_status_as_error(false)
            // A proxy cannot reach our loopback.
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
        body: body.with_context(|| format!("half an answer from {url}"))?,
    })
}
