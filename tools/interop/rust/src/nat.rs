//! What tools/nat asks of rust-libp2p: a relay, and a home behind a router that listens or dials
//! through it. Every fact is a line of JSON; the program ends with its standard input.

pub mod unified;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    core::ConnectedPoint,
    dcutr, identify,
    identity::Keypair,
    multiaddr::Protocol,
    noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    yamux,
};
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::{Failure, tell};

const NEVER: Duration = Duration::from_secs(3600);

#[derive(NetworkBehaviour)]
struct RelayBehaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay: relay::Behaviour,
}

#[derive(NetworkBehaviour)]
struct HomeBehaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay: relay::client::Behaviour,
    dcutr: dcutr::Behaviour,
}

fn identify(key: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new("/ipfs/0.1.0".into(), key.public()))
}

fn option<'a>(options: &'a HashMap<String, String>, name: &str) -> Result<&'a str, Failure> {
    let value = options.get(name).map(String::as_str);
    value.ok_or_else(|| format!("--{name} is missing").into())
}

async fn end_of_input() {
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
}

fn relay_swarm() -> Result<Swarm<RelayBehaviour>, Failure> {
    Ok(
        SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
            .with_tokio()
            .with_quic()
            .with_behaviour(|key| RelayBehaviour {
                identify: identify(key),
                ping: ping::Behaviour::new(ping::Config::new()),
                relay: relay::Behaviour::new(key.public().to_peer_id(), relay::Config::default()),
            })?
            .with_swarm_config(|config| config.with_idle_connection_timeout(NEVER))
            .build(),
    )
}

fn home_swarm() -> Result<Swarm<HomeBehaviour>, Failure> {
    let pings = ping::Config::new().with_interval(Duration::from_secs(1));
    Ok(
        SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
            .with_tokio()
            .with_quic()
            .with_relay_client(noise::Config::new, yamux::Config::default)?
            .with_behaviour(|key, relay| HomeBehaviour {
                identify: identify(key),
                ping: ping::Behaviour::new(pings),
                relay,
                dcutr: dcutr::Behaviour::new(key.public().to_peer_id()),
            })?
            .with_swarm_config(|config| config.with_idle_connection_timeout(NEVER))
            .build(),
    )
}

pub async fn relay(options: &HashMap<String, String>) -> Result<(), Failure> {
    let mut swarm = relay_swarm()?;
    let address: Multiaddr = option(options, "listen")?.parse()?;
    swarm.add_external_address(address.clone());
    swarm.listen_on(address)?;
    let peer = *swarm.local_peer_id();
    let mut is_told = false;
    let mut ended = Box::pin(end_of_input());
    loop {
        tokio::select! {
            () = &mut ended => return Ok(()),
            event = swarm.select_next_some() => {
                if let SwarmEvent::NewListenAddr { .. } = event
                    && !std::mem::replace(&mut is_told, true)
                {
                    tell(json!({"event": "ready", "peer": peer.to_string()}));
                }
            }
        }
    }
}

fn is_relayed(endpoint: &ConnectedPoint) -> bool {
    endpoint.is_relayed()
}

/// Run the swarm until this is true of an event.
async fn until(
    swarm: &mut Swarm<HomeBehaviour>,
    mut found: impl FnMut(&SwarmEvent<HomeBehaviourEvent>) -> bool,
) {
    loop {
        let event = swarm.select_next_some().await;
        if found(&event) {
            return;
        }
    }
}

/// Run the swarm until the relay and this home know each other's addresses. No relayed connection may
/// be made before.
async fn identified(swarm: &mut Swarm<HomeBehaviour>) {
    let (mut has_told, mut has_learned) = (false, false);
    until(swarm, |event| {
        if let SwarmEvent::Behaviour(HomeBehaviourEvent::Identify(event)) = event {
            has_told |= matches!(event, identify::Event::Sent { .. });
            has_learned |= matches!(event, identify::Event::Received { .. });
        }
        has_told && has_learned
    })
    .await;
}

