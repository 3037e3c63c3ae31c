//! Handshakes of sides that know several secrets, and the grounds of their connections.

use gossip_transport::credential::{Grounds, Keyring};
use gossip_transport::net::NetConnection;
use gossip_transport::secure::HandshakeError;
use gossip_transport::{ClusterSecret, NetCredential, Trust};

use super::common::{Meeting, SUITES, refused, silently_refused};

fn secret(n: u8) -> ClusterSecret {
    ClusterSecret::from_bytes(&[n; 32]).unwrap()
}

fn member(secrets: &[u8]) -> NetCredential {
    let keyring = Keyring::new(secrets.iter().map(|n| secret(*n)));
    NetCredential::generate(Trust::secrets(keyring.unwrap()))
}

fn meeting(dialler: &[u8], acceptor: &[u8]) -> Meeting {
    let mut meeting = Meeting::of_anyone();
    (meeting.dialler, meeting.acceptor) = (member(dialler), member(acceptor));
    meeting
}

#[tokio::test]
async fn a_dialler_is_accepted_if_its_first_secret_is_any_of_the_acceptors() {
    for suite in SUITES {
        for n in 1..=4 {
            let mut meeting = meeting(&[n, 9], &[1, 2, 3, 4]);
            meeting.suite = suite;
            let (dialled, accepted) = meeting.connect().await;
            for connection in [dialled, accepted] {
                assert_eq!(connection.grounds(), Grounds::Secret(secret(n).id()));
            }
        }
    }
}

#[tokio::test]
async fn a_dialler_whose_first_secret_is_unknown_is_refused_without_a_word() {
    for acceptor in [&[1][..], &[1, 2, 3, 4]] {
        let meeting = meeting(&[9, 1], acceptor);
        let (dialled, accepted) = meeting.meet().await;
        assert!(matches!(refused(accepted), HandshakeError::Decrypt));
        silently_refused(&meeting, dialled);
    }
}

#[tokio::test]
async fn without_secrets_a_connection_rests_on_the_identity() {
    let (dialled, accepted) = Meeting::of_anyone().connect().await;
    for connection in [dialled, accepted] {
        assert_eq!(connection.grounds(), Grounds::Identity);
    }
}

#[tokio::test]
async fn the_next_handshake_uses_the_secrets_that_were_set() {
    let meeting = meeting(&[1], &[1]);
    meeting.connect().await;
    let (dialler, acceptor) = (meeting.dialler.trust(), meeting.acceptor.trust());
    acceptor.set_keyring(Keyring::new([secret(2), secret(1)]).unwrap());
    let again = || {
        let mut again = Meeting::of_anyone();
        again.dialler = meeting.dialler.clone();
        again.acceptor = meeting.acceptor.clone();
        again
    };
    let (dialled, _) = again().connect().await;
    assert_eq!(dialled.grounds(), Grounds::Secret(secret(1).id()));
    dialler.set_keyring(secret(2));
    let (dialled, _) = again().connect().await;
    assert_eq!(dialled.grounds(), Grounds::Secret(secret(2).id()));
    acceptor.set_keyring(secret(3));
    let (_, accepted) = again().meet().await;
    assert!(matches!(refused(accepted), HandshakeError::Decrypt));
}

#[tokio::test]
async fn no_secret_is_in_what_is_printed() {
    let meeting = meeting(&[1, 2], &[1, 2]);
    let (dialled, _) = meeting.connect().await;
    let printed = format!(
        "{dialled:?} {:?} {:?}",
        meeting.dialler,
        meeting.dialler.trust()
    );
    assert!(printed.contains(&secret(1).id().to_string()), "{printed}");
    for n in [1, 2] {
        let text = secret(n).to_text();
        let hidden = &text["gossip-secret-".len()..];
        assert!(!printed.contains(hidden), "{printed}");
        assert!(!printed.contains(&format!("{n}, {n}, {n}")), "{printed}");
    }
}
