//! Servers of a user with gossip in them: a tab and a native member join through each.

#[path = "../../../examples/embed_axum.rs"]
#[expect(dead_code, reason = "`main` is not run")]
mod embed_axum;
#[path = "../../../examples/embed_hyper.rs"]
#[expect(dead_code, reason = "`main` is not run")]
mod embed_hyper;

use std::net::SocketAddr;

use gossip_transport::credential::Invite;
use gossip_transport::gossip::{DialPolicy, GossipConfig, Participant};
use gossip_transport::net::NetTransport;
use gossip_transport::rt::Task;
use gossip_transport::tcp::{AcceptedStreams, TcpTransport};
use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};
use tokio::net::TcpListener;

use crate::examples::member;
use crate::networks::tcp_listener::client::{connect, read_to_end};
use crate::support::tab::nowhere;
use crate::support::web_tab::WebTab;
use crate::support::{ANY_PORT, soon, until};

/// Joins as a tab does, with `seed` as the address of the server.
async fn tab(invite: Invite, network: WebTab, seed: SocketAddr) -> Participant<WebTab> {
    let credential = NetCredential::generate(Trust::invite(invite));
    let socket = TransportLayerTransport::new(network, credential);
    let socket = socket.open(nowhere()).await.unwrap();
    let config = GossipConfig::new("example", "tab").with_seeds(vec![seed.to_string()]);
    let tab = Participant::join(socket, config.with_dial(DialPolicy::SeedsOnly));
    let tab = tab.await.unwrap();
    tab.set("mood", "sunny").unwrap();
    tab
}

/// Waits until `member` has this value of another one.
async fn knows<T: NetTransport>(member: &Participant<T>, name: &str, key: &str, value: &str) {
    until("a key of another member", async || {
        let members = member.members();
        let other = members.iter().find(|other| other.id.node_id == name);
        let known = other.and_then(|other| other.key_values.get(key));
        known.is_some_and(|known| known.value == value)
    })
    .await;
}

/// Lets a native member join at `seed`, and checks that it and the tab see each other and the server's own member.
async fn check(
    secret: &ClusterSecret,
    server: &Participant<TcpTransport>,
    tab: &Participant<WebTab>,
    seed: SocketAddr,
) {
    let native = member::join(secret, "native", ANY_PORT, vec![seed.to_string()]);
    let native = native.await.unwrap();
    server.set("role", "server").unwrap();
    soon(tab.connected()).await.unwrap();
    soon(native.connected()).await.unwrap();
    knows(tab, "native", "greeting", "hello from native").await;
    knows(&native, "tab", "mood", "sunny").await;
    knows(tab, "server", "role", "server").await;
    knows(&native, "server", "role", "server").await;
    // What the member learns later comes, too.
    tab.set("mood", "cloudy").unwrap();
    knows(&native, "tab", "mood", "cloudy").await;
    native.set("greeting", "still here").unwrap();
    knows(tab, "native", "greeting", "still here").await;
}

async fn get(addr: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut stream = connect(addr, request.as_bytes()).await;
    String::from_utf8(read_to_end(&mut stream).await).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tab_joins_through_the_axum_example_with_the_cookie_of_its_page() {
    let secret = ClusterSecret::generate();
    let streams = AcceptedStreams::new();
    let server = embed_axum::join(&secret, ANY_PORT, streams.clone());
    let server = server.await.unwrap();
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let web = listener.local_addr().unwrap();
    let app = embed_axum::app(streams).into_make_service_with_connect_info::<SocketAddr>();
    let serving = Task::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let page = get(web, "/").await.to_ascii_lowercase();
    assert!(page.contains("set-cookie: visitor=1"), "{page}");
    // The middleware comes first, and the extractor says what is wrong otherwise.
    let stranger = get(web, "/gossip").await;
    assert!(stranger.starts_with("HTTP/1.1 401 "), "{stranger}");
    let (path, cookie) = ("/gossip", Some("other=2; visitor=1"));
    let own_port = server.id().gossip_advertise_addr;
    let invite = embed_axum::invite(&secret).unwrap();
    let tab = tab(invite, WebTab { path, cookie }, web).await;
    check(&secret, &server, &tab, own_port).await;
    drop(serving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tab_and_a_native_member_join_through_the_one_port_of_the_hyper_example() {
    let secret = ClusterSecret::generate();
    let streams = AcceptedStreams::new();
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let web = listener.local_addr().unwrap();
    let server = embed_hyper::join(&secret, web, streams.clone());
    let server = server.await.unwrap();
    let serving = Task::spawn(async move { embed_hyper::serve(listener, streams).await.unwrap() });

    let page = get(web, "/").await;
    assert!(page.ends_with("A page whose tabs may join.\n"), "{page}");
    let refused = get(web, "/gossip").await;
    assert!(refused.starts_with("HTTP/1.1 426 "), "{refused}");
    let (path, cookie) = ("/gossip", None);
    let invite = embed_hyper::invite(&secret).unwrap();
    let tab = tab(invite, WebTab { path, cookie }, web).await;
    check(&secret, &server, &tab, web).await;
    drop(serving);
}
