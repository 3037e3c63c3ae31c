//! The native node of the browser benchmark, and the server of its page.
//!
//! `browser --page FOLDER [--rounds N] [--soak MESSAGES]`: prints the address of the page, waits for a
//! browser to open it, and prints what the page has measured. `cargo xtask bench --browser` builds
//! the page and starts both.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use gossip_benches::exercise::{Talk, serve};
use gossip_benches::options::pairs;
use gossip_benches::peers::{OurSocket, network};
use gossip_benches::report::{Samples, Unit, write_json};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_websockets::{Message, ServerBuilder, WebSocketStream};

/// Duration of one exercise, in milliseconds.
const EXERCISE_MS: u32 = 500;
const PINGS: u32 = 400;
/// A page that has reported nothing for this long has failed.
const PATIENCE: Duration = Duration::from_secs(600);
const SOAK_STEPS: u32 = 10;
/// The page's name for the peer that the others are compared with.
const BASE: &str = "raw JavaScript WebSocket, waits by timers";

#[derive(Deserialize, Serialize)]
struct Report {
    samples: Vec<Sample>,
    soak: Vec<Soak>,
    browser: String,
}

#[derive(Deserialize, Serialize)]
struct Sample {
    column: String,
    peer: String,
    value: f64,
}

/// Memory after a number of messages, in bytes.
#[derive(Deserialize, Serialize)]
struct Soak {
    messages: u64,
    wasm: f64,
    heap: f64,
}

struct Options {
    page: PathBuf,
    rounds: u32,
    soak: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = options()?;
    let socket = network::<Bytes>().open("127.0.0.1:0".parse()?).await?;
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let secret = socket_secret();
    let plan = json!({
        "node": socket.local_addr().to_string(),
        "secret": secret,
        "raw": format!("ws://{}/", plain.local_addr()?),
        "rounds": options.rounds,
        "millis": EXERCISE_MS,
        "pings": PINGS,
        "soak": { "messages": options.soak / u64::from(SOAK_STEPS), "steps": SOAK_STEPS },
    });
    tokio::spawn(serve(Ours {
        socket: Arc::new(socket),
        page: None,
    }));
    tokio::spawn(serve_plain(plain));

    let (reports, mut reported) = mpsc::channel(1);
    let http = TcpListener::bind("127.0.0.1:0").await?;
    println!("page http://{}/", http.local_addr()?);
    let router = router(options.page, plan.to_string(), reports);
    tokio::spawn(async move { axum::serve(http, router).await });
    let report = tokio::time::timeout(PATIENCE, reported.recv()).await;
    let report = report
        .context("the page reports nothing")?
        .context("no report")?;
    print(&report.map_err(|failure| anyhow::anyhow!("the page failed: {failure}"))?)
}

type Reports = mpsc::Sender<Result<Report, String>>;

fn router(page: PathBuf, plan: String, reports: Reports) -> Router {
    let failures = reports.clone();
    Router::new()
        .route("/plan.json", get(move || async move { plan }))
        .route(
            "/results",
            post(move |body: String| async move {
                let report = serde_json::from_str(&body).map_err(|error| error.to_string());
                let _ = reports.send(report).await;
            }),
        )
        .route(
            "/failed",
            post(move |body: String| async move {
                let _ = failures.send(Err(body)).await;
            }),
        )
        .route(
            "/",
            get({
                let page = page.clone();
                move || file(page, "index.html".to_owned())
            }),
        )
        .route(
            "/{*path}",
            get(move |Path(path): Path<String>| file(page, path)),
        )
}

/// Serves a file of the page. With these headers the browser's clock is exact to 5 us instead of 100.
async fn file(page: PathBuf, path: String) -> impl IntoResponse {
    let kind = match path.rsplit('.').next() {
        Some("html") => "text/html",
        Some("js") => "text/javascript",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    };
    if path.split('/').any(|part| part == "..") {
        return Err(StatusCode::NOT_FOUND);
    }
    let bytes = tokio::fs::read(page.join(path)).await;
    let bytes = bytes.map_err(|_| StatusCode::NOT_FOUND)?;
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            header::HeaderName::from_static("cross-origin-embedder-policy"),
            "require-corp",
        ),
    ];
    Ok((headers, bytes))
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut ways = [Samples::default(), Samples::default(), Samples::default()];
    for sample in &report.samples {
        let index = ["up", "down"]
            .iter()
            .position(|way| sample.column.starts_with(way));
        if let Some(samples) = ways.get_mut(index.unwrap_or(2)) {
            let unit = match index {
                Some(_) => Unit::PerSecond,
                None => Unit::Micros,
            };
            samples.add(&sample.column, unit, &sample.peer, sample.value);
        }
    }
    println!("{}\n", report.browser);
    for samples in &ways {
        println!(
            "Ratio to the first row, median (least..most):\n\n{}\n",
            samples.ratios(BASE)
        );
    }
    if !report.soak.is_empty() {
        println!("Memory, KiB:\n\n| messages | wasm | JavaScript heap |\n|--:|--:|--:|");
        for Soak {
            messages,
            wasm,
            heap,
        } in &report.soak
        {
            println!(
                "| {messages} | {:.0} | {:.0} |",
                wasm / 1024.0,
                heap / 1024.0
            );
        }
        println!();
    }
    println!("wrote {}", write_json("browser", report)?.display());
    Ok(())
}

/// The page on a socket of this crate. Only one page connects.
struct Ours {
    socket: Arc<OurSocket>,
    page: Option<SocketAddr>,
}

impl Talk for Ours {
    async fn recv(&mut self) -> anyhow::Result<Option<Bytes>> {
        let (from, message) = self.socket.recv().await?;
        self.page = Some(from);
        Ok(Some(message))
    }

    async fn send(&mut self, message: Bytes) -> anyhow::Result<()> {
        let page = self.page.context("no page has sent anything")?;
        Ok(self.socket.send(page, message).await?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

async fn serve_plain(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (_, stream) = ServerBuilder::new().accept(stream).await?;
        tokio::spawn(serve(Plain(stream)));
    }
}

/// The page on a plain WebSocket.
struct Plain(WebSocketStream<TcpStream>);

impl Talk for Plain {
    async fn recv(&mut self) -> anyhow::Result<Option<Bytes>> {
        match self.0.next().await {
            Some(Ok(message)) => Ok(Some(message.into_payload().into())),
            Some(Err(error)) => Err(error.into()),
            None => Ok(None),
        }
    }

    async fn send(&mut self, message: Bytes) -> anyhow::Result<()> {
        Ok(self.0.feed(Message::binary(message)).await?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.0.flush().await?)
    }
}

fn socket_secret() -> String {
    gossip_benches::peers::secret().to_text()
}

fn options() -> anyhow::Result<Options> {
    let mut page = None;
    let (mut rounds, mut soak) = (5, 0);
    for pair in pairs(std::env::args().skip(1)) {
        let (name, value) = pair?;
        match name.as_str() {
            "--page" => page = Some(value.into()),
            "--rounds" => rounds = value.parse()?,
            "--soak" => soak = value.parse()?,
            _ => anyhow::bail!("{name}: unknown"),
        }
    }
    Ok(Options {
        page: page.context("--page FOLDER")?,
        rounds,
        soak,
    })
}
