//! One connection to the admin port: its requests, its replies and their time limits.
//!
//! What the commands do is in [`super::execute`]. Invariant: a client that stops reading or writing is
//! disconnected, and until then little queues up for it: a reply holds one member at a time, and a watch
//! looks at the members again only after the client has taken what the last look has found.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gossip_transport::rt::{self, Instant};
use serde::Serialize;
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf,
};

use super::audit::Entry;
use super::changes::{Known, Seen};
use super::execute::{self, Pages};
use super::items::Event;
use super::port::{Access, Peer, Stream};
use super::protocol::{Code, Command, Failure, Item, MAX_REQUEST_LEN, Reply, Request};
use super::{connections, invites, secrets};
use crate::any_network::AnyParticipant;
use crate::member_status::MemberStatus;
use crate::node::Node;
use crate::revocations::Revocations;
use crate::trust_files::{Change, TrustFiles};

/// The time in which a request must arrive.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The time after which a client is disconnected that reads nothing of a reply.
const READ_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a reply that are written together.
const BATCH_LEN: usize = 64 << 10;
/// The shortest time between two looks of a watch at the members.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// A watch waits at least this many times as long as its look has taken, since a look copies all members.
const LOOK_SHARE: u32 = 9;

/// Whether a connection waits for a request. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Activity(Arc<AtomicBool>);

impl Activity {
    pub(super) fn is_idle(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }

    fn set_busy(&self, busy: bool) {
        self.0.store(busy, Ordering::Relaxed);
    }
}

/// A connection whose requests are carried out.
pub(super) struct Session {
    pub(super) node: Node,
    pub(super) trust_files: TrustFiles,
    pub(super) revocations: Revocations,
    pub(super) access: Access,
    /// The client at the other end.
    pub(super) peer: Peer,
    pub(super) activity: Activity,
}

/// The client has closed the connection, or it does not read.
#[derive(Debug)]
struct Gone;

impl Session {
    /// Answers requests until the client closes the connection or breaks a limit.
    pub(super) async fn run(self, stream: Box<dyn Stream>) {
        let (requests, replies) = tokio::io::split(Box::into_pin(stream));
        let mut requests = Requests(BufReader::new(requests));
        let mut replies = Replies::new(replies);
        let mut is_allowed = self.access == Access::Open;
        loop {
            self.activity.set_busy(false);
            let next = rt::timeout(REQUEST_LIMIT, requests.next()).await;
            let Ok(Ok(Some(request))) = next else {
                return;
            };
            let answered = match request {
                Ok(request) => {
                    is_allowed |= self.access.allows(&request);
                    if is_allowed {
                        self.activity.set_busy(true);
                        let mut entry = Entry::begin(&request.command, self.peer);
                        let answered = self
                            .answer(request.command, &mut entry, &mut requests, &mut replies)
                            .await;
                        if let Ok(outcome) = &answered {
                            entry.end(outcome);
                        }
                        answered
                    } else {
                        Ok(Err(Failure::new(
                            Code::Unauthorized,
                            "the token of this port is missing or wrong",
                        )))
                    }
                }
                Err(failure) => Ok(Err(failure)),
            };
            let Ok(outcome) = answered else { return };
            // What follows a line that is not a request may be none either, for example the body of an
            // HTTP request.
            let ends = outcome.as_ref().is_err_and(|failure| {
                [Code::Malformed, Code::TooLong, Code::Unauthorized]
                    .iter()
                    .any(|code| failure.is(*code))
            });
            if replies.end(outcome).await.is_err() || ends {
                return;
            }
        }
    }

