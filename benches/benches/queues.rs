//! The queues of a socket, from `send` to `recv` over the network in memory, without a cipher and
//! without a system call. The floor is one bounded channel.

use std::net::SocketAddr;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use futures::channel::mpsc::channel;
use futures::{SinkExt as _, StreamExt as _};
use gossip_benches::peers::config;
use gossip_transport::memory::MemoryNetwork;
use gossip_transport::{NetCredential, TransportLayerTransport, Trust};

fn main() {
    divan::main();
}

/// Messages of a sample. Several peers send equal shares of them.
const COUNT: usize = 1024;
const LEN: usize = 64;
const PEERS: [usize; 3] = [1, 8, 64];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

#[divan::bench(args = PEERS)]
fn socket(bencher: Bencher<'_, '_>, peers: usize) {
    let runtime = runtime();
    let network = MemoryNetwork::new(1);
    let open = |n: u8| {
        let addr = SocketAddr::from(([10, 0, 0, n], 7000));
        let credential = NetCredential::generate(Trust::dangerously_anyone());
        let host = network.host(addr.ip());
        let transport =
            TransportLayerTransport::<_, Bytes>::with_config(host, credential, config());
        runtime
            .block_on(transport.open(addr))
            .expect("the address is free")
    };
    let receiver = open(0);
    let senders: Vec<_> = (1..=peers as u8).map(open).collect();
    let (to, receiver, senders) = (receiver.local_addr(), &receiver, &senders);
    let message = Bytes::from(vec![7; LEN]);
    bencher.counter(ItemsCount::new(COUNT)).bench_local(|| {
        let sending = senders.iter().map(|sender| {
            let message = &message;
            async move {
                for _ in 0..COUNT / peers {
                    sender.send(to, message.clone()).await?;
                }
                anyhow::Ok(())
            }
        });
        let receiving = async {
            for _ in 0..COUNT {
                receiver.recv().await?;
            }
            anyhow::Ok(())
        };
        runtime
            .block_on(async {
                futures::try_join!(futures::future::try_join_all(sending), receiving)
            })
            .expect("all messages arrive");
    });
}

#[divan::bench(args = PEERS)]
fn one_channel(bencher: Bencher<'_, '_>, peers: usize) {
    let runtime = runtime();
    let message = Bytes::from(vec![7; LEN]);
    let (sender, mut receiver) = channel(COUNT);
    bencher.counter(ItemsCount::new(COUNT)).bench_local(|| {
        let sending = (0..peers).map(|_| {
            let (mut sender, message) = (sender.clone(), &message);
            async move {
                for _ in 0..COUNT / peers {
                    sender.send(message.clone()).await?;
                }
                anyhow::Ok(())
            }
        });
        let receiving = async {
            for _ in 0..COUNT {
                receiver.next().await;
            }
            anyhow::Ok(())
        };
        runtime
            .block_on(async {
                futures::try_join!(futures::future::try_join_all(sending), receiving)
            })
            .expect("all messages arrive");
    });
}
