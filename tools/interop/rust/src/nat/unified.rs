//! The program for the hole-punch suite of libp2p's unified-testing: relay, listener or dialer, as
//! the environment says. tools/interop/unified/README.md has the rules.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    multiaddr::Protocol,
    ping,
    swarm::{ConnectionId, SwarmEvent},
};
use tokio::time::{sleep, timeout};

use super::{
    HomeBehaviour, HomeBehaviourEvent, home_swarm, identified, is_relayed, relay_swarm, reserved,
    until,
};
use crate::Failure;

/// The harness ends every program after this time.
const HARNESS_LIMIT: Duration = Duration::from_secs(180);
/// For what the other programs write into Redis.
const KEY_LIMIT: Duration = Duration::from_secs(60);
/// For the direct connection: three attempts of 5 s each, and their exchanges.
const PUNCH_LIMIT: Duration = Duration::from_secs(30);
/// The harness has its programs poll.
const POLL_EVERY: Duration = Duration::from_millis(50);

pub async fn hole_punch() -> Result<(), Failure> {
    if variable("TRANSPORT")? != "quic-v1" {
        return Err("TRANSPORT must be quic-v1".into());
    }
    let mut store = KeyStore::open()?;
    let role = async {
        match env::var("IS_DIALER").as_deref() {
            Err(_) => relay(&mut store).await,
            Ok("true") => dialer(&mut store).await,
            Ok("false") => listener(&mut store).await,
            Ok(other) => Err(format!("IS_DIALER must be true or false, got {other}").into()),
        }
    };
    timeout(HARNESS_LIMIT, role).await?
}

fn variable(name: &str) -> Result<String, Failure> {
    env::var(name).map_err(|_| format!("{name} must be set").into())
}

/// The address to listen on: a free port of the IP address that is in a variable.
fn quic_at(name: &str) -> Result<Multiaddr, Failure> {
    Ok(format!("/ip4/{}/udp/0/quic-v1", variable(name)?).parse()?)
}

async fn relay(store: &mut KeyStore) -> Result<(), Failure> {
    let mut swarm = relay_swarm()?;
    swarm.listen_on(quic_at("RELAY_IP")?)?;
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            // Without it the relay has no address to put into a reservation.
            swarm.add_external_address(address.clone());
            let whole = format!("{address}/p2p/{}", swarm.local_peer_id());
            store.set("relay_multiaddr", &whole)?;
        }
    }
}

/// A home that is connected to the relay, and the relay's address.
async fn home(
    store: &mut KeyStore,
    ip: &str,
) -> Result<(Swarm<HomeBehaviour>, Multiaddr), Failure> {
    let mut swarm = home_swarm()?;
    swarm.listen_on(quic_at(ip)?)?;
    until(&mut swarm, |event| {
        matches!(event, SwarmEvent::NewListenAddr { .. })
    })
    .await;
    let through: Multiaddr = store.wait("relay_multiaddr").await?.parse()?;
    swarm.dial(through.clone())?;
    identified(&mut swarm).await;
    Ok((swarm, through))
}

async fn listener(store: &mut KeyStore) -> Result<(), Failure> {
    let (mut swarm, through) = home(store, "LISTENER_IP").await?;
    reserved(&mut swarm, through).await?;
    store.set("listener_peer_id", &swarm.local_peer_id().to_string())?;
    loop {
        swarm.select_next_some().await;
    }
}

async fn dialer(store: &mut KeyStore) -> Result<(), Failure> {
    let (mut swarm, through) = home(store, "DIALER_IP").await?;
    let target: PeerId = {
        let wait = store.wait("listener_peer_id");
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                found = &mut wait => break found?.parse()?,
                _ = swarm.select_next_some() => {}
            }
        }
    };
    let began = Instant::now();
    swarm.dial(
        through
            .with(Protocol::P2pCircuit)
            .with(Protocol::P2p(target)),
    )?;
    let (until_direct, rtt) = timeout(PUNCH_LIMIT, measured(&mut swarm, target, began))
        .await
        .map_err(|_| format!("no direct connection to {target} within {PUNCH_LIMIT:?}"))?;
    println!(
        "latency:\n  handshake_plus_one_rtt: {:.3}\n  ping_rtt: {:.3}\n  unit: ms",
        (until_direct + rtt).as_secs_f64() * 1000.0,
        rtt.as_secs_f64() * 1000.0,
    );
    Ok(())
}

/// The time until there is a direct connection, and that of the first ping over it.
async fn measured(
    swarm: &mut Swarm<HomeBehaviour>,
    target: PeerId,
    began: Instant,
) -> (Duration, Duration) {
    let mut direct: Option<(ConnectionId, Duration)> = None;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } if peer_id == target && !is_relayed(&endpoint) && direct.is_none() => {
                direct = Some((connection_id, began.elapsed()));
            }
            // Both sides may have dialed, and one of two connections be given up.
            SwarmEvent::ConnectionClosed { connection_id, .. }
                if direct.is_some_and(|(id, _)| id == connection_id) =>
            {
                direct = None;
            }
            SwarmEvent::Behaviour(HomeBehaviourEvent::Ping(ping::Event {
                connection,
                result: Ok(rtt),
                ..
            })) => {
                if let Some((id, until_direct)) = direct
                    && id == connection
                {
                    return (until_direct, rtt);
                }
            }
            SwarmEvent::Behaviour(HomeBehaviourEvent::Dcutr(event)) => eprintln!("{event:?}"),
            SwarmEvent::OutgoingConnectionError { error, .. } => eprintln!("{error}"),
            _ => {}
        }
    }
}

/// The Redis of one test, whose keys begin with the test's key. It has as much of the protocol of
/// Redis (RESP) as GET and SET need. It blocks, as these are answered at once.
struct KeyStore {
    stream: BufReader<TcpStream>,
    test_key: String,
}

impl KeyStore {
    fn open() -> Result<Self, Failure> {
        let stream = TcpStream::connect(variable("REDIS_ADDR")?)
            .map_err(|error| format!("REDIS_ADDR: {error}"))?;
        Ok(Self {
            stream: BufReader::new(stream),
            test_key: variable("TEST_KEY")?,
        })
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let key = format!("{}_{name}", self.test_key);
        self.run(&["SET", &key, value])?;
        Ok(())
    }

    /// Poll until another program has set the value.
    async fn wait(&mut self, name: &str) -> Result<String, Failure> {
        let key = format!("{}_{name}", self.test_key);
        let began = Instant::now();
        while began.elapsed() < KEY_LIMIT {
            if let Some(value) = self.run(&["GET", &key])? {
                return Ok(value);
            }
            sleep(POLL_EVERY).await;
        }
        Err(format!("no program wrote {key} into Redis within {KEY_LIMIT:?}").into())
    }

    /// The value that GET finds; None if there is none, and for SET.
    fn run(&mut self, command: &[&str]) -> Result<Option<String>, Failure> {
        let mut request = format!("*{}\r\n", command.len());
        for part in command {
            request += &format!("${}\r\n{part}\r\n", part.len());
        }
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.trim_end().split_at_checked(1) {
            Some(("+", _) | ("$", "-1")) => Ok(None),
            Some(("$", size)) => {
                let size: usize = size.parse()?;
                let mut value = vec![0; size + "\r\n".len()];
                self.stream.read_exact(&mut value)?;
                value.truncate(size);
                Ok(Some(String::from_utf8(value)?))
            }
            _ => Err(format!("Redis answered {} with {line:?}", command[0]).into()),
        }
    }
}
