//! Invites of pages: two pages with one name, and invites that end while a page is a member. They are renewed by the
//! page's callback, or the page is a member no more.
//!
//! The native nodes are those of `cargo xtask test`.

#![cfg(target_family = "wasm")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use gossip_transport::ClusterSecret;
use gossip_transport::credential::{Claims, Invite, InviteId};
use gossip_transport::rt;
use gossip_web::GossipNode;
use js_sys::Reflect;
use support::{join, js, liveness, options, soon, text};
use wasm_bindgen::JsValue;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

/// The lifetime of the first invite of a page: long enough to join.
const SHORT: Duration = Duration::from_secs(5);
const HOUR: Duration = Duration::from_secs(3600);

/// Sets the page's clock back by as much as members allow for, so that they end an invite when it expires here, and
/// not two minutes later. Collects what the page prints as errors.
struct Page;

impl Page {
    fn open() -> Self {
        js(&format!(
            "globalThis.kept = [Date.now, console.error];
            globalThis.errors = [];
            Date.now = () => kept[0].call(Date) - {};
            console.error = (error) => errors.push(String(error));",
            InviteId::CLOCK_SKEW.as_millis()
        ));
        Self
    }

    fn errors() -> Vec<String> {
        let errors: js_sys::Array = js("return errors").into();
        errors.iter().map(|it| it.as_string().unwrap()).collect()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        js("[Date.now, console.error] = kept");
    }
}

/// Returns the word of an invite to the cluster of the native node that expires after `lifetime`.
async fn word(lifetime: Duration) -> String {
    let of_cluster = options("").await;
    let secret: ClusterSecret = text(&of_cluster, "secret").parse().unwrap();
    let claims = Claims::new(InviteId::generate(rt::unix_time(), lifetime).unwrap());
    let invite = Invite::issue(&secret, claims, text(&of_cluster, "cluster"), Vec::new());
    invite.unwrap().to_text().to_string()
}

/// Joins with a short invite and this callback, and waits until `observer` finds the page live.
async fn join_with(renew: &str, observer: &GossipNode) -> GossipNode {
    let word = word(SHORT).await;
    let change =
        format!("delete options.secret; options.invite = '{word}'; options.renewInvite = {renew}");
    let node = join(&change).await;
    soon(node.connected(&JsValue::UNDEFINED)).await.unwrap();
    until(|| liveness(observer, &node.id()) == "live").await;
    node
}

async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            rt::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Returns the only seed of `node`.
fn seed(node: &GossipNode) -> JsValue {
    let seeds: JsValue = node.seeds().map_err(JsValue::from).unwrap().into();
    Reflect::get(&seeds, &0.into()).unwrap()
}

#[wasm_bindgen_test]
async fn a_page_whose_callback_renews_its_invite_stays_and_one_whose_callback_throws_has_to_go() {
    let _page = Page::open();
    let observer = join("").await;
    let longer = word(HOUR).await;
    let renews = format!("async () => {{ globalThis.asked = Date.now(); return '{longer}' }}");
    let stays = join_with(&renews, &observer).await;
    // Its invite expires no earlier than the one of the page that stays.
    let began = rt::unix_time();
    let throws = "() => { throw new Error('no invite today') }";
    let goes = join_with(throws, &observer).await;
    assert_eq!(Page::errors(), [""; 0]);

    until(|| !Page::errors().is_empty()).await;
    assert!(rt::unix_time() < began + SHORT, "it is asked in time");
    assert_eq!(liveness(&observer, &goes.id()), "live");
    let is_gone = || {
        assert_eq!(liveness(&observer, &stays.id()), "live");
        liveness(&observer, &goes.id()) == "left"
    };
    until(is_gone).await;
    assert!(rt::unix_time() >= began + SHORT - Duration::from_secs(1));
    let [thrown, reported] = &Page::errors()[..] else {
        panic!("{:?}", Page::errors());
    };
    assert_eq!(thrown, "Error: no invite today");
    assert_eq!(reported, "renewInvite: it has thrown");
    until(|| text(&seed(&goes), "error").contains("the invite has expired; use a new one")).await;
    assert_eq!(text(&seed(&goes), "code"), "expired");
    assert_eq!(text(&seed(&stays), "code"), "");

    // What it says arrives: the connection of the page that stays is open.
    assert!(js("return asked").as_f64().unwrap() > 0.0);
    assert_eq!(text(&seed(&stays), "state"), "connected");
    stays.set(&"still".into(), &"here".into()).unwrap();
    let has_it = || {
        let members = JsValue::from(observer.members().map_err(JsValue::from).unwrap());
        let members = js_sys::Array::from(&members);
        let mut of = members.iter().filter(|it| text(it, "id") == stays.id());
        of.any(|it| text(&Reflect::get(&it, &"keys".into()).unwrap(), "still") == "here")
    };
    until(has_it).await;
    for node in [stays, goes, observer] {
        node.leave().await.unwrap();
    }
}

#[wasm_bindgen_test]
async fn two_pages_of_one_name_are_two_members_that_supersede_nobody() {
    let observer = join("").await;
    let word = word(HOUR).await;
    let start = format!(
        "delete options.secret; options.invite = '{word}'; options.id = globalThis.same ??= `same-${{Math.random()}}`"
    );
    let pages = [join(&start).await, join(&start).await];
    assert_eq!(pages[0].id(), pages[1].id());
    let flag = |it: &JsValue, name: &str| Reflect::get(it, &name.into()).unwrap().is_truthy();
    let are_both_live = || {
        let members = JsValue::from(observer.members().map_err(JsValue::from).unwrap());
        let named = js_sys::Array::from(&members).into_iter();
        let named: Vec<_> = named.filter(|it| text(it, "id") == pages[0].id()).collect();
        assert!(named.iter().all(|it| !flag(it, "superseded")));
        named.len() == 2 && named.iter().all(|it| flag(it, "live"))
    };
    until(are_both_live).await;
    let [one, other] = pages;
    for node in [one, other, observer] {
        node.leave().await.unwrap();
    }
}
