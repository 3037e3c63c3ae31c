//! A client for the part of W3C WebDriver that the demo's check and the benchmark use.
//!
//! One [`Session`] is one browser with several windows. Commands go to the window that was last
//! switched to.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::host::http::{Answer, Client};

/// The JSON field that holds an element's id, fixed by the standard.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser under remote control. Dropping it closes the browser.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    url: String,
}

/// One window or tab of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window(String);

/// A message on the console of one of a session's pages, written by the page or by the browser.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ConsoleMessage {
    /// `SEVERE` for errors, `WARNING`, `INFO` and so on.
    pub(crate) level: String,
    pub(crate) message: String,
}

impl Session {
    /// Starts a browser through the driver at `driver`, a URL without a path.
    pub(crate) fn start(
        client: Client,
        driver: &str,
        capabilities: &Value,
    ) -> anyhow::Result<Self> {
        let body = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let answer = client.post_json(&format!("{driver}/session"), &body)?;
        let value = value(&answer).context("the browser does not start")?;
        let id = value
            .get("sessionId")
            .and_then(Value::as_str)
            .context("the driver's answer has no session id")?;
        Ok(Self {
            client,
            url: format!("{driver}/session/{id}"),
        })
    }

    /// Returns the window that commands go to.
    pub(crate) fn window(&self) -> anyhow::Result<Window> {
        let handle = self.get("window")?;
        Ok(Window(text(&handle)?))
    }

    /// Opens another tab. Commands still go to the current one.
    pub(crate) fn open_tab(&self) -> anyhow::Result<Window> {
        let opened = self.post("window/new", &json!({ "type": "tab" }))?;
        let handle = opened.get("handle").context("the new tab has no handle")?;
        Ok(Window(text(handle)?))
    }

    pub(crate) fn switch_to(&self, window: &Window) -> anyhow::Result<()> {
        self.post("window", &json!({ "handle": window.0 }))?;
        Ok(())
    }

    /// Closes the current window, as a user would. No window is current afterwards.
    pub(crate) fn close_window(&self) -> anyhow::Result<()> {
        let answer = self.client.delete(&format!("{}/window", self.url))?;
        value(&answer)?;
        Ok(())
    }

    pub(crate) fn navigate(&self, url: &str) -> anyhow::Result<()> {
        self.post("url", &json!({ "url": url }))?;
        Ok(())
    }

    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        self.post("refresh", &json!({}))?;
        Ok(())
    }

    /// Runs `script` as the body of a JavaScript function and returns its result.
    pub(crate) fn execute(&self, script: &str) -> anyhow::Result<Value> {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Clicks an element. Fails if another element covers it.
    pub(crate) fn click(&self, selector: &str) -> anyhow::Result<()> {
        let element = self.element(selector)?;
        self.post(&format!("element/{element}/click"), &json!({}))?;
        Ok(())
    }

    /// Types text into an input field.
    pub(crate) fn type_into(&self, selector: &str, text: &str) -> anyhow::Result<()> {
        let element = self.element(selector)?;
        self.post(
            &format!("element/{element}/value"),
            &json!({ "text": text }),
        )?;
        Ok(())
    }

    /// Runs a command of the Chrome DevTools protocol.
    pub(crate) fn devtools(&self, command: &str, params: &Value) -> anyhow::Result<Value> {
        self.post(
            "goog/cdp/execute",
            &json!({ "cmd": command, "params": params }),
        )
    }

    /// Returns the console messages of all windows since the last call. There are none unless the
    /// browser was started with [`Console::Recorded`](crate::browser::Console::Recorded).
    pub(crate) fn console(&self) -> anyhow::Result<Vec<ConsoleMessage>> {
        let messages = self.post("se/log", &json!({ "type": "browser" }))?;
        serde_json::from_value(messages).context("the console's messages have an unexpected form")
    }

    fn element(&self, selector: &str) -> anyhow::Result<String> {
        let body = json!({ "using": "css selector", "value": selector });
        let found = self.post("element", &body)?;
        let id = found.get(ELEMENT).context("the element has no id")?;
        text(id)
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.client.get(&format!("{}/{path}", self.url))?;
        value(&answer)
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self
            .client
            .post_json(&format!("{}/{path}", self.url), body)?;
        value(&answer)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.client.delete(&self.url);
    }
}

fn text(value: &Value) -> anyhow::Result<String> {
    let text = value
        .as_str()
        .context("the driver's answer is not a string")?;
    Ok(text.to_owned())
}

/// Returns the result of a command. Fails with the driver's message if the command failed.
fn value(answer: &Answer) -> anyhow::Result<Value> {
    let mut body: Value = serde_json::from_str(&answer.body)
        .with_context(|| format!("the driver answered HTTP {}", answer.status))?;
    let value = body
        .get_mut("value")
        .map(Value::take)
        .context("the driver's answer has no value")?;
    if let Some(error) = value.get("error").and_then(Value::as_str) {
        let message = value.get("message").and_then(Value::as_str);
        let message = message.unwrap_or_default().lines().next();
        anyhow::bail!("WebDriver: {error}: {}", message.unwrap_or_default());
    }
    Ok(value)
}
