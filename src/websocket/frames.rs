//! Frames over a browser WebSocket: one frame, one binary message.
//!
//! No bytes are kept here: what has not been handed to the browser stays in the caller's buffer.
//! Invariant: at most [`HIGH_WATER`] bytes and one frame wait inside the browser, so that the
//! queues above, their expiry and their drop policy decide what goes out.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::socket::Socket;
use crate::rt;
use crate::secure::{FrameBuffer, FrameEvent, FrameReader, FrameWriter};

/// Writing pauses while the browser holds more than this, in bytes: four of the longest frames,
/// enough to keep a line of 100 Mbit/s busy over a pause of 20 ms.
const HIGH_WATER: u32 = 256 * 1024;

/// A browser does not say when it has sent something. So a paused writer looks again at each turn
/// of the event loop, for so many turns at most: a fast line is empty within a few.
const MOST_TURNS: u32 = 256;
const FEWEST_TURNS: u32 = 4;

/// How soon it looks again after that, and how long it waits at most.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// The reading half. Dropping it discards what arrives from then on; dropping both halves closes
/// the WebSocket.
#[derive(Debug)]
pub struct WebSocketReader(Rc<Socket>);

/// The writing half. Dropping both halves closes the WebSocket.
#[derive(Debug)]
pub struct WebSocketWriter {
    socket: Rc<Socket>,
    /// Turns to look for at the next pause: twice as many once that has helped, a quarter once it
    /// has not, so that a slow line does not keep the processor busy.
    turns: u32,
}

pub(super) fn halves(socket: Socket) -> (WebSocketReader, WebSocketWriter) {
    let socket = Rc::new(socket);
    let writer = WebSocketWriter {
        socket: Rc::clone(&socket),
        turns: MOST_TURNS,
    };
    (WebSocketReader(socket), writer)
}

impl FrameReader for WebSocketReader {
    /// See [`FrameReader::read_frame`]; errors hold a [`WebSocketError`](super::WebSocketError).
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        let frame = poll_fn(|cx| self.0.poll_frame(cx)).await?;
        Ok(frame.map(FrameEvent::Frame))
    }
}

impl Drop for WebSocketReader {
    fn drop(&mut self) {
        self.0.stop_reading();
    }
}

impl FrameWriter for WebSocketWriter {
    /// See [`FrameWriter::write_frames`]; errors hold a [`WebSocketError`](super::WebSocketError).
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        // Also where there is nothing to write: whoever asks is told that the socket is gone.
        self.socket.check_open()?;
        while !frames.is_empty() {
            self.low_water().await?;
            let Some(frame) = frames.pop() else {
                let what = "half a frame in a frame buffer";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            };
            self.socket.send(&frame)?;
        }
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.socket.close();
        Ok(())
    }
}

impl WebSocketWriter {
    /// Waits until the browser holds little enough.
    async fn low_water(&mut self) -> io::Result<()> {
        let mut turns = 0;
        let mut pause = PAUSE_MIN;
        while self.socket.buffered() > HIGH_WATER {
            if turns < self.turns {
                turns += 1;
                rt::turn().await;
                self.socket.check_open()?;
                continue;
            }
            let seen = self.socket.arrivals();
            let mut timer = pin!(rt::sleep(pause));
            // A hidden tab's timers are slow, its network is not: so what arrives is a time to
            // look, too. A wake-up for no reason must not be, or dropping the timer, which causes
            // one, would go round for ever.
            poll_fn(|cx| match self.socket.poll_arrival(seen, cx) {
                Poll::Pending => timer.as_mut().poll(cx).map(Ok),
                ready => ready,
            })
            .await?;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
        if turns > 0 {
            let helped = pause == PAUSE_MIN;
            let turns = if helped {
                self.turns.saturating_mul(2)
            } else {
                self.turns / 4
            };
            self.turns = turns.clamp(FEWEST_TURNS, MOST_TURNS);
        }
        Ok(())
    }
}
