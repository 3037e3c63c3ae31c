//! Two hosts of a network that meet: one listens, and the other one dials.

use gossip_transport::net::{Alpn, NetConnection, NetIncomingRequest, NetListener, NetTransport};
use gossip_transport::{ClusterSecret, NetCredential};
use tokio::sync::mpsc;

use super::fixtures::{Capability, Fixture};
use crate::support::{member, soon};

pub(super) type Connection<F> = <<F as Fixture>::Transport as NetTransport>::Connection;

/// Returns credentials of two members of one cluster.
pub(super) fn two_members() -> (NetCredential, NetCredential) {
    let secret = ClusterSecret::generate();
    (member(&secret), member(&secret))
}

pub(super) async fn listen<F: Fixture>(
    host: &F::Transport,
    alpn: &[Alpn],
    credential: &NetCredential,
) -> <F::Transport as NetTransport>::Listener {
    host.create_listener(F::bind_addr(), alpn, credential)
        .await
        .unwrap()
}

/// Dials once. Returns the results of the acceptor and of the dialler.
///
/// Accepts until the dial is over: a network may dial in more than one way. The first result of the
/// acceptor is returned.
pub(super) async fn meet_as<F: Fixture>(
    acceptor: &NetCredential,
    dialler: &NetCredential,
    supported: &[Alpn],
    preferred: &[Alpn],
) -> (anyhow::Result<Connection<F>>, anyhow::Result<Connection<F>>) {
    let (a, b) = F::hosts();
    let listener = listen::<F>(&a, supported, acceptor).await;
    let addr = listener.local_addr();
    let greeting = (!F::has(Capability::Handshake)).then(|| F::message(0, 0));
    let (accepted, mut first_accepted) = mpsc::channel(16);
    let accepting = async {
        loop {
            let request = listener.accept().await.unwrap();
            accepted.send(request.accept().await).await.unwrap();
        }
    };
    let dialling = async {
        let connection = b.connect(addr, preferred, dialler).await?;
        if let Some(greeting) = &greeting {
            connection.send(greeting.clone()).await?;
        }
        Ok(connection)
    };
    let both = async { tokio::join!(first_accepted.recv(), dialling) };
    let (accepted, dialled) = soon(async {
        tokio::select! {
            both = both => both,
            () = accepting => unreachable!("it accepts until it is dropped"),
        }
    })
    .await;
    let accepted = accepted.expect("the channel is open");
    if let (Some(greeting), Ok(connection)) = (greeting, &accepted) {
        assert_eq!(soon(connection.recv()).await.unwrap().unwrap(), greeting);
    }
    (accepted, dialled)
}

pub(super) async fn meet<F: Fixture>() -> (Connection<F>, Connection<F>) {
    let (acceptor, dialler) = two_members();
    let (a, b) = meet_as::<F>(&acceptor, &dialler, F::ours(), F::ours()).await;
    (a.unwrap(), b.unwrap())
}
