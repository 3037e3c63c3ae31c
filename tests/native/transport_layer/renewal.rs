//! A leaf that renews its invite, and clocks that differ.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::credential::{Claims, Invite, InviteId, renew_invites};
use gossip_transport::rt::{Task, unix_time};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::TransportLayerSocket;
use gossip_transport::{ClusterSecret, NetCredential, Trust};

use crate::support::tab::tab_at;
use crate::support::{open, soon};

const HOUR: Duration = Duration::from_secs(3600);

/// Returns an invite of an issuer whose clock is ahead by `ahead`.
fn issue(secret: &ClusterSecret, ahead: Duration, lifetime: Duration) -> Invite {
    let id = InviteId::generate(unix_time() + ahead, lifetime).unwrap();
    Invite::issue(secret, Claims::new(id), "cluster".to_owned(), Vec::new()).unwrap()
}

#[tokio::test]
async fn an_invite_that_is_refused_as_expired_is_renewed_at_once_though_it_is_valid_by_the_own_clock()
 {
    let secret = ClusterSecret::generate();
    let trust = Trust::secret(secret.clone()).accepting_invites();
    let member: TransportLayerSocket<_, Bytes> =
        open(TcpTransport::default(), NetCredential::generate(trust)).await;
    // Nobody accepts one of so long a life, and the holder would renew it in 24 days.
    let too_far = issue(&secret, HOUR, InviteId::MAX_LIFETIME);
    let held = Trust::invite(too_far);
    let asked = Arc::new(AtomicUsize::new(0));
    let renewing = {
        let (held, asked) = (held.clone(), Arc::clone(&asked));
        Task::spawn(async move {
            let renew = || {
                asked.fetch_add(1, Ordering::Relaxed);
                let renewed = issue(&secret, Duration::ZERO, HOUR);
                async { Ok(renewed) }
            };
            renew_invites(&held, renew).await;
        })
    };
    let leaf = tab_at(TcpTransport::default(), &NetCredential::generate(held)).await;
    leaf.send(member.local_addr(), Bytes::from_static(b"hello"))
        .await
        .unwrap();
    let (_, message) = soon(member.recv()).await.unwrap();
    assert_eq!(message, "hello");
    // The new one is not refused, so it is renewed in its time.
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    drop(renewing);
}
