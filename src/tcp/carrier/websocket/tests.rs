//! A server for Autobahn's test suite: see `tests/AUTOBAHN.md`.

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::tcp::http;

/// Sends every message back. Messages have at most 65,535 bytes; text is taken for binary, without a
/// check of its encoding.
async fn echo(mut stream: TcpStream, text: bool) -> io::Result<()> {
    let mut start = BytesMut::new();
    let head = http::read_head(&mut stream, &mut start).await;
    let request = http::parse(&head.map_err(io::Error::other)?);
    let answered = http::answer(&mut stream, request).await;
    answered.map_err(io::Error::other)?;
    let (mut reader, mut writer) = split(stream, start, &Acks::default());
    if text {
        reader.accept_text();
    }
    while let Some(event) = reader.read_frame().await? {
        if let FrameEvent::Frame(frame) = event {
            let opcode = if reader.decoder.was_text {
                Opcode::Text
            } else {
                Opcode::Binary
            };
            writer.out.lock().push(opcode, frame.freeze());
            writer.write_frames(&mut FrameBuffer::default()).await?;
        }
    }
    Ok(())
}

#[tokio::test]
#[ignore = "serves until it is killed"]
async fn an_echo_server_for_autobahn() {
    let addr = std::env::var("ECHO_ADDR").unwrap();
    let text = std::env::var("ECHO_TEXT").is_ok();
    let listener = TcpListener::bind(addr).await.unwrap();
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        connections.spawn(echo(stream, text));
    }
}
