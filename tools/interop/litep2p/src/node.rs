//! A litep2p that runs by itself, and a handle to it: connect, disconnect, streams, identify.
//!
//! litep2p runs a loop for every protocol; `Protocol` is that loop, the same for all.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures::StreamExt;
use litep2p::{
    Litep2p, Litep2pEvent, PeerId, ProtocolName,
    codec::ProtocolCodec,
    config::ConfigBuilder,
    crypto::ed25519::Keypair,
    protocol::{
        Direction, TransportEvent, TransportService, UserProtocol,
        libp2p::{
            identify::{self, IdentifyEvent},
            ping::{self, PingEvent},
        },
    },
    substream::Substream,
    transport::quic::config::Config as QuicConfig,
    types::{SubstreamId, multiaddr::Multiaddr},
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Failure, PING, PROTOCOLS, serve, tell};

/// Longer than any case, so that no timeout occurs.
const NEVER: Duration = Duration::from_secs(3600);

type Answer<T> = oneshot::Sender<Result<T, Failure>>;

enum Order {
    Open(PeerId, Answer<Substream>),
    Disconnect(PeerId),
}

#[derive(Clone)]
pub struct Node {
    dials: mpsc::Sender<(Multiaddr, Answer<()>)>,
    protocols: HashMap<&'static str, mpsc::Sender<Order>>,
    pub addresses: Vec<Multiaddr>,
    connected: watch::Receiver<HashSet<PeerId>>,
    pinged: watch::Receiver<HashSet<PeerId>>,
    identified: watch::Receiver<Option<Value>>,
}

impl Node {
    /// A listener answers pings by the project's own protocol, which cannot send a ping on demand; so a
    /// dialer has a protocol of this program under that name.
    pub fn start(key: Keypair, listen: Vec<Multiaddr>) -> Result<(Self, PeerId), Failure> {
        let is_listener = !listen.is_empty();
        let (pings, mut pings_done) = ping::ConfigBuilder::new().with_ping_interval(NEVER).build();
        let (identify, mut identifies) = identify::Config::new("/ipfs/0.1.0".into(), None);
        let mut config = ConfigBuilder::new()
            .with_keypair(key)
            .with_quic(QuicConfig {
                listen_addresses: listen,
                // It is also the idle timeout of connections.
                connection_open_timeout: NEVER,
                ..QuicConfig::default()
            })
            .with_libp2p_identify(identify)
            .with_keep_alive_timeout(NEVER);
        if is_listener {
            config = config.with_libp2p_ping(pings);
        }

        let (connected_sender, connected) = watch::channel(HashSet::new());
        let (pinged_sender, pinged) = watch::channel(HashSet::new());
        let (identified_sender, identified) = watch::channel(None);
        let (dials, mut dialed) = mpsc::channel::<(Multiaddr, Answer<()>)>(8);
        let mut node = Self {
            dials,
            protocols: HashMap::new(),
            addresses: Vec::new(),
            connected,
            pinged,
            identified,
        };
        let mut loops = Vec::new();
        for name in PROTOCOLS.into_iter().chain((!is_listener).then_some(PING)) {
            let (orders, ordered) = mpsc::channel(8);
            node.protocols.insert(name, orders);
            loops.push((name, ordered));
        }
        for (name, orders) in loops {
            config = config.with_user_protocol(Box::new(Protocol {
                name,
                orders,
                node: node.clone(),
            }));
        }

        let mut litep2p = Litep2p::new(config.build())?;
        let id = *litep2p.local_peer_id();
        node.addresses = litep2p.listen_addresses().cloned().collect();
        tokio::spawn(async move {
            while let Some(PingEvent::Ping { peer, .. }) = pings_done.next().await {
                pinged_sender.send_modify(|peers| {
                    peers.insert(peer);
                });
            }
        });
        tokio::spawn(async move {
            while let Some(IdentifyEvent::PeerIdentified {
                user_agent,
                supported_protocols,
                observed_address,
                ..
            }) = identifies.next().await
            {
                let protocols: Vec<&str> = supported_protocols.iter().map(|each| &**each).collect();
                identified_sender.send_replace(Some(json!({
                    "agent": user_agent,
                    "protocols": protocols,
                    "observed": observed_address.to_string(),
                })));
            }
        });
        tokio::spawn(async move {
            let mut dials: HashMap<PeerId, Answer<()>> = HashMap::new();
            loop {
                tokio::select! {
                    dial = dialed.recv() => {
                        let Some((address, done)) = dial else { return };
                        if let Some(peer) = PeerId::try_from_multiaddr(&address) {
                            dials.insert(peer, done);
                        }
                        if let Err(error) = litep2p.dial_address(address.clone()).await {
                            failed(&mut dials, &address, format!("{error:?}"));
                        }
                    }
                    event = litep2p.next_event() => match event {
                        None => return,
                        Some(Litep2pEvent::ConnectionEstablished { peer, .. }) => {
                            if is_listener {
                                tell(json!({"event": "connected", "peer": peer.to_string()}));
                            }
                            connected_sender.send_modify(|peers| {
                                peers.insert(peer);
                            });
                            if let Some(done) = dials.remove(&peer) {
                                done.send(Ok(())).ok();
                            }
                        }
                        Some(Litep2pEvent::ConnectionClosed { peer, .. }) => {
                            connected_sender.send_modify(|peers| {
                                peers.remove(&peer);
                            });
                        }
                        Some(Litep2pEvent::DialFailure { address, error }) => {
                            failed(&mut dials, &address, format!("{error:?}"));
                        }
                        Some(Litep2pEvent::ListDialFailures { errors }) => {
                            for (address, error) in errors {
                                failed(&mut dials, &address, format!("{error:?}"));
                            }
                        }
                    }
                }
            }
        });
        Ok((node, id))
    }

