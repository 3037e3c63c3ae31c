//! The page's callback that renews an invite.

use anyhow::Context as _;
use gossip_transport::credential::{Invite, Trust, renew_invites};
use gossip_transport::rt;
use js_sys::{Function, Promise};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;

use crate::console;

/// Calls `renew` whenever the invite of `trust` is to be renewed, until the task is dropped.
pub(crate) fn start(trust: Trust, renew: Function) -> rt::Task {
    rt::Task::spawn(async move {
        renew_invites(&trust, || async {
            let renewed = new_invite(&renew).await;
            if let Err(error) = &renewed {
                console::error(&format!("renewInvite: {error:#}").into());
            }
            renewed
        })
        .await;
    })
}

async fn new_invite(renew: &Function) -> anyhow::Result<Invite> {
    let word = async {
        let promise = Promise::resolve(&renew.call0(&JsValue::UNDEFINED)?);
        JsFuture::from(promise).await
    };
    let word = word.await.map_err(|thrown| {
        console::error(&thrown);
        anyhow::anyhow!("it has thrown")
    })?;
    let word = word.as_string().context("it has returned no string")?;
    Ok(word.parse()?)
}
