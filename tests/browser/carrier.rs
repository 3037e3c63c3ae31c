//! WebSockets without a secure channel: how they end, their limits and their close codes.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Wake};
use std::time::Duration;

use futures::future::LocalBoxFuture;
use gossip_transport::rt;
use gossip_transport::secure::{FrameBuffer, FrameEvent, FrameReader as _, FrameWriter as _};
use gossip_transport::websocket::{
    WebSocketConfig, WebSocketError, WebSocketReader, WebSocketTransport, WebSocketWriter,
};
use wasm_bindgen_test::wasm_bindgen_test;

use super::nodes::Nodes;
use super::{eventually, soon, unique};

async fn open(transport: &WebSocketTransport, script: &str) -> (WebSocketReader, WebSocketWriter) {
    let addr: SocketAddr = Nodes::fetch().await.raw(transport, script).await;
    soon(transport.open(addr)).await.unwrap()
}

async fn write(writer: &mut WebSocketWriter, frame: &[u8]) {
    let mut frames = FrameBuffer::default();
    frames.push(frame);
    soon(writer.write_frames(&mut frames)).await.unwrap();
    assert!(frames.is_empty());
}

async fn read(reader: &mut WebSocketReader) -> Option<Vec<u8>> {
    match soon(reader.read_frame()).await.unwrap()? {
        FrameEvent::Frame(frame) => Some(frame.to_vec()),
        FrameEvent::Activity => panic!("a browser does not report pongs"),
    }
}

async fn error(reader: &mut WebSocketReader) -> WebSocketError {
    typed(&soon(reader.read_frame()).await.unwrap_err())
}

fn typed(error: &std::io::Error) -> WebSocketError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    WebSocketError::clone(inner.unwrap_or_else(|| panic!("{error:?}")))
}

#[wasm_bindgen_test]
async fn frames_arrive_complete_and_in_order() {
    let transport = WebSocketTransport::default();
    let (mut reader, mut writer) = open(&transport, "echo/order").await;
    let mut frames = FrameBuffer::default();
    for i in 0..2000_u32 {
        frames.push(&i.to_be_bytes());
    }
    frames.push(&[]);
    frames.push(&[9; 65_535]);
    soon(writer.write_frames(&mut frames)).await.unwrap();
    for i in 0..2000_u32 {
        assert_eq!(read(&mut reader).await.unwrap(), i.to_be_bytes());
    }
    assert_eq!(read(&mut reader).await.unwrap(), b"");
    assert_eq!(read(&mut reader).await.unwrap(), [9; 65_535]);
}

#[wasm_bindgen_test]
async fn an_orderly_close_by_the_peer_ends_the_stream_without_an_error() {
    let transport = WebSocketTransport::default();
    for code in [1000, 1001] {
        let (mut reader, mut writer) = open(&transport, &format!("close/{code}")).await;
        write(&mut writer, b"now").await;
        assert_eq!(read(&mut reader).await, None);
        assert_eq!(read(&mut reader).await, None);
        let mut frames = FrameBuffer::default();
        frames.push(b"too late");
        let late = soon(writer.write_frames(&mut frames)).await.unwrap_err();
        assert_eq!(typed(&late), WebSocketError::NotOpen);
        assert!(
            !frames.is_empty(),
            "a frame that was not sent must stay in the buffer"
        );
    }
}

#[wasm_bindgen_test]
async fn every_other_end_is_a_typed_error_for_reader_and_writer() {
    let transport = WebSocketTransport::default();
    let closed = WebSocketError::Closed {
        code: 4321,
        reason: "as you wish".to_owned(),
    };
    let too_long = WebSocketError::TooLong {
        len: 65_536,
        max: 65_535,
    };
    for (script, expected) in [
        ("close/4321", closed),
        ("abort", WebSocketError::Broken),
        ("text", WebSocketError::NotBinary),
        ("long", too_long),
    ] {
        let (mut reader, mut writer) = open(&transport, script).await;
        write(&mut writer, b"now").await;
        assert_eq!(error(&mut reader).await, expected, "{script}");
        assert_eq!(error(&mut reader).await, expected, "{script}");
        let mut frames = FrameBuffer::default();
        let late = soon(writer.write_frames(&mut frames)).await.unwrap_err();
        assert_eq!(typed(&late), expected, "{script}");
    }
}

#[wasm_bindgen_test]
async fn unread_frames_are_bounded() {
    let mut config = WebSocketConfig::default();
    config.max_unread_bytes = 1 << 20;
    let transport = WebSocketTransport::new(config);
    let overflow = WebSocketError::Overflow { limit: 1 << 20 };

    // 31 frames of 32 KiB fit, including the overhead that is counted for each frame.
    let (mut reader, _writer) = open(&transport, "flood/31").await;
    // Once a later connection has been answered, the earlier frames have arrived as well.
    let (mut answer, mut ask) = open(&transport, "echo/after").await;
    write(&mut ask, &[0; 60_000]).await;
    assert_eq!(read(&mut answer).await.unwrap().len(), 60_000);
    for _ in 0..31 {
        assert_eq!(read(&mut reader).await.unwrap().len(), 32 << 10);
    }

    // More frames do not fit. The writer reports it even though nothing is reading.
    let (mut reader, mut writer) = open(&transport, "flood/1000").await;
    let mut frames = FrameBuffer::default();
    let ended = async {
        loop {
            match writer.write_frames(&mut frames).await {
                Ok(()) => rt::sleep(Duration::from_millis(5)).await,
                Err(error) => return typed(&error),
            }
        }
    };
    assert_eq!(soon(ended).await, overflow);
    assert_eq!(error(&mut reader).await, overflow);

    // A connection that is read has no limit on the total.
    let (mut reader, _writer) = open(&transport, "flood/1000").await;
    for _ in 0..1000 {
        assert_eq!(read(&mut reader).await.unwrap().len(), 32 << 10);
    }
}

