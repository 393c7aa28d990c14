//! A swarm that runs by itself, and a handle to it: connect, disconnect, streams, identify.

use std::{collections::HashMap, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, SwarmBuilder, identify,
    identity::Keypair,
    ping,
    swarm::{
        ConnectionId, NetworkBehaviour, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use libp2p_stream::Control;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Failure, tell};

/// Longer than any case, so that no timeout occurs.
const NEVER: Duration = Duration::from_secs(3600);

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    stream: libp2p_stream::Behaviour,
}

enum Order {
    Connect(Multiaddr, oneshot::Sender<Result<(), Failure>>),
    Disconnect(PeerId),
}

#[derive(Clone)]
pub struct Node {
    orders: mpsc::Sender<Order>,
    control: Control,
    address: watch::Receiver<Option<Multiaddr>>,
    identified: watch::Receiver<Option<identify::Info>>,
}

impl Node {
    pub fn start(key: Keypair, listen: Option<Multiaddr>) -> Result<(Self, PeerId), Failure> {
        let is_listener = listen.is_some();
        let mut swarm = SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_quic()
            .with_behaviour(|key| Behaviour {
                identify: identify::Behaviour::new(identify::Config::new(
                    "/ipfs/0.1.0".into(),
                    key.public(),
                )),
                ping: ping::Behaviour::new(ping::Config::new().with_interval(NEVER)),
                stream: libp2p_stream::Behaviour::new(),
            })?
            .with_swarm_config(|config| config.with_idle_connection_timeout(NEVER))
            .build();
        if let Some(address) = listen {
            swarm.listen_on(address)?;
        }
        let id = *swarm.local_peer_id();
        let control = swarm.behaviour().stream.new_control();
        let (orders, mut ordered) = mpsc::channel(8);
        let (address_sender, address) = watch::channel(None);
        let (identified_sender, identified) = watch::channel(None);
        tokio::spawn(async move {
            let mut dials: HashMap<ConnectionId, oneshot::Sender<Result<(), Failure>>> =
                HashMap::new();
            loop {
                tokio::select! {
                    order = ordered.recv() => match order {
                        None => return,
                        Some(Order::Disconnect(peer)) => drop(swarm.disconnect_peer_id(peer)),
                        Some(Order::Connect(address, done)) => {
                            let options = match options(address) {
                                Ok(options) => options,
                                Err(error) => {
                                    done.send(Err(error)).ok();
                                    continue;
                                }
                            };
                            let dial = options.connection_id();
                            match swarm.dial(options) {
                                Ok(()) => drop(dials.insert(dial, done)),
                                Err(error) => drop(done.send(Err(error.into()))),
                            }
                        }
                    },
                    event = swarm.select_next_some() => match event {
                        SwarmEvent::NewListenAddr { address, .. } => {
                            address_sender.send_replace(Some(address));
                        }
                        SwarmEvent::ConnectionEstablished { connection_id, peer_id, .. } => {
                            if is_listener {
                                tell(json!({"event": "connected", "peer": peer_id.to_string()}));
                            }
                            if let Some(done) = dials.remove(&connection_id) {
                                done.send(Ok(())).ok();
                            }
                        }
                        SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                            if let Some(done) = dials.remove(&connection_id) {
                                done.send(Err(format!("{error:?}").into())).ok();
                            }
                        }
                        SwarmEvent::Behaviour(BehaviourEvent::Identify(
                            identify::Event::Received { info, .. }
                        )) => drop(identified_sender.send_replace(Some(info))),
                        _ => {}
                    },
                }
            }
        });
        Ok((
            Self {
                orders,
                control,
                address,
                identified,
            },
            id,
        ))
    }

    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The address of the socket, as soon as it is bound.
    pub async fn listening(&self) -> Result<Multiaddr, Failure> {
        let mut address = self.address.clone();
        let found = address.wait_for(Option::is_some).await?.clone();
        Ok(found.expect("it was waited for"))
    }

    /// The identify message of the other side.
    pub async fn identified(&self) -> Result<identify::Info, Failure> {
        let mut identified = self.identified.clone();
        let found = identified.wait_for(Option::is_some).await?.clone();
        Ok(found.expect("it was waited for"))
    }

    pub async fn connect(&self, address: &Multiaddr) -> Result<(), Failure> {
        let (done, outcome) = oneshot::channel();
        self.orders
            .send(Order::Connect(address.clone(), done))
            .await?;
        outcome.await?
    }

    pub async fn disconnect(&self, peer: PeerId) {
        self.orders.send(Order::Disconnect(peer)).await.ok();
    }
}

fn options(address: Multiaddr) -> Result<DialOpts, Failure> {
    let Some(libp2p::multiaddr::Protocol::P2p(peer)) = address.iter().last() else {
        return Err("no peer id at the end of the address".into());
    };
    // Always, because a killed peer still looks connected.
    Ok(DialOpts::peer_id(peer)
        .condition(PeerCondition::Always)
        .addresses(vec![address])
        .build())
}
