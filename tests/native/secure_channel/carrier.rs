//! A carrier of frames in memory, which a test can bound, slow down and tamper with.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use gossip_transport::secure::{FrameBuffer, FrameEvent, FrameReader, FrameWriter};

/// One direction of the carrier: a pipe of frames. Clones share it.
#[derive(Clone, Default)]
pub struct Pipe(Arc<Mutex<State>>);

type Tamper = Box<dyn FnMut(usize, &mut BytesMut) + Send>;

#[derive(Default)]
struct State {
    frames: VecDeque<FrameEvent>,
    /// All frames that were ever written, before tampering.
    log: Vec<Vec<u8>>,
    /// The number of bytes that may still be written, or `None` for no limit.
    room: Option<usize>,
    /// The part of a frame that has been written so far.
    begun: BytesMut,
    /// Whether every other poll returns `Pending` without need, and writes are short.
    lazy: bool,
    lazy_turns: [bool; 2],
    held: bool,
    /// The frames that wait in the carrier for a flush, or `None` if frames need no flush.
    buffered: Option<VecDeque<FrameEvent>>,
    may_flush: bool,
    closed: bool,
    shut_down: bool,
    pings: usize,
    writes: usize,
    wakers: Vec<Waker>,
    tamper: Option<Tamper>,
}

impl Pipe {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.lock().unwrap();
        let result = f(&mut state);
        for waker in state.wakers.drain(..) {
            waker.wake();
        }
        result
    }

    pub fn reader(&self) -> Reader {
        Reader(self.clone())
    }
    pub fn writer(&self) -> Writer {
        Writer(self.clone())
    }
    /// Adds a frame as if it had been written.
    pub fn inject(&self, frame: &[u8]) {
        self.with(|s| s.frames.push_back(FrameEvent::Frame(frame.into())));
    }
    pub fn inject_activity(&self) {
        self.with(|s| s.frames.push_back(FrameEvent::Activity));
    }
    /// Delivers nothing until [`release`](Self::release) is called. Written frames wait.
    pub fn hold(&self) {
        self.with(|s| s.held = true);
    }
    pub fn release(&self) {
        self.with(|s| s.held = false);
    }
    /// Lets `f` change the frames that wait.
    pub fn edit(&self, f: impl FnOnce(&mut VecDeque<BytesMut>)) {
        self.with(|s| {
            let mut frames: VecDeque<_> = s
                .frames
                .drain(..)
                .filter_map(|event| match event {
                    FrameEvent::Frame(frame) => Some(frame),
                    FrameEvent::Activity => None,
                })
                .collect();
            f(&mut frames);
            s.frames = frames.into_iter().map(FrameEvent::Frame).collect();
        });
    }
    /// Calls `f` with the number of each frame that is written later, to change the frame.
    pub fn tamper(&self, f: impl FnMut(usize, &mut BytesMut) + Send + 'static) {
        self.with(|s| s.tamper = Some(Box::new(f)));
    }
    /// Ends the pipe after the frames that it contains.
    pub fn cut(&self) {
        self.with(|s| s.closed = true);
    }
    /// Lets only `bytes` more bytes be written.
    pub fn stall_after(&self, bytes: usize) {
        self.with(|s| s.room = Some(bytes));
    }
    pub fn unstall(&self) {
        self.with(|s| s.room = None);
    }
    /// Lets the carrier take frames at once, and deliver them only when it is flushed. A flush waits
    /// until [`flush`](Self::flush) is called.
    pub fn buffer(&self) {
        self.with(|s| s.buffered = Some(VecDeque::new()));
    }
    /// Lets flushes end.
    pub fn flush(&self) {
        self.with(|s| s.may_flush = true);
    }
    pub fn make_lazy(&self) {
        self.with(|s| s.lazy = true);
    }
    pub fn log(&self) -> Vec<Vec<u8>> {
        self.with(|s| s.log.clone())
    }
    pub fn writes(&self) -> usize {
        self.with(|s| s.writes)
    }
    pub fn pings(&self) -> usize {
        self.with(|s| s.pings)
    }
    pub fn was_shut_down(&self) -> bool {
        self.with(|s| s.shut_down)
    }

    /// Returns whether one of the halves has been dropped, or the pipe has been ended.
    pub fn is_closed(&self) -> bool {
        self.with(|s| s.closed)
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock().unwrap();
        if state.buffered.as_ref().is_none_or(VecDeque::is_empty) {
            return Poll::Ready(Ok(()));
        }
        if !state.may_flush {
            state.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        let buffered = state.buffered.replace(VecDeque::new());
        state.frames.extend(buffered.into_iter().flatten());
        for waker in state.wakers.drain(..) {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn lazy_pause(&self, side: usize, cx: &mut Context<'_>) -> bool {
        let mut state = self.0.lock().unwrap();
        state.lazy_turns[side] = !state.lazy_turns[side];
        let pause = state.lazy && state.lazy_turns[side];
        if pause {
            cx.waker().wake_by_ref();
        }
        pause
    }
}

pub struct Reader(Pipe);

impl FrameReader for Reader {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        poll_fn(|cx| {
            if self.0.lazy_pause(0, cx) {
                return Poll::Pending;
            }
            let mut state = self.0.0.lock().unwrap();
            if !state.held {
                if let Some(event) = state.frames.pop_front() {
                    return Poll::Ready(Ok(Some(event)));
                }
                if state.closed {
                    return Poll::Ready(Ok(None));
                }
            }
            state.wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.cut();
    }
}

pub struct Writer(Pipe);

impl FrameWriter for Writer {
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        self.0.with(|s| s.writes += 1);
        poll_fn(|cx| {
            loop {
                if frames.is_empty() {
                    return self.0.poll_flush(cx);
                }
                if self.0.lazy_pause(1, cx) {
                    return Poll::Pending;
                }
                let mut state = self.0.0.lock().unwrap();
                if state.closed {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
                let bytes = frames.bytes_mut();
                let limit = if state.lazy { 1000 } else { usize::MAX };
                let taken = state.room.unwrap_or(usize::MAX).min(limit).min(bytes.len());
                if taken == 0 {
                    state.wakers.push(cx.waker().clone());
                    return Poll::Pending;
                }
                if let Some(room) = &mut state.room {
                    *room -= taken;
                }
                state.begun.extend_from_slice(&bytes[..taken]);
                bytes.advance(taken);
                state.take_whole_frames();
                for waker in state.wakers.drain(..) {
                    waker.wake();
                }
            }
        })
        .await
    }

    async fn ping(&mut self) -> io::Result<()> {
        self.0.with(|s| s.pings += 1);
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.0.with(|s| {
            s.shut_down = true;
            s.closed = true;
        });
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.cut();
    }
}

impl State {
    fn take_whole_frames(&mut self) {
        while let Some(len) = self.begun.first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len));
            if self.begun.len() < 2 + len {
                return;
            }
            self.begun.advance(2);
            let mut frame = BytesMut::from(&self.begun[..len]);
            self.begun.advance(len);
            let number = self.log.len();
            self.log.push(frame.to_vec());
            if let Some(tamper) = &mut self.tamper {
                tamper(number, &mut frame);
            }
            let frames = self.buffered.as_mut().unwrap_or(&mut self.frames);
            frames.push_back(FrameEvent::Frame(frame));
        }
    }
}