#[wasm_bindgen_test]
async fn writing_pauses_while_the_peer_does_not_read() {
    let transport = WebSocketTransport::default();
    let (_reader, mut writer) = open(&transport, "stall").await;
    let mut frames = FrameBuffer::default();
    for _ in 0..1000 {
        frames.push(&[1; 65_535]);
    }
    let whole = frames.len();
    // The buffers of the operating systems take a few MiB. The other frames must stay here.
    let write = writer.write_frames(&mut frames);
    assert!(rt::timeout(Duration::from_secs(2), write).await.is_err());
    let left = frames.len();
    assert!(left > whole / 4, "{left} of {whole} bytes are left");
    let write = writer.write_frames(&mut frames);
    assert!(
        rt::timeout(Duration::from_millis(500), write)
            .await
            .is_err()
    );
    assert_eq!(frames.len(), left, "a paused writer must stay paused");
}

#[wasm_bindgen_test]
async fn a_paused_writer_reports_the_end_of_the_socket() {
    let transport = WebSocketTransport::default();
    let (_reader, mut writer) = open(&transport, "close/4000").await;
    let mut frames = FrameBuffer::default();
    // The peer reads only the first frame, and then closes.
    for _ in 0..1000 {
        frames.push(&[1; 65_535]);
    }
    let error = soon(writer.write_frames(&mut frames)).await.unwrap_err();
    assert!(matches!(
        typed(&error),
        WebSocketError::NotOpen | WebSocketError::Closed { .. } | WebSocketError::Broken
    ));
}

#[wasm_bindgen_test]
async fn shutting_down_and_dropping_close_with_code_1000() {
    let transport = WebSocketTransport::default();
    for shut_down in [true, false] {
        let name = unique();
        let (mut reader, mut writer) = open(&transport, &format!("echo/{name}")).await;
        write(&mut writer, b"before").await;
        if shut_down {
            soon(writer.shutdown()).await.unwrap();
            let error = error(&mut reader).await;
            assert_eq!(error, WebSocketError::NotOpen);
            soon(writer.shutdown()).await.unwrap();
        }
        drop(writer);
        drop(reader);
        eventually("both halves to be dropped", || {
            transport.open_sockets() == 0
        })
        .await;
        let (mut reader, _writer) = open(&transport, &format!("code/{name}")).await;
        assert_eq!(read(&mut reader).await.unwrap(), b"1000");
    }
}

#[wasm_bindgen_test]
async fn an_overflow_closes_with_its_own_code() {
    let transport = WebSocketTransport::default();
    let mut config = WebSocketConfig::default();
    config.max_unread_bytes = 1024;
    let small = WebSocketTransport::new(config);
    let name = unique();
    let (reader, mut writer) = open(&small, &format!("echo/{name}")).await;
    write(&mut writer, &[1; 1025]).await;
    let (mut codes, _writer) = open(&transport, &format!("code/{name}")).await;
    assert_eq!(read(&mut codes).await.unwrap(), b"4000");
    drop((reader, writer));
}

/// Polls the future in [`EAGER`] as soon as it is called, from within the event that calls it, as the
/// waker of another executor may do.
struct Eager;

thread_local! {
    static EAGER: RefCell<Option<LocalBoxFuture<'static, ()>>> = const { RefCell::new(None) };
}

impl Wake for Eager {
    fn wake(self: Arc<Self>) {
        poll_eagerly(&self);
    }
}

fn poll_eagerly(eager: &Arc<Eager>) {
    let Some(mut future) = EAGER.take() else {
        return;
    };
    let waker = Arc::clone(eager).into();
    if future
        .as_mut()
        .poll(&mut Context::from_waker(&waker))
        .is_pending()
    {
        EAGER.set(Some(future));
    }
}

/// Runs `future` by polling it from within its own wakers.
async fn eagerly(future: impl Future<Output = ()> + 'static) {
    let (done, is_done) = futures::channel::oneshot::channel();
    EAGER.set(Some(Box::pin(async move {
        future.await;
        let _ = done.send(());
    })));
    poll_eagerly(&Arc::new(Eager));
    soon(is_done).await.unwrap();
}

#[wasm_bindgen_test]
async fn a_waker_may_poll_at_once() {
    let nodes = Nodes::fetch().await;
    for script in ["echo/eager", "close/1000", "abort", "long", "flood/1000"] {
        let config = WebSocketConfig::default().with_max_unread_bytes(70_000);
        let transport = WebSocketTransport::new(config);
        let addr = nodes.raw(&transport, script).await;
        eagerly(async move {
            let (mut reader, mut writer) = transport.open(addr).await.unwrap();
            let mut frames = FrameBuffer::default();
            // More than the browser takes at once, so that the writer pauses.
            for _ in 0..16 {
                frames.push(&[1; 65_535]);
            }
            let write = async {
                let written = writer.write_frames(&mut frames).await;
                rt::sleep(Duration::from_millis(1)).await;
                written
            };
            let read = async {
                for _ in 0..16 {
                    reader.read_frame().await?;
                }
                std::io::Result::Ok(())
            };
            let (written, read) = futures::future::join(write, read).await;
            if script.starts_with("echo") {
                written.unwrap();
                read.unwrap();
            }
        })
        .await;
    }
}
