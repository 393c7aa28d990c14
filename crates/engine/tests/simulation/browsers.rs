//! A listener that offers HTTP/3 beside libp2p: libp2p's dialers notice nothing of it, and a browser's handshake
//! completes without a host key.

use libp2p_quic_engine::{
    CloseKind, Config, ConnectionError, Party,
    simulation::{Conditions, World, operations},
};

use crate::kit::{Pair, a_byte_crosses, config, each_seed, leave_nothing, ms, secs};

/// RFC 9114 section 8.1.
const H3_NO_ERROR: u64 = 0x100;

/// RFC 9001 section 4.8, and RFC 7301's `no_application_protocol`.
const NO_APPLICATION_PROTOCOL: u64 = 0x178;

#[test]
fn libp2p_takes_as_many_round_trips_as_without() {
    each_seed(
        "browsers::libp2p_takes_as_many_round_trips_as_without",
        50,
        |seed| {
            let mut pair = Pair::new(seed);
            pair.listener.offer_h3();
            let (ours, theirs) = pair.connect();
            assert_eq!(ours.peer_id(), Some(pair.server.peer_id()));
            assert_eq!(theirs.peer_id(), Some(pair.client.peer_id()));
            assert_eq!(pair.world.now(), ms(15));
            pair.world.block_on(a_byte_crosses(&ours, &theirs));
            drop((ours, theirs));
            pair.leave_nothing();
        },
    );
}

/// The two packets of a ClientHello are lost, repeated and reordered.
#[test]
fn bad_networks_only_delay_libp2p() {
    each_seed("browsers::bad_networks_only_delay_libp2p", 300, |seed| {
        let patient = || config(|c| c.handshake_timeout = secs(60));
        let mut pair = Pair::with(seed, patient(), patient());
        pair.listener.offer_h3();
        let conditions = Conditions::bad(&mut pair.world.dice());
        pair.world.link(conditions);
        let (ours, theirs) = pair.connect();
        assert_eq!(ours.peer_id(), Some(pair.server.peer_id()));
        assert_eq!(theirs.peer_id(), Some(pair.client.peer_id()));
        drop((ours, theirs));
        pair.leave_nothing();
    });
}

#[test]
fn a_retry_precedes_the_choice() {
    each_seed("browsers::a_retry_precedes_the_choice", 50, |seed| {
        let server = config(|c| c.retry_above = Some(0));
        let mut pair = Pair::with(seed, server, Config::default());
        pair.listener.offer_h3();
        let (ours, theirs) = pair.connect();
        assert_eq!(pair.world.now(), ms(25));
        // One for each packet of the first flight, or one.
        assert!((1..=2).contains(&pair.listener.statistics().retries_sent));
        drop((ours, theirs));
        pair.leave_nothing();
    });
}

/// What a browser's dial comes to.
fn dial(seed: u64, server: Config, offers_h3: bool, is_bad: bool) -> ConnectionError {
    let mut world = World::new(seed);
    let server = world.node(server);
    world.dial_as_browsers();
    let browser = world.node(config(|c| c.handshake_timeout = secs(60)));
    let listener = server.listen(server.v4(4001)).expect("a free port");
    if offers_h3 {
        listener.offer_h3();
    }
    if is_bad {
        let conditions = Conditions::bad(&mut world.dice());
        world.link(conditions);
    }
    let to = listener.local_addr();
    let error = world.block_on(async {
        operations::connect(&browser, to, None)
            .await
            .expect_err("nothing is served")
    });
    assert!(listener.statistics().handshakes_started >= u64::from(offers_h3));
    assert_eq!(listener.statistics().connections_accepted, 0);
    drop(listener);
    leave_nothing(world, vec![server, browser]);
    error
}

#[test]
fn a_browser_completes_its_handshake() {
    each_seed("browsers::a_browser_completes_its_handshake", 50, |seed| {
        for server in [Config::default(), config(|c| c.retry_above = Some(0))] {
            let error = dial(seed, server, true, false);
            assert_eq!((error.by, error.kind), (Party::Local, CloseKind::Closed));
            assert_eq!(error.code, Some(H3_NO_ERROR), "{error}");
        }
    });
}

#[test]
fn bad_networks_only_delay_a_browser() {
    each_seed("browsers::bad_networks_only_delay_a_browser", 200, |seed| {
        let server = config(|c| c.handshake_timeout = secs(60));
        let error = dial(seed, server, true, true);
        assert_eq!(error.code, Some(H3_NO_ERROR), "{error}");
    });
}

#[test]
fn a_listener_without_http_3_refuses_a_browser() {
    let error = dial(1, Config::default(), false, false);
    assert_eq!((error.by, error.kind), (Party::Peer, CloseKind::Refused));
    assert_eq!(error.code, Some(NO_APPLICATION_PROTOCOL), "{error}");
}
