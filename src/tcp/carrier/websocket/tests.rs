//! Limits of a WebSocket's reader, and a server for Autobahn's test suite: see `tests/AUTOBAHN.md`.

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::tcp::http;

/// Sends every message back. Messages have at most 65,535 bytes; text is taken for binary, without a
/// check of its encoding.
async fn echo(stream: TcpStream, text: bool) -> io::Result<()> {
    let (mut stream, mut start) = (Stream::from(stream), BytesMut::new());
    let head = http::read_head(&mut stream, &mut start).await;
    let request = http::parse(&head.map_err(io::Error::other)?);
    let answered = http::answer(&mut stream, request).await;
    answered.map_err(io::Error::other)?;
    let (mut reader, mut writer) = split(stream, start, &Readers::default());
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

/// Returns the reader of a WebSocket, and the stream of its peer.
async fn websocket() -> (WebSocketReader, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (peer, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
    let (reader, _) = split(
        accepted.unwrap().0.into(),
        BytesMut::new(),
        &Readers::default(),
    );
    (reader, peer.unwrap())
}

/// Returns a frame with the first byte `first`. Its mask is zero.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).unwrap();
    [&[first, 0x80 | len, 0, 0, 0, 0], payload].concat()
}

#[tokio::test]
async fn pings_are_counted_from_the_last_message_on() {
    let pings = |count| frame(0x89, b"").repeat(count);
    let (mut reader, mut peer) = websocket().await;
    for message in [
        frame(0x82, b"whole"),
        // A fragment is no message, and neither is a pong.
        [frame(0x02, b"in "), frame(0x80, b"parts")].concat(),
        frame(0x82, b""),
    ] {
        let bytes = [pings(MAX_PINGS), message].concat();
        peer.write_all(&bytes).await.unwrap();
        for n in 0..MAX_PINGS {
            let event = reader.read_frame().await.unwrap();
            assert!(
                matches!(event, Some(FrameEvent::Activity)),
                "{n}: {event:?}"
            );
        }
        let event = reader.read_frame().await.unwrap();
        assert!(matches!(event, Some(FrameEvent::Frame(_))), "{event:?}");
    }
    for between in [frame(0x02, b"begins"), frame(0x8A, b"")] {
        let (mut reader, mut peer) = websocket().await;
        let bytes = [pings(MAX_PINGS - 1), between, pings(2)].concat();
        peer.write_all(&bytes).await.unwrap();
        peer.shutdown().await.unwrap();
        let error = loop {
            match reader.read_frame().await {
                Ok(event) => assert!(matches!(event, Some(FrameEvent::Activity)), "{event:?}"),
                Err(error) => break error,
            }
        };
        let violation = error.get_ref().and_then(|e| e.downcast_ref());
        let expected = WebSocketError::TooManyPings { max: MAX_PINGS };
        assert_eq!(violation, Some(&expected));
    }
}
