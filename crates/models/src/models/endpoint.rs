//! An endpoint with the engine's own core, over a network that loses every datagram.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use super::{clock::Clock, world::run};
use crate::{
    Config, Endpoint, Identity,
    census::Census,
    driver::{
        BoundSocket, Commands, Core, Network, Sending, Settings, SocketKey, SocketProvider,
        handover::{CoreTask, IoHandle, Shared},
    },
    signal::Signal,
    sync::thread::{self, JoinHandle},
};

struct LosesAll;

impl Network for LosesAll {
    fn send(&mut self, _: SocketKey, _: &quinn_udp::Transmit<'_>) -> Sending {
        Sending::Sent
    }

    fn max_segments(&self, _: SocketKey) -> usize {
        1
    }

    fn report_undelivered(&mut self, _: SocketKey, _: bool) {}

    fn close(&mut self, _: SocketKey) {}
}

impl SocketProvider for LosesAll {
    fn bind(&self, _: SocketKey, local: SocketAddr) -> io::Result<BoundSocket> {
        Ok(BoundSocket {
            local,
            refusal: None,
        })
    }

    fn source(&self, _: SocketAddr) -> io::Result<IpAddr> {
        Ok(Ipv4Addr::LOCALHOST.into())
    }

    fn has_address(&self, _: SocketAddr) -> bool {
        true
    }

    fn share_network(&self, _: IpAddr, _: IpAddr) -> bool {
        false
    }

    fn census(&self) -> Option<Census> {
        None
    }
}

/// A task like `driver::thread`'s.
struct Task {
    core: Core,
    clock: Arc<Clock>,
}

impl CoreTask for Task {
    fn take_commands(&mut self) {
        self.core.take_commands(self.clock.now());
    }

    fn advance(&mut self) -> bool {
        let has_more = self.advance_here(32);
        self.core.release(&mut LosesAll);
        has_more
    }

    fn advance_here(&mut self, turns: usize) -> bool {
        self.core.advance(self.clock.now(), turns, &mut LosesAll)
    }

    fn deadline(&self) -> Option<Instant> {
        self.core.deadline()
    }

    fn has_commands(&self) -> bool {
        self.core.commands().has_some()
    }

    fn is_releasable(&self) -> bool {
        self.core.is_closed() || self.core.has_releasable_sockets()
    }

    fn is_closed(&self) -> bool {
        self.core.is_closed()
    }
}

/// An endpoint whose dials nobody answers, and the I/O thread.
pub(super) fn unanswered() -> (Arc<Endpoint>, Arc<Clock>, JoinHandle<()>) {
    // Made once: its key is a fresh one, and no model depends on it.
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    let identity = IDENTITY.get_or_init(Identity::generate);
    let config = Config {
        handshake_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    let flush = config.flush;
    let settings = Settings::new(identity, config).expect("settings");
    let shared = Shared::new(Signal::new().expect("a model's"));
    let io_handle = Arc::new(IoHandle::new(shared.clone()));
    let commands = Commands::new(io_handle.clone(), flush);
    let (core, endpoint) = Endpoint::assemble(identity, settings, commands, Arc::new(LosesAll));
    let clock = Arc::<Clock>::default();
    io_handle.send(Task {
        core,
        clock: clock.clone(),
    });
    let thread = {
        let clock = clock.clone();
        thread::spawn(move || run(&shared, &clock))
    };
    (Arc::new(endpoint), clock, thread)
}