    async fn answer(
        &self,
        command: Command,
        entry: &mut Entry,
        requests: &mut Requests,
        replies: &mut Replies,
    ) -> Result<Result<(), Failure>, Gone> {
        let node = &self.node;
        match command {
            Command::Ping => Ok(Ok(())),
            Command::Get(get) => replies.only(execute::get(node, &get)).await,
            Command::Set(set) => replies.only(execute::set(node, &set)).await,
            Command::Delete(delete) => replies.only(execute::delete(node, &delete)).await,
            Command::Members => {
                let mut pages = Pages::new(node);
                loop {
                    let members = match pages.next() {
                        Ok(members) if members.is_empty() => return Ok(Ok(())),
                        Ok(members) => members,
                        Err(failure) => return Ok(Err(failure)),
                    };
                    for member in members {
                        replies.own_item(MemberStatus::from(member)).await?;
                    }
                }
            }
            Command::Connections => match connections::list(node) {
                Ok(connections) => {
                    for connection in connections {
                        replies.item(&connection).await?;
                    }
                    Ok(Ok(()))
                }
                Err(failure) => Ok(Err(failure)),
            },
            Command::SecretList => match secrets::list(node, &self.trust_files) {
                Ok(secrets) => {
                    for secret in secrets {
                        replies.item(&secret).await?;
                    }
                    Ok(Ok(()))
                }
                Err(failure) => Ok(Err(failure)),
            },
            Command::SecretAdd(add) => self.change_secrets(Change::Add(add.secret), replies).await,
            Command::SecretUse(named) => self.change_secrets(Change::Use(named.id), replies).await,
            Command::SecretRemove(named) => {
                self.change_secrets(Change::Remove(named.id), replies).await
            }
            Command::Invite(order) => {
                let issued = invites::issue_by(node, order);
                if let Ok(issued) = &issued {
                    entry.about(&issued.id);
                }
                replies.only(issued).await
            }
            Command::Revoke(revoke) => {
                let revoked = invites::revoke(node, &self.revocations, revoke.id).await;
                replies.only(revoked).await
            }
            Command::RevokeList => {
                for revoked in invites::revoked(&self.revocations) {
                    replies.item(&revoked).await?;
                }
                Ok(Ok(()))
            }
            Command::Watch => tokio::select! {
                ended = self.watch(replies) => ended.map(Err),
                () = requests.anything() => Err(Gone),
            },
        }
    }

    async fn change_secrets(
        &self,
        change: Change,
        replies: &mut Replies,
    ) -> Result<Result<(), Failure>, Gone> {
        let changed = secrets::change(&self.node, &self.trust_files, change).await;
        replies.only(changed).await
    }

    /// Reports the members and then each change, until the node leaves.
    async fn watch(&self, replies: &mut Replies) -> Result<Failure, Gone> {
        let Some(mut watch) = self.node.with(AnyParticipant::watch) else {
            return Ok(execute::leaving());
        };
        let mut known = Known::default();
        let mut is_first = true;
        loop {
            let Some(look) = self.look(&mut known, replies).await? else {
                return Ok(execute::leaving());
            };
            if std::mem::take(&mut is_first) {
                replies.item(&Event::Current {}).await?;
            }
            replies.flush().await?;
            rt::sleep(LOOK_INTERVAL.max(look.saturating_mul(LOOK_SHARE))).await;
            if !watch.changed().await {
                return Ok(execute::leaving());
            }
        }
    }

    /// Reports what has changed since the last look, and returns the time that looking has taken, or `None`
    /// if the node is leaving.
    async fn look(
        &self,
        known: &mut Known,
        replies: &mut Replies,
    ) -> Result<Option<Duration>, Gone> {
        let mut took = Duration::ZERO;
        let mut seen = Vec::new();
        let mut pages = Pages::new(&self.node);
        loop {
            let start = Instant::now();
            let Ok(members) = pages.next() else {
                return Ok(None);
            };
            took = took.saturating_add(start.elapsed());
            if members.is_empty() {
                break;
            }
            for member in members {
                seen.push(member.id.clone());
                for event in known.update(Seen::from(member)) {
                    replies.own_item(event).await?;
                }
            }
        }
        // The pages are sorted by id.
        for event in known.forget_unless(|id| seen.binary_search(id).is_ok()) {
            replies.item(&event).await?;
        }
        Ok(Some(took))
    }
}

