//! What a connection counts is in the totals of its endpoint. That every gauge returns to zero is
//! asserted by `kit::leave_nothing`, at the end of each test of this binary.

use libp2p_quic_engine::{CloseKind, Config, EcnState, Party};

use crate::kit::{Pair, a_byte_crosses, config, each_seed, secs};

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