    pub async fn connect(&self, address: &Multiaddr) -> Result<(), Failure> {
        let (done, outcome) = oneshot::channel();
        self.dials.send((address.clone(), done)).await?;
        outcome.await?
    }

    pub async fn open(&self, peer: PeerId, protocol: &'static str) -> Result<Substream, Failure> {
        let (done, outcome) = oneshot::channel();
        let orders = self
            .protocols
            .get(protocol)
            .ok_or("no such protocol here")?;
        orders.send(Order::Open(peer, done)).await?;
        outcome.await?
    }

    /// End the connection. litep2p has no codes for that.
    pub async fn disconnect(&self, peer: PeerId) {
        if let Some(orders) = self.protocols.values().next() {
            orders.send(Order::Disconnect(peer)).await.ok();
        }
    }

    /// Wait until litep2p knows that the connection has ended.
    pub async fn disconnected(&self, peer: PeerId) -> Result<(), Failure> {
        let mut connected = self.connected.clone();
        connected.wait_for(|peers| !peers.contains(&peer)).await?;
        Ok(())
    }

    /// Wait for the ping that the project makes by itself on every new connection.
    pub async fn pinged(&self, peer: PeerId) -> Result<(), Failure> {
        let mut pinged = self.pinged.clone();
        pinged.wait_for(|peers| peers.contains(&peer)).await?;
        Ok(())
    }

    /// The identify message of the other side.
    pub async fn identified(&self) -> Result<Value, Failure> {
        let mut identified = self.identified.clone();
        let found = identified.wait_for(Option::is_some).await?.clone();
        Ok(found.expect("it was waited for"))
    }
}

fn failed(dials: &mut HashMap<PeerId, Answer<()>>, address: &Multiaddr, error: String) {
    let peer = PeerId::try_from_multiaddr(address);
    if let Some(done) = peer.and_then(|peer| dials.remove(&peer)) {
        done.send(Err(error.into())).ok();
    }
}

struct Protocol {
    name: &'static str,
    orders: mpsc::Receiver<Order>,
    node: Node,
}

#[async_trait::async_trait]
impl UserProtocol for Protocol {
    fn protocol(&self) -> ProtocolName {
        ProtocolName::from(self.name)
    }

    fn codec(&self) -> ProtocolCodec {
        ProtocolCodec::Unspecified
    }

    async fn run(mut self: Box<Self>, mut service: TransportService) -> litep2p::Result<()> {
        let mut opening: HashMap<SubstreamId, Answer<Substream>> = HashMap::new();
        // Requested by a task that got the connection before this loop did.
        let mut early: Vec<(PeerId, Answer<Substream>)> = Vec::new();
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    None => return Ok(()),
                    Some(Order::Disconnect(peer)) => {
                        if let Err(error) = service.force_close(peer) {
                            eprintln!("{peer}: {error}");
                        }
                    }
                    Some(Order::Open(peer, done)) => match service.open_substream(peer) {
                        Ok(id) => drop(opening.insert(id, done)),
                        Err(_) => early.push((peer, done)),
                    }
                },
                event = service.next() => match event {
                    None => return Ok(()),
                    Some(TransportEvent::ConnectionEstablished { peer, .. }) => {
                        for (wanted, done) in std::mem::take(&mut early) {
                            match service.open_substream(wanted) {
                                Ok(id) => drop(opening.insert(id, done)),
                                Err(error) if wanted == peer => drop(done.send(Err(error.into()))),
                                Err(_) => early.push((wanted, done)),
                            }
                        }
                    }
                    Some(TransportEvent::SubstreamOpened { peer, direction, substream, .. }) => {
                        match direction {
                            Direction::Outbound(id) => {
                                if let Some(done) = opening.remove(&id) {
                                    done.send(Ok(substream)).ok();
                                }
                            }
                            Direction::Inbound => {
                                let (name, node) = (self.name, self.node.clone());
                                tokio::spawn(async move {
                                    if let Err(error) = serve(name, &node, peer, substream).await {
                                        eprintln!("{name}: {error}");
                                    }
                                });
                            }
                        }
                    }
                    Some(TransportEvent::SubstreamOpenFailure { substream, error }) => {
                        if let Some(done) = opening.remove(&substream) {
                            done.send(Err(error.into())).ok();
                        }
                    }
                    Some(_) => {}
                },
            }
        }
    }
}
