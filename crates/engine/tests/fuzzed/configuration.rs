//! Configurations from a fuzzer: what `check` takes, an endpoint runs with. A connection may
//! then fail for want of time, but nothing may panic, spin, or wait for ever.

use std::time::Duration;

use libp2p_quic_engine::{
    CloseKind, Config, CongestionControl,
    simulation::{World, operations},
};

use crate::bytes::Bytes;

const MOST_STEPS: u32 = 30_000;

fn config(bytes: &mut Bytes<'_>) -> Config {
    let mut config = Config::default();
    while !bytes.is_empty() {
        match bytes.u8() % 19 {
            0 => config.handshake_timeout = bytes.duration(),
            1 => config.idle_timeout = bytes.duration(),
            2 => config.keep_alive_interval = Some(bytes.duration()),
            3 => config.keep_alive_interval = None,
            4 => config.linger = bytes.duration(),
            5 => config.stream_receive_window = bytes.number(),
            6 => config.connection_receive_window = bytes.number(),
            7 => config.send_window = bytes.number(),
            8 => config.read_buffer = bytes.number() as usize,
            9 => config.write_buffer = bytes.number() as usize,
            10 => config.max_incoming_streams = bytes.number() as u32,
            11 => config.max_accept_backlog = bytes.number() as usize,
            12 => config.retry_above = Some(bytes.number() as usize),
            13 => config.retry_above = None,
            14 => config.max_connections = Some(bytes.number() as usize),
            15 => config.initial_rtt = bytes.duration(),
            16 => config.max_datagram_size = bytes.u16(),
            17 => {
                config.congestion_control = match bytes.u8() % 3 {
                    0 => CongestionControl::Bbr,
                    1 => CongestionControl::Cubic,
                    _ => CongestionControl::NewReno,
                }
            }
            _ => {
                let flags = bytes.u8();
                config.segmentation_offload = flags & 1 != 0;
                config.accept_draft_29 = flags & 2 != 0;
                config.migration = flags & 4 != 0;
            }
        }
    }
    config
}

pub(crate) fn run(data: &[u8]) {
    let config = config(&mut Bytes(data));
    if config.check().is_err() {
        return;
    }
    let mut world = World::new(1);
    let ours = world.node(config);
    let theirs = world.node(Config::default());
    // Both roles.
    for (server, client) in [(&ours, &theirs), (&theirs, &ours)] {
        let listener = server.listen(server.v4(0)).expect("a free port");
        let (to, who) = (listener.local_addr(), server.peer_id());
        let dialed = client.connect(to, Some(who)).expect("a dial");
        let exchange = world.spawn(async move {
            operations::connected(&dialed).await?;
            if let Ok(stream) = operations::open(&dialed).await
                && operations::write_all(&stream, &[7; 3000]).await.is_ok()
            {
                stream.finish();
                let _ = operations::finished(&stream).await;
            }
            dialed.close(0, b"");
            Err::<(), _>(operations::closed(&dialed).await)
        });
        let sink = world.spawn(async move {
            while let Ok(connection) = operations::accept(&listener).await {
                while let Ok(stream) = operations::accept_stream(&connection).await {
                    let _ = operations::read_to_end(&stream).await;
                }
                let error = operations::closed(&connection).await;
                assert_ne!(error.kind, CloseKind::Internal, "{error}");
            }
        });
        // What waits longer than a fuzzer can was allowed to.
        run_a_while(&mut world, Duration::from_secs(120), |_| exchange.is_done());
        if exchange.is_done() {
            let error = world.block_on(exchange).expect_err("an ending");
            assert_ne!(error.kind, CloseKind::Internal, "{error}");
        }
        drop(sink);
    }
    for node in [&ours, &theirs] {
        node.close(0, b"");
    }
    run_a_while(&mut world, Duration::from_secs(10), |_| false);
    world.abandon_tasks();
}

/// [`World::run_until`], with an end to timers of nanoseconds too.
fn run_a_while(world: &mut World, most: Duration, mut condition: impl FnMut(&mut World) -> bool) {
    let mut steps = 0;
    world.run_until(most, |world| {
        steps += 1;
        steps > MOST_STEPS || condition(world)
    });
}
