//! The HTTP server: its routes, and which requests it refuses. It only shows things.
//!
//! The responses themselves are made in [`crate::status`], [`crate::metrics`] and
//! [`crate::page_config`]; connections are the library's. Invariant: no request changes anything, and what members have
//! set is shown only to requests for a host that is this one (`--http`), or that know the token (the gossip port), except for
//! their public URLs.
//!
//! | file | contents |
//! |---|---|
//! | `app` | what the routes show |
//! | `bodies` | the bodies of long responses, and what they take in memory together |
//! | `web_root` | the files of `--web-root` |
//! | `kept` | a value that is made at most once in a second |
//! | `hosts` | the hosts for which requests may read the members |
//! | `token` | the token with which requests may read the members on the gossip port |
//! | `visitors` | the invites of pages that are opened without one |

mod app;
mod bodies;
mod hosts;
mod kept;
mod token;
mod visitors;
mod web_root;

use std::path::Path;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use gossip_transport::http_service::HttpService;
use gossip_transport::rt::Task;
use tokio::net::TcpListener;

use crate::headers::HEADERS;
use crate::node::Node;
use app::App;
pub(crate) use hosts::HostName;
use hosts::Hosts;
pub(crate) use token::Token;
pub(crate) use visitors::Visitors;

/// The server before the node is a member.
pub(crate) struct Server {
    app: App,
    /// What `--http` shows.
    own: HttpService,
}

/// What is shown besides the members and counters.
#[derive(Debug, Default)]
pub(crate) struct Settings<'a> {
    /// The names under which `--http` is known besides its address.
    pub(crate) names: Vec<HostName>,
    /// The directory of the page.
    pub(crate) web_root: Option<&'a Path>,
    /// The most connections of `--http`, and of the gossip port.
    pub(crate) max_connections: [usize; 2],
}

/// What the gossip port shows.
#[derive(Debug, Default)]
pub(crate) struct GossipPort {
    /// The token for `/status` and `/metrics`, which nobody reads without one.
    pub(crate) token: Option<Token>,
    /// Whether pages without an invite get one.
    pub(crate) visitors: Option<Visitors>,
    /// The names of the node, besides all IP addresses, for such pages that are not loaded over TLS of this node.
    pub(crate) hosts: Vec<HostName>,
}

/// A server that answers requests until it is dropped.
pub(crate) struct Running {
    _accepting: Option<Task>,
    _own: HttpService,
}

impl Server {
    pub(crate) fn new(settings: &Settings<'_>) -> Self {
        let app = App::default();
        let hosts = Hosts::new(settings.names.clone());
        let members = members().route_layer(from_fn_with_state(hosts, hosts::only_these));
        let router = routes(app.clone(), members, settings.web_root);
        let [max, _] = settings.max_connections;
        let own = HttpService::new(router).with_max_connections(max);
        Self { app, own }
    }

    /// Returns what answers the requests of the gossip port. It has a limit of its own, since strangers may use it.
    pub(crate) fn for_gossip_port(&self, port: GossipPort, settings: &Settings<'_>) -> HttpService {
        let members = members().route_layer(from_fn_with_state(port.token, token::only_with));
        let app = self
            .app
            .clone()
            .of_gossip_port(port.visitors, Hosts::new(port.hosts).with_any_ip());
        let router = routes(app, members, settings.web_root);
        let [_, max] = settings.max_connections;
        self.own.sharing_counts(router).with_max_connections(max)
    }

    /// Shows `node` from now on, also on `listener`.
    pub(crate) fn start(self, node: Node, listener: Option<TcpListener>) -> Running {
        self.app.start(node);
        Running {
            _accepting: listener.map(|listener| self.own.serve(listener)),
            _own: self.own,
        }
    }
}

/// Returns the routes that show what members have set.
fn members() -> Router<App> {
    Router::new()
        .route("/status", get(app::status))
        .route("/metrics", get(app::prometheus))
}

fn routes(app: App, members: Router<App>, web_root: Option<&Path>) -> Router {
    let router = Router::new()
        .route("/config.json", get(app::page_config))
        .route("/healthz", get(app::healthz))
        .route("/readyz", get(app::readyz))
        .merge(members)
        .with_state(app);
    let router = match web_root {
        Some(root) => router.fallback_service(web_root::serve(root)),
        None => router.route("/", get(app::no_page)),
    };
    router.layer(from_fn(with_headers))
}

async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use gossip_transport::gossip::{GossipConfig, Participant};
    use gossip_transport::tcp::TcpTransport;
    use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::any_network::AnyParticipant;
    use crate::tls_status::Tls;

    /// Returns the status code that a request for `path` gets.
    async fn code(server: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(server).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_node_that_has_left_says_so_at_once_though_answers_are_kept_for_a_second() {
        let trust = Trust::secret(ClusterSecret::generate());
        let credential = NetCredential::generate(trust.clone());
        let transport = TransportLayerTransport::new(TcpTransport::default(), credential);
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = transport.open(any_port).await.unwrap();
        let participant = Participant::join(socket, GossipConfig::new("cluster", "n"));
        let participant = AnyParticipant::Tcp(participant.await.unwrap());
        let interval = Duration::from_secs(1);
        let tls = Tls::new(None, None);
        let node = Node::new(participant, "key", "cluster", interval, trust, tls);

        let settings = Settings {
            max_connections: [8, 8],
            ..Settings::default()
        };
        let server = Server::new(&settings);
        let port = server.for_gossip_port(GossipPort::default(), &settings);
        let listener = TcpListener::bind(any_port).await.unwrap();
        let at = listener.local_addr().unwrap();
        let _serving = port.serve(listener);
        let paths = ["/healthz", "/readyz", "/config.json"];
        for path in paths {
            assert_eq!(code(at, path).await, "503", "{path} before it is a member");
        }
        let _running = server.start(node.clone(), None);
        for path in paths {
            assert_eq!(code(at, path).await, "200", "{path}");
        }
        node.leave(Duration::ZERO).await.unwrap();
        for path in paths {
            assert_eq!(code(at, path).await, "503", "{path}");
        }
    }
}
