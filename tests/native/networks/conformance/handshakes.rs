//! The behaviours of handshakes, each over any network: what each side learns, and which dials are refused.

use gossip_transport::net::{Alpn, NetConnection};
use gossip_transport::secure::{HandshakeError, Refusal};
use gossip_transport::{NetCredential, Trust};

use super::fixtures::Fixture;
use super::meeting::{meet_as, two_members};
use crate::support::anyone;

const OTHER: Alpn = Alpn::from_static(b"conformance/2");

pub(crate) async fn both_sides_know_the_identity_and_address_of_the_other<F: Fixture>() {
    let (acceptor, dialler) = two_members();
    let (a, b) = meet_as::<F>(&acceptor, &dialler, F::ours(), F::ours()).await;
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.local_identity(), acceptor.identity());
    assert_eq!(a.remote_identity(), dialler.identity());
    assert_eq!(b.local_identity(), dialler.identity());
    assert_eq!(b.remote_identity(), acceptor.identity());
    assert_eq!(a.remote_addr(), b.local_addr(), "as the acceptor sees it");
    let dialled = F::dialled(a.local_addr()).await;
    assert_eq!(b.remote_addr(), dialled);
}

pub(crate) async fn the_first_common_protocol_is_negotiated<F: Fixture>() {
    let (acceptor, dialler) = two_members();
    let (ours, third) = (F::ours()[0].clone(), Alpn::from_static(b"third"));
    let (a, b) = meet_as::<F>(
        &acceptor,
        &dialler,
        &[ours.clone(), OTHER],
        &[third, OTHER, ours],
    )
    .await;
    assert_eq!(a.unwrap().alpn_negotiated(), &OTHER);
    assert_eq!(b.unwrap().alpn_negotiated(), &OTHER);
}

/// Returns the errors of the acceptor and of the dialler.
fn both_failed<C>(
    (a, b): (anyhow::Result<C>, anyhow::Result<C>),
) -> (HandshakeError, HandshakeError) {
    let theirs = b.err().expect("the dialler should have been refused");
    let ours = a.err().expect("the acceptor should have refused");
    (ours.downcast().unwrap(), theirs.downcast().unwrap())
}

/// Returns the error of the acceptor, after checking that the dialler received no reason.
fn refused_by_acceptor<C>(met: (anyhow::Result<C>, anyhow::Result<C>)) -> HandshakeError {
    let (ours, theirs) = both_failed(met);
    assert!(matches!(theirs, HandshakeError::ClosedByPeer), "{theirs}");
    ours
}

pub(crate) async fn a_dial_without_a_common_protocol_is_refused<F: Fixture>() {
    let (acceptor, dialler) = two_members();
    let met = meet_as::<F>(&acceptor, &dialler, F::ours(), &[OTHER]).await;
    let error = refused_by_acceptor(met);
    assert!(matches!(error, HandshakeError::NoCommonProtocol), "{error}");
}

pub(crate) async fn a_dial_with_another_secret_is_refused<F: Fixture>() {
    let (acceptor, dialler) = (two_members().0, two_members().0);
    let met = meet_as::<F>(&acceptor, &dialler, F::ours(), F::ours()).await;
    let error = refused_by_acceptor(met);
    assert!(matches!(error, HandshakeError::Decrypt), "{error}");
}

pub(crate) async fn an_untrusted_dialler_is_refused<F: Fixture>() {
    let dialler = anyone();
    let friend = two_members().0.identity();
    let acceptor = NetCredential::generate(Trust::keys([friend]));
    let met = meet_as::<F>(&acceptor, &dialler, F::ours(), F::ours()).await;
    let (ours, theirs) = both_failed(met);
    assert!(
        matches!(&ours, HandshakeError::UntrustedPeer { identity } if *identity == dialler.identity()),
        "{ours}"
    );
    assert!(
        matches!(
            &theirs,
            HandshakeError::Refused {
                reason: Refusal::Key
            }
        ),
        "{theirs}"
    );
}

pub(crate) async fn a_refused_dialler_learns_the_reason<F: Fixture>() {
    let codes = [1, 2, 4, 5, 6, 200];
    for reason in codes.map(Refusal::from_code) {
        let (acceptor, dialler) = two_members();
        let trust = acceptor.trust().clone().refusing(move |_| Some(reason));
        let acceptor = acceptor.with_trust(trust);
        let met = meet_as::<F>(&acceptor, &dialler, F::ours(), F::ours()).await;
        let (ours, theirs) = both_failed(met);
        assert!(
            matches!(&ours, HandshakeError::PeerRefused { identity, reason: r }
                if *identity == dialler.identity() && *r == reason),
            "{ours}"
        );
        assert!(
            matches!(&theirs, HandshakeError::Refused { reason: r } if *r == reason),
            "{theirs}"
        );
    }
}

pub(crate) async fn both_sides_learn_the_address_that_the_other_states<F: Fixture>() {
    let [a, b] = ["192.0.2.1:7946", "[2001:db8::1]:1"].map(|addr| addr.parse().unwrap());
    for [acceptor_states, dialler_states] in [[None, None], [Some(a), None], [Some(b), Some(a)]] {
        let (acceptor, dialler) = two_members();
        for (credential, addr) in [(&acceptor, acceptor_states), (&dialler, dialler_states)] {
            addr.into_iter()
                .for_each(|addr| credential.state_addr(addr));
        }
        let (a, b) = meet_as::<F>(&acceptor, &dialler, F::ours(), F::ours()).await;
        assert_eq!(a.unwrap().stated_addr(), dialler_states);
        assert_eq!(b.unwrap().stated_addr(), acceptor_states);
    }
}

pub(crate) async fn an_untrusted_acceptor_is_refused<F: Fixture>() {
    let acceptor = anyone();
    let friend = two_members().0.identity();
    let dialler = NetCredential::generate(Trust::keys([friend]));
    let (a, b) = meet_as::<F>(&acceptor, &dialler, F::ours(), F::ours()).await;
    assert!(a.is_err());
    let error = b.err().unwrap().downcast::<HandshakeError>().unwrap();
    assert!(
        matches!(&error, HandshakeError::UntrustedPeer { identity } if *identity == acceptor.identity()),
        "{error}"
    );
}