impl Access {
    fn allows(&self, request: &Request) -> bool {
        match self {
            Self::Open => true,
            Self::Token(token) => request
                .token
                .as_deref()
                .is_some_and(|given| token.is(given)),
        }
    }
}

/// Tells a client that there are too many connections.
pub(super) async fn refuse(stream: Box<dyn Stream>, max: usize) {
    let (_, replies) = tokio::io::split(Box::into_pin(stream));
    let message = format!("all {max} admin connections of the node are in use: end a watch");
    let failure = Failure::new(Code::Busy, message);
    let _ = Replies::new(replies).end(Err(failure)).await;
}

type Pinned = std::pin::Pin<Box<dyn Stream>>;

/// The receiving side of a connection.
struct Requests(BufReader<ReadHalf<Pinned>>);

impl Requests {
    /// Reads the next request. Returns `None` at the end of the connection. Not cancel-safe: part of a
    /// line may be lost.
    async fn next(&mut self) -> io::Result<Option<Result<Request, Failure>>> {
        let mut line = Vec::new();
        let limit = MAX_REQUEST_LEN + 1;
        let mut limited = (&mut self.0).take(limit as u64);
        limited.read_until(b'\n', &mut line).await?;
        if line.pop_if(|last| *last == b'\n').is_some() {
            return Ok(Some(Request::parse(&line)));
        }
        if line.len() < limit {
            return Ok(None);
        }
        let message = format!("a request has at most {MAX_REQUEST_LEN} bytes");
        Ok(Some(Err(Failure::new(Code::TooLong, message))))
    }

    /// Waits until the client sends something or closes the connection.
    async fn anything(&mut self) {
        let _ = self.0.fill_buf().await;
    }
}

/// The sending side of a connection. Collects short lines.
struct Replies {
    stream: WriteHalf<Pinned>,
    waiting: Vec<u8>,
}

impl Replies {
    fn new(stream: WriteHalf<Pinned>) -> Self {
        Self {
            stream,
            waiting: Vec::new(),
        }
    }

    async fn item(&mut self, item: &impl Serialize) -> Result<(), Gone> {
        self.collect(&Item { item })?;
        self.flush_if_long().await
    }

    /// Sends an item that may be long, and that is not in memory any more while the client reads its line.
    async fn own_item(&mut self, item: impl Serialize) -> Result<(), Gone> {
        self.collect(&Item { item: &item })?;
        drop(item);
        self.flush_if_long().await
    }

    /// Sends the only item of a result.
    async fn only<T: Serialize>(
        &mut self,
        result: Result<T, Failure>,
    ) -> Result<Result<(), Failure>, Gone> {
        match result {
            Ok(item) => self.item(&item).await.map(Ok),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// Ends a reply and sends it.
    async fn end(&mut self, outcome: Result<(), Failure>) -> Result<(), Gone> {
        let end = match outcome {
            Ok(()) => Reply::Done {},
            Err(failure) => Reply::Error(failure),
        };
        self.collect(&end)?;
        self.flush().await
    }

    fn collect(&mut self, line: &impl Serialize) -> Result<(), Gone> {
        serde_json::to_writer(&mut self.waiting, line).map_err(|_| Gone)?;
        self.waiting.push(b'\n');
        Ok(())
    }

    async fn flush_if_long(&mut self) -> Result<(), Gone> {
        if self.waiting.len() >= BATCH_LEN {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes what is waiting. Fails if the client takes nothing for too long.
    async fn flush(&mut self) -> Result<(), Gone> {
        let mut rest = self.waiting.as_slice();
        while !rest.is_empty() {
            match rt::timeout(READ_LIMIT, self.stream.write(rest)).await {
                Ok(Ok(written)) if written > 0 => {
                    rest = rest.get(written..).unwrap_or_default();
                }
                Ok(_) => return Err(Gone),
                Err(_) => {
                    tracing::warn!("ended an admin connection whose client does not read");
                    return Err(Gone);
                }
            }
        }
        self.waiting.clear();
        self.waiting.shrink_to(BATCH_LEN);
        Ok(())
    }
}
