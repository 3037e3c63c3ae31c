//! Frames over a browser WebSocket. Each frame is one binary message.
//!
//! This file buffers nothing: frames that were not passed to the browser stay in the caller's
//! buffer. Invariant: at most [`HIGH_WATER`] bytes and one frame wait inside the browser, so that
//! the queues above, with their expiry and drop policy, decide what is sent.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::socket::Socket;
use crate::rt;
use crate::secure::{FrameBuffer, FrameEvent, FrameReader, FrameWriter, SecureConnection};

/// Writing pauses while the browser holds more than this many unsent bytes. Four of the longest
/// frames keep a line of 100 Mbit/s busy for a pause of 20 ms.
const HIGH_WATER: u32 = 256 * 1024;

/// The most turns of the event loop for which a paused writer checks the browser again before it
/// uses a timer. A browser does not report when it has sent data, and a fast line is empty within a
/// few turns.
const MAX_TURNS: u32 = 256;
/// The fewest turns for which a paused writer checks again.
const MIN_TURNS: u32 = 4;

/// The first wait between two checks once a timer is used. Each further wait is twice as long.
const MIN_PAUSE: Duration = Duration::from_millis(2);
/// The longest wait between two checks.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// A secure connection over a browser WebSocket.
pub type WebSocketConnection = SecureConnection<WebSocketReader, WebSocketWriter>;

/// The reading half of a browser WebSocket. Dropping it discards frames that arrive later; dropping
/// both halves closes the WebSocket.
#[derive(Debug)]
pub struct WebSocketReader {
    socket: Rc<Socket>,
    is_local: bool,
}

/// The writing half of a browser WebSocket. Dropping both halves closes the WebSocket.
#[derive(Debug)]
pub struct WebSocketWriter {
    socket: Rc<Socket>,
    /// The event loop, once the writer has paused.
    event_loop: Option<rt::EventLoopTurns>,
    /// The number of turns for which the next pause checks before it uses a timer. It doubles when
    /// that was enough and falls to a quarter when it was not, so that a slow line does not keep
    /// the processor busy.
    turns: u32,
    /// The number of turns of the pause that is under way, and its next wait for a timer. They outlive
    /// a dropped future, so that polling the writer once again and again does not spin.
    spent: u32,
    pause: Duration,
}

/// Returns the two halves of a WebSocket. `is_local` says whether it leads to a loopback address.
pub(super) fn halves(socket: Socket, is_local: bool) -> (WebSocketReader, WebSocketWriter) {
    let socket = Rc::new(socket);
    let writer = WebSocketWriter {
        socket: Rc::clone(&socket),
        event_loop: None,
        turns: MAX_TURNS,
        spent: 0,
        pause: MIN_PAUSE,
    };
    (WebSocketReader { socket, is_local }, writer)
}

impl FrameReader for WebSocketReader {
    /// Reads the next frame. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The error contains a [`WebSocketError`](super::WebSocketError).
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        let frame = poll_fn(|cx| self.socket.poll_frame(cx)).await?;
        Ok(frame.map(FrameEvent::Frame))
    }

    fn is_local(&self) -> bool {
        self.is_local
    }
}

impl Drop for WebSocketReader {
    fn drop(&mut self) {
        self.socket.stop_reading();
    }
}

impl FrameWriter for WebSocketWriter {
    /// Passes all frames to the browser, pausing while it holds too many unsent bytes. Cancel-safe:
    /// frames that were not passed stay in `frames`.
    ///
    /// # Errors
    ///
    /// The error contains a [`WebSocketError`](super::WebSocketError). An empty buffer also reports
    /// that the WebSocket has ended.
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        self.socket.check_open()?;
        while !frames.is_empty() {
            self.wait_for_room().await?;
            let Some(frame) = frames.pop() else {
                let what = "the frame buffer ends inside a frame";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            };
            self.socket.send(&frame)?;
        }
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.event_loop = None;
        self.socket.close();
        Ok(())
    }
}

impl WebSocketWriter {
    /// Waits until the browser holds at most [`HIGH_WATER`] unsent bytes.
    async fn wait_for_room(&mut self) -> io::Result<()> {
        while self.socket.buffered() > HIGH_WATER {
            if self.spent < self.turns {
                self.spent += 1;
                let event_loop = self.event_loop.get_or_insert_with(rt::EventLoopTurns::new);
                event_loop.next().await;
                self.socket.check_open()?;
                continue;
            }
            let seen = self.socket.arrivals();
            let mut timer = pin!(rt::sleep(self.pause));
            // Timers of a hidden tab are slow, but its network is not, so arriving frames also end
            // the wait. A spurious wake-up must not end it: dropping the timer causes one, and the
            // loop would spin.
            poll_fn(|cx| match self.socket.poll_arrival(seen, cx) {
                Poll::Pending => timer.as_mut().poll(cx).map(Ok),
                ready => ready,
            })
            .await?;
            self.pause = self.pause.saturating_mul(2).min(MAX_PAUSE);
        }
        if self.spent > 0 {
            let helped = self.pause == MIN_PAUSE;
            let turns = if helped {
                self.turns.saturating_mul(2)
            } else {
                self.turns / 4
            };
            self.turns = turns.clamp(MIN_TURNS, MAX_TURNS);
            self.spent = 0;
            self.pause = MIN_PAUSE;
        }
        Ok(())
    }
}
