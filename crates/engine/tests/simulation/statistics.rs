//! What a connection counts is in the totals of its endpoint. That every gauge returns to zero is
//! asserted by `kit::leave_nothing`, at the end of each test of this binary.

use libp2p_quic_engine::{CloseKind, Config, Connection, EcnState, Party, tls::CertificateKey};

use crate::{
    browsers::session,
    kit::{Pair, a_byte_crosses, config, each_seed, ms, secs},
};

/// When the flights of a dial left and came, in milliseconds since it began: the first Initial
/// packet, the first answer, the ServerHello, the end of the handshake, HANDSHAKE_DONE.
fn flights(dial: &Connection) -> [Option<u64>; 5] {
    let told = dial.statistics();
    let handshake = Some(told.handshake).filter(|it| !it.is_zero());
    let times = [
        told.initial_sent,
        told.first_answer,
        told.server_hello,
        handshake,
        told.confirmed,
    ];
    times.map(|time| time.map(|it| u64::try_from(it.as_millis()).expect("a short time")))
}

/// One way takes 5 ms.
#[test]
fn each_flight_of_a_dial_has_its_time() {
    let name = "statistics::each_flight_of_a_dial_has_its_time";
    each_seed(name, 5, |seed| {
        let mut pair = Pair::new(seed);
        let to = pair.listener.local_addr();
        let ours = pair.client.connect(to, None).expect("a dial");
        pair.world.run_for(ms(9));
        assert_eq!(flights(&ours), [Some(0), None, None, None, None]);
        pair.world.run_for(ms(2));
        let answered = [Some(0), Some(10), Some(10), Some(10), None];
        assert_eq!(flights(&ours), answered);
        pair.world.run_for(ms(10));
        let all = [Some(0), Some(10), Some(10), Some(10), Some(20)];
        assert_eq!(flights(&ours), all);
        // They stay as the connection goes on, and after its end.
        ours.close(0, b"");
        pair.world.run_for(secs(20));
        assert_eq!(flights(&ours), all);
        drop(ours);
        pair.leave_nothing();
    });
}

#[test]
fn a_retry_is_an_answer_and_no_server_hello() {
    let name = "statistics::a_retry_is_an_answer_and_no_server_hello";
    each_seed(name, 5, |seed| {
        let server = config(|c| c.retry_above = Some(0));
        let mut pair = Pair::with(seed, server, Config::default());
        let (ours, theirs) = pair.connect();
        pair.world.run_for(ms(10));
        let expected = [Some(0), Some(10), Some(20), Some(20), Some(30)];
        assert_eq!(flights(&ours), expected);
        // The listener sends none of the flights of a dial.
        let told = flights(&theirs);
        assert_eq!([told[0], told[1], told[2], told[4]], [None; 4]);
        drop((ours, theirs));
        pair.leave_nothing();
    });
}

#[test]
fn a_dial_that_nobody_answers_tells_what_it_sent() {
    let mut pair = Pair::new(1);
    pair.world.crash(&pair.server);
    let ours = pair.client.connect(pair.server.v4(4001), None);
    let ours = ours.expect("a dial");
    pair.world.run_for(ms(1));
    assert_eq!(flights(&ours), [Some(0), None, None, None, None]);
    pair.world.run_for(secs(20));
    assert!(ours.error().is_some());
    let [sent, answers @ ..] = flights(&ours);
    assert!(sent.is_some());
    assert_eq!(answers, [None; 4]);
    drop(ours);
    pair.leave_nothing();
}

/// The attempt that is answered may be a later one than the first.
#[test]
fn a_dial_into_an_outage_has_the_flights_of_the_answered_attempt() {
    let name = "statistics::a_dial_into_an_outage_has_the_flights_of_the_answered_attempt";
    each_seed(name, 30, |seed| {
        let mut pair = Pair::new(seed);
        pair.world.blackout(ms(seed % 30 * 300 + 7));
        let (ours, theirs) = pair.connect();
        pair.world.run_for(ms(10));
        let [sent, answer, hello, complete, confirmed] =
            flights(&ours).map(|time| time.expect("all flights arrived"));
        assert!(sent + 10 <= answer, "{sent} {answer}");
        // An acknowledgment may come before the ServerHello.
        assert!(answer <= hello && hello <= complete);
        assert!(complete + 10 <= confirmed, "{complete} {confirmed}");
        drop((ours, theirs));
        pair.leave_nothing();
    });
}

