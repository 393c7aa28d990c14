//! rust-libp2p's own QUIC transport alone, without swarm and protocol negotiation.

use std::{future::poll_fn, net::SocketAddr, pin::Pin, sync::Arc};

use futures::lock::Mutex;
use libp2p_core::{
    Endpoint, Multiaddr, Transport as _,
    multiaddr::Protocol,
    muxing::StreamMuxerExt,
    transport::{DialOpts, ListenerId, PortUse, TransportEvent},
};
use libp2p_identity::Keypair;
use libp2p_quic::{Config, Connection, Stream, tokio::Transport};

use crate::net::{self, Handshake, Outcome};

pub struct Node {
    transport: Mutex<Transport>,
    address: SocketAddr,
}

impl Node {
    pub async fn new() -> Outcome<Self> {
        let mut transport = Transport::new(Config::new(&Keypair::generate_ed25519()));
        transport.listen_on(ListenerId::next(), multiaddr("127.0.0.1:0".parse()?))?;
        let event = poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await;
        let TransportEvent::NewAddress { listen_addr, .. } = event else {
            return Err("a listener begins with its address".into());
        };
        let port = listen_addr.iter().find_map(|part| match part {
            Protocol::Udp(port) => Some(port),
            _ => None,
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port.ok_or("no port")?));
        Ok(Self {
            transport: Mutex::new(transport),
            address,
        })
    }
}

fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip())
        .with(Protocol::Udp(address.port()))
        .with(Protocol::QuicV1)
}

impl net::Node for Node {
    type Connection = Shared;

    fn address(&self) -> SocketAddr {
        self.address
    }

    async fn accept(&self) -> Outcome<Handshake<Shared>> {
        let mut transport = self.transport.lock().await;
        loop {
            let event = poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).await;
            if let TransportEvent::Incoming { upgrade, .. } = event {
                return Ok(Box::pin(async {
                    Ok(Shared(Arc::new(Mutex::new(upgrade.await?.1))))
                }));
            }
        }
    }

    async fn dial(&self, to: SocketAddr) -> Outcome<Shared> {
        let options = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        let dialing = self.transport.lock().await.dial(multiaddr(to), options)?;
        Ok(Shared(Arc::new(Mutex::new(dialing.await?.1))))
    }
}

/// A muxer stores one waker, so tasks take turns.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Connection>>);

impl net::Connection for Shared {
    type Stream = Stream;

    async fn open(&self) -> Outcome<Stream> {
        let mut connection = self.0.lock().await;
        Ok(poll_fn(|cx| connection.poll_outbound_unpin(cx)).await?)
    }

    async fn accept(&self) -> Outcome<Stream> {
        let mut connection = self.0.lock().await;
        Ok(poll_fn(|cx| connection.poll_inbound_unpin(cx)).await?)
    }
}