/// Reserve a slot at the relay.
async fn reserved(swarm: &mut Swarm<HomeBehaviour>, through: Multiaddr) -> Result<(), Failure> {
    swarm.listen_on(through.with(Protocol::P2pCircuit))?;
    until(swarm, |event| {
        matches!(
            event,
            SwarmEvent::Behaviour(HomeBehaviourEvent::Relay(
                relay::client::Event::ReservationReqAccepted { .. }
            ))
        )
    })
    .await;
    Ok(())
}

pub async fn home(options: &HashMap<String, String>) -> Result<(), Failure> {
    let mut swarm = home_swarm()?;
    swarm.listen_on(option(options, "listen")?.parse()?)?;
    until(&mut swarm, |event| {
        matches!(event, SwarmEvent::NewListenAddr { .. })
    })
    .await;
    let through: Multiaddr = option(options, "relay")?.parse()?;
    let Some(Protocol::P2p(relay_peer)) = through.iter().last() else {
        return Err("no peer id at the end of --relay".into());
    };
    swarm.dial(through.clone())?;
    identified(&mut swarm).await;
    let peer = swarm.local_peer_id().to_string();
    let dialed: Option<PeerId> = options.get("dial").map(|it| it.parse()).transpose()?;
    match dialed {
        None => reserved(&mut swarm, through).await?,
        Some(target) => {
            swarm.dial(
                through
                    .with(Protocol::P2pCircuit)
                    .with(Protocol::P2p(target)),
            )?;
        }
    }
    tell(json!({"event": "ready", "peer": peer}));
    let limit: f64 = options.get("limit").map_or(Ok(20.0), |it| it.parse())?;
    let hold: f64 = options.get("hold").map_or(Ok(0.0), |it| it.parse())?;
    let mut began = Instant::now();
    // Connections that are not relayed, and when a ping may tell the result.
    let (mut direct, mut held_at) = (0_usize, Instant::now());
    let (mut is_direct, mut is_pinged) = (false, dialed.is_none());
    let mut ended = Box::pin(end_of_input());
    let mut late = Box::pin(tokio::time::sleep(Duration::from_secs_f64(limit)));
    let mut is_late = false;
    loop {
        let event = tokio::select! {
            () = &mut ended => return Ok(()),
            () = &mut late, if !is_late => {
                is_late = true;
                continue;
            }
            event = swarm.select_next_some() => event,
        };
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id, endpoint, ..
            } if peer_id != relay_peer => {
                direct += usize::from(!is_relayed(&endpoint));
                if is_relayed(&endpoint) {
                    began = Instant::now();
                    late.as_mut()
                        .reset(tokio::time::Instant::now() + Duration::from_secs_f64(limit));
                    tell(json!({"event": "relayed"}));
                } else if !std::mem::replace(&mut is_direct, true) {
                    held_at = Instant::now() + Duration::from_secs_f64(hold);
                    tell(json!({
                        "event": "direct",
                        "peer": peer_id.to_string(),
                        "seconds": began.elapsed().as_secs_f64(),
                        "address": endpoint.get_remote_address().to_string(),
                        "direction": if endpoint.is_dialer() { "outbound" } else { "inbound" },
                    }));
                }
            }
            SwarmEvent::Behaviour(HomeBehaviourEvent::Ping(ping::Event {
                peer,
                result: Ok(rtt),
                ..
            })) if Some(peer) == dialed && (is_direct || is_late) => {
                if Instant::now() >= held_at && !std::mem::replace(&mut is_pinged, true) {
                    tell(json!({
                        "event": "pinged",
                        "ms": rtt.as_secs_f64() * 1000.0,
                        "direct": direct > 0,
                    }));
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id, endpoint, ..
            } if peer_id != relay_peer && !is_relayed(&endpoint) => {
                direct = direct.saturating_sub(1);
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => eprintln!("{error}"),
            _ => {}
        }
    }
}