#[test]
fn both_ends_tell_the_certificate_of_the_other() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    let [near, far] = [&ours, &theirs].map(|connection| {
        let tls = connection.tls().expect("a finished handshake");
        tls.certificate.expect("libp2p shows one")
    });
    assert_ne!(near.serial, far.serial);
    for each in [near, far] {
        // From 1975 to 4096, with a key of Ed25519, as an identity of the simulation has it.
        let valid = (each.not_before, each.not_after);
        assert_eq!(valid, (157_766_400, 67_090_118_400));
        assert_eq!(each.key, CertificateKey::Ed25519);
    }
    drop((ours, theirs));
    pair.leave_nothing();
}

#[test]
fn a_peer_that_moves_and_one_that_is_silent_are_counted() {
    let name = "statistics::a_peer_that_moves_and_one_that_is_silent_are_counted";
    each_seed(name, 5, |seed| {
        let client = config(|c| c.keep_alive_interval = Some(secs(1)));
        let mut pair = Pair::with(seed, Config::default(), client);
        let (ours, theirs) = pair.connect();
        pair.world.block_on(a_byte_crosses(&ours, &theirs));
        pair.world.rebind(&pair.client);
        pair.world.run_for(secs(10));
        assert_eq!(theirs.statistics().migrations, 1);
        let far = pair.server.endpoint().statistics();
        assert_eq!(far.migrations, 1);
        assert_eq!((far.accepted_ip4, far.connections_open), (1, 1));
        let near = pair.client.endpoint().statistics();
        assert!(near.keep_alives_sent >= 5, "{}", near.keep_alives_sent);
        assert_eq!(near.keep_alives_sent, ours.statistics().keep_alives_sent);
        assert_eq!(ours.statistics().ecn, EcnState::Capable);
        drop((ours, theirs));
        pair.leave_nothing();
    });
}

#[test]
fn sessions_of_webtransport_are_counted_among_all_connections() {
    let name = "statistics::sessions_of_webtransport_are_counted_among_all_connections";
    each_seed(name, 5, |seed| {
        let mut pair = Pair::new(seed);
        let (ours, theirs) = session(&mut pair);
        let plain = pair.connect();
        let near = pair.client.endpoint().statistics();
        assert_eq!((near.dialed_ip4, near.dialed_webtransport_ip4), (2, 1));
        let micros = |dial: &Connection| dial.statistics().handshake.as_micros();
        let times = [near.handshake_times, near.webtransport_handshake_times];
        let [all, sessions] = times.map(|it| it.sum.as_micros());
        assert_eq!(sessions, micros(&ours));
        assert_eq!(all, micros(&ours) + micros(&plain.0));
        // A listener that serves both learns only in the handshake which of them the peer speaks.
        let far = pair.server.endpoint().statistics();
        assert_eq!((far.accepted_ip4, far.accepted_webtransport_ip4), (2, 1));
        ours.close(0, b"");
        pair.world.run_for(secs(10));
        let near = pair.client.endpoint().statistics();
        assert_eq!(near.dialed_closed_webtransport_ip4, 1);
        assert_eq!(near.dialed_closed_ip4, 1);
        let far = pair.server.endpoint().statistics();
        assert_eq!(far.accepted_closed_webtransport_ip4, 1);
        assert_eq!(far.accepted_closed_ip4, 1);
        drop((ours, theirs, plain));
        pair.leave_nothing();
    });
}

#[test]
fn the_totals_of_a_dialer_are_those_of_its_connections() {
    let name = "statistics::the_totals_of_a_dialer_are_those_of_its_connections";
    each_seed(name, 5, |seed| {
        let mut pair = Pair::new(seed);
        let mut kept = Vec::new();
        for _ in 0..3 {
            let (ours, theirs) = pair.connect();
            pair.world.block_on(a_byte_crosses(&ours, &theirs));
            kept.push((ours, theirs));
        }
        for (ours, _) in &kept {
            ours.close(7, b"");
        }
        // Until the last of them is drained.
        pair.world.run_for(secs(30));
        let counted = pair.client.endpoint().statistics();
        let each: Vec<_> = kept.iter().map(|(ours, _)| ours.statistics()).collect();
        assert_eq!(
            counted.bytes_sent,
            each.iter().map(|it| it.bytes_sent).sum()
        );
        assert_eq!(
            counted.datagrams_sent,
            each.iter().map(|it| it.datagrams_sent).sum()
        );
        assert_eq!(
            counted.packets_sent,
            each.iter().map(|it| it.packets_sent).sum()
        );
        assert_eq!(counted.streams_opened, 3);
        let (party, kind) = (Party::Local as usize, CloseKind::Closed as usize);
        assert_eq!(counted.connections_closed[party][kind], 3);
        let far = pair.server.endpoint().statistics();
        assert_eq!(far.connections_closed[Party::Peer as usize][kind], 3);
        assert_eq!(far.streams_accepted, 3);
        drop(kept);
        pair.leave_nothing();
    });
}
