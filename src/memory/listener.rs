//! Accepting, and the checks of a handshake.
//!
//! Invariant: an incoming connection is accepted or refused for the same reasons, and with the same
//! errors on both sides, as by the handshake of the secure channel.

use std::net::SocketAddr;
use std::sync::Arc;

use super::backlog::{Backlog, Dial};
use super::connection::{Info, MemoryConnection};
use super::network::MemoryNetwork;
use crate::credential::{Access, Claims, Grounds, NetCredential};
use crate::net::{Alpn, NetIncomingRequest, NetListener};
use crate::secure::HandshakeError;

/// A bound address. Dropping it frees the address immediately, and fails dials that have not been
/// accepted.
#[derive(Debug)]
pub struct MemoryListener {
    backlog: Arc<Backlog>,
    acceptor: Arc<Acceptor>,
}

/// An incoming connection that has not been accepted. Dropping it fails the dial.
#[derive(Debug)]
pub struct MemoryIncomingRequest {
    dial: Dial,
    acceptor: Arc<Acceptor>,
}

/// The state that all incoming connections of a listener share.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) network: MemoryNetwork,
    pub(super) local_addr: SocketAddr,
    pub(super) alpn_supported: Vec<Alpn>,
    pub(super) credential: NetCredential,
}

/// A failed handshake, as each side sees it.
struct Failure {
    ours: HandshakeError,
    theirs: HandshakeError,
}

impl MemoryListener {
    pub(super) fn new(backlog: Arc<Backlog>, acceptor: Acceptor) -> Self {
        Self {
            backlog,
            acceptor: Arc::new(acceptor),
        }
    }
}

impl NetListener for MemoryListener {
    type IncomingRequest = MemoryIncomingRequest;
    type Connection = MemoryConnection;

    fn local_addr(&self) -> SocketAddr {
        self.acceptor.local_addr
    }

    async fn accept(&self) -> anyhow::Result<MemoryIncomingRequest> {
        Ok(MemoryIncomingRequest {
            dial: self.backlog.next().await,
            acceptor: Arc::clone(&self.acceptor),
        })
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        self.acceptor.network.unbind(self.acceptor.local_addr);
        self.backlog.clear();
    }
}

impl NetIncomingRequest for MemoryIncomingRequest {
    type Connection = MemoryConnection;

    fn remote_addr(&self) -> SocketAddr {
        self.dial.from
    }

    async fn accept(self) -> anyhow::Result<MemoryConnection> {
        let Self { dial, acceptor } = self;
        let Agreed {
            alpn,
            of_dialler,
            of_acceptor,
            claims,
        } = match acceptor.check(&dial) {
            Ok(agreed) => agreed,
            Err(Failure { ours, theirs }) => {
                // Fails only if the dial was given up.
                let _ = dial.answer.send(Err(theirs));
                return Err(ours.into());
            }
        };
        let network = &acceptor.network;
        let to_dialler = network.new_pipe(acceptor.local_addr.ip(), dial.from.ip());
        let to_acceptor = network.new_pipe(dial.from.ip(), acceptor.local_addr.ip());
        let max_message_len = network.config().max_message_len;
        let their_end = MemoryConnection::new(
            Info {
                local_addr: dial.from,
                remote_addr: acceptor.local_addr,
                local_identity: dial.credential.identity(),
                remote_identity: acceptor.credential.identity(),
                grounds: of_acceptor,
                claims: None,
                stated_addr: acceptor.credential.stated_addr(),
                alpn: alpn.clone(),
            },
            Arc::clone(&to_acceptor),
            Arc::clone(&to_dialler),
            max_message_len,
        );
        let our_end = MemoryConnection::new(
            Info {
                local_addr: acceptor.local_addr,
                remote_addr: dial.from,
                local_identity: acceptor.credential.identity(),
                remote_identity: dial.credential.identity(),
                grounds: of_dialler,
                claims,
                stated_addr: dial.credential.stated_addr(),
                alpn,
            },
            to_dialler,
            to_acceptor,
            max_message_len,
        );
        if dial.answer.send(Ok(their_end)).is_err() {
            return Err(HandshakeError::ClosedByPeer.into());
        }
        Ok(our_end)
    }
}

/// What both ends have agreed on.
struct Agreed {
    alpn: Alpn,
    /// What the dialler has proved.
    of_dialler: Grounds,
    /// What the acceptor has proved.
    of_acceptor: Grounds,
    /// The claims of the dialler's invite.
    claims: Option<Arc<Claims>>,
}

impl Acceptor {
    /// Makes the checks of the secure channel's handshake, in the same order.
    fn check(&self, dial: &Dial) -> Result<Agreed, Failure> {
        let closed = HandshakeError::ClosedByPeer;
        let (our_trust, their_trust) = (self.credential.trust(), dial.credential.trust());
        let refused = |ours| Failure {
            ours,
            theirs: HandshakeError::ClosedByPeer,
        };
        let (of_dialler, of_acceptor, claims) = match (our_trust.access(), their_trust.access()) {
            (Access::Open, Access::Open) => (Grounds::Identity, Grounds::Identity, None),
            (Access::Secrets(ours), Access::Secrets(theirs)) => {
                let id = theirs.first().id();
                if ours.get(id).is_none() {
                    return Err(refused(HandshakeError::Decrypt));
                }
                (Grounds::Secret(id), Grounds::Secret(id), None)
            }
            (Access::Secrets(ours), Access::Invite(invite)) if our_trust.accepts_invites() => {
                let mut secrets = ours.secrets();
                let secret = secrets.find(|secret| invite.is_of(secret));
                let secret = secret.ok_or_else(|| refused(HandshakeError::Decrypt))?.id();
                let id = invite.claims().id();
                let claims = Arc::new(invite.claims().clone());
                let of_acceptor = Grounds::Core { invite: id };
                (Grounds::Invite { id, secret }, of_acceptor, Some(claims))
            }
            (Access::Invite(_), _) => return Err(refused(HandshakeError::HoldsInvite)),
            (_, Access::Invite(_)) => return Err(refused(HandshakeError::ClaimsNotAccepted)),
            _ => return Err(refused(HandshakeError::Decrypt)),
        };
        let mut preferred = dial.alpn_preferred.iter();
        let Some(alpn) = preferred.find(|alpn| self.alpn_supported.contains(alpn)) else {
            return Err(refused(HandshakeError::NoCommonProtocol));
        };
        let identity = self.credential.identity();
        if let Err(reason) = their_trust.check(&identity) {
            return Err(Failure {
                ours: closed,
                theirs: HandshakeError::not_trusted(identity, reason),
            });
        }
        let identity = dial.credential.identity();
        let judged = match &claims {
            Some(claims) => our_trust.check_claims(&identity, claims),
            None => our_trust.check(&identity),
        };
        if let Err(reason) = judged {
            return Err(Failure {
                ours: HandshakeError::not_trusted(identity, reason),
                theirs: HandshakeError::Refused { reason },
            });
        }
        Ok(Agreed {
            alpn: alpn.clone(),
            of_dialler,
            of_acceptor,
            claims,
        })
    }
}
