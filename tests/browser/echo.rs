//! A native peer of the browser tests that sends every message back to its sender.
//!
//! It prints one line of JSON, `{"addr": "127.0.0.1:PORT", "secret": "..."}`, and runs until its
//! standard input ends.

#[cfg(not(target_family = "wasm"))]
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    use bytes::Bytes;
    use gossip_transport::tcp::TcpTransport;
    use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};
    use tokio::io::AsyncReadExt as _;

    let secret = ClusterSecret::generate();
    let credential = NetCredential::generate(Trust::secret(secret.clone()));
    let transport = TransportLayerTransport::<_, Bytes>::new(TcpTransport::default(), credential);
    let socket = transport.open(([127, 0, 0, 1], 0).into()).await?;
    println!(
        "{}",
        serde_json::json!({ "addr": socket.local_addr(), "secret": secret.to_text() })
    );

    let echo = async {
        while let Ok((from, message)) = socket.recv().await {
            if socket.send(from, message).await.is_err() {
                break;
            }
        }
    };
    let input_ends = async {
        let mut input = tokio::io::stdin();
        let mut buffer = [0; 256];
        while input.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        () = echo => {}
        () = input_ends => {}
    }
    Ok(())
}

#[cfg(target_family = "wasm")]
fn main() {}
