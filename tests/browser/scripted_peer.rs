//! A native peer of the browser tests that obeys commands, misbehaviour included.
//!
//! It prints one line of JSON and runs until its standard input ends. The fields of that line:
//!
//! - `secure`, `secret`: the address of a secure listener and the secret that it accepts. It echoes
//!   messages, except for commands: `drop` (disconnect without a goodbye), `close N` (goodbye with
//!   code N), `stall` (read nothing more).
//! - `raw`: the address of a WebSocket server without a secure channel. The path of a request is its
//!   command; `script` lists them.
//! - `silent`: the address of a port that accepts connections and sends nothing.

#[cfg(not(target_family = "wasm"))]
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    peer::run().await
}

#[cfg(target_family = "wasm")]
fn main() {}

#[cfg(not(target_family = "wasm"))]
mod peer {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use futures::{SinkExt as _, StreamExt as _};
    use gossip_transport::message::Message as _;
    use gossip_transport::net::{
        CloseCode, NetConnection as _, NetIncomingRequest as _, NetListener as _, NetTransport as _,
    };
    use gossip_transport::rt::Task;
    use gossip_transport::tcp::{TcpConnection, TcpTransport};
    use gossip_transport::{ClusterSecret, NetCredential, Trust};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Notify;
    use tokio_websockets::{CloseCode as WsCloseCode, Message, ServerBuilder, WebSocketStream};

    pub(crate) async fn run() -> anyhow::Result<()> {
        let secret = ClusterSecret::generate();
        let credential = NetCredential::generate(Trust::secret(secret.clone()));
        let any_port = ([127, 0, 0, 1], 0).into();
        let secure = TcpTransport::default()
            .create_listener(any_port, &[Bytes::ALPN], &credential)
            .await?;
        let raw = TcpListener::bind(any_port).await?;
        let silent = TcpListener::bind(any_port).await?;
        println!(
            "{}",
            serde_json::json!({
                "secure": secure.local_addr(),
                "secret": secret.to_text(),
                "raw": raw.local_addr()?,
                "silent": silent.local_addr()?,
            })
        );

        let secure = async {
            let mut tasks = Vec::new();
            while let Ok(request) = secure.accept().await {
                tasks.retain(|task: &Task| !task.is_finished());
                tasks.push(Task::spawn(async {
                    if let Ok(connection) = request.accept().await {
                        let _ = obey(connection).await;
                    }
                }));
            }
        };
        let raw = async {
            let codes = Arc::new(Codes::default());
            let mut tasks = Vec::new();
            while let Ok((stream, _)) = raw.accept().await {
                tasks.retain(|task: &Task| !task.is_finished());
                let codes = Arc::clone(&codes);
                tasks.push(Task::spawn(async move {
                    let _ = script(stream, &codes).await;
                }));
            }
        };
        let silent = async {
            let mut held = Vec::new();
            while let Ok((stream, _)) = silent.accept().await {
                held.push(stream);
            }
        };
        let input_ends = async {
            let mut input = tokio::io::stdin();
            let mut buffer = [0; 256];
            while input.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        };
        tokio::select! {
            () = secure => {}
            () = raw => {}
            () = silent => {}
            () = input_ends => {}
        }
        Ok(())
    }

    async fn obey(connection: TcpConnection) -> anyhow::Result<()> {
        while let Some(message) = connection.recv().await? {
            let words = std::str::from_utf8(&message).unwrap_or_default();
            if words == "drop" {
                return Ok(());
            } else if words == "stall" {
                std::future::pending::<()>().await;
            } else if let Some(Ok(code)) = words.strip_prefix("close ").map(str::parse) {
                connection.close(CloseCode(code)).await;
                return Ok(());
            }
            connection.send(message).await?;
        }
        Ok(())
    }

    /// The codes with which the browser closed WebSockets, by name.
    #[derive(Default)]
    struct Codes {
        known: Mutex<HashMap<String, u16>>,
        changed: Notify,
    }

    impl Codes {
        fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, u16>> {
            self.known
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        async fn wait_for(&self, name: &str) -> u16 {
            loop {
                let changed = self.changed.notified();
                if let Some(code) = self.lock().get(name) {
                    return *code;
                }
                changed.await;
            }
        }
    }

    /// Obeys the path of a request:
    ///
    /// - `/echo/NAME`: echoes, and stores the code with which the browser closes under NAME.
    /// - `/code/NAME`: waits for the code stored under NAME and sends it in decimal digits.
    /// - `/close/CODE`, `/abort`, `/text`, `/long`: waits for a message; then closes with the code,
    ///   drops the connection, sends a text, or sends a message that is too long for a frame.
    /// - `/flood/FRAMES`: sends this number of frames of 32 KiB, then waits for the end.
    /// - `/stall`: reads nothing.
    async fn script(stream: TcpStream, codes: &Codes) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let (request, mut socket) = ServerBuilder::new().accept(stream).await?;
        let path = request.uri().path().to_owned();
        let (what, argument) = path
            .trim_start_matches('/')
            .split_once('/')
            .unwrap_or((path.trim_start_matches('/'), ""));
        match what {
            "echo" => {
                let code = echo(&mut socket).await;
                codes.lock().insert(argument.to_owned(), code);
                codes.changed.notify_waiters();
            }
            "code" => {
                let code = codes.wait_for(argument).await;
                socket.send(Message::binary(code.to_string())).await?;
                socket.close().await?;
            }
            "close" => {
                socket.next().await;
                let code = WsCloseCode::try_from(argument.parse::<u16>()?)?;
                socket
                    .send(Message::close(Some(code), "as you wish"))
                    .await?;
                socket.close().await?;
            }
            "abort" => {
                socket.next().await;
            }
            "text" => {
                socket.next().await;
                socket.send(Message::text("hello".to_owned())).await?;
                socket.next().await;
            }
            "long" => {
                socket.next().await;
                socket.send(Message::binary(vec![0; 65_536])).await?;
                socket.next().await;
            }
            "flood" => {
                for _ in 0..argument.parse::<usize>()? {
                    socket.send(Message::binary(vec![7; 32 << 10])).await?;
                }
                socket.next().await;
            }
            _ => std::future::pending().await,
        }
        Ok(())
    }

    /// Echoes until the browser closes. Returns its code, or 1006 if it disconnects without one.
    async fn echo(socket: &mut WebSocketStream<TcpStream>) -> u16 {
        while let Some(Ok(message)) = socket.next().await {
            if let Some((code, _)) = message.as_close() {
                return code.into();
            }
            if message.is_binary() && socket.send(message).await.is_err() {
                break;
            }
        }
        1006
    }
}
