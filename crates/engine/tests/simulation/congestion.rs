//! What a lost packet does to the congestion window: the algorithms differ in that.

use libp2p_quic_engine::{
    CongestionControl, Connection,
    simulation::{Conditions, World, operations},
};

use crate::kit::{Pair, config, each_seed, ms};

/// A network that loses this share of the datagrams.
fn losing(loss: f64) -> Conditions {
    Conditions {
        latency: ms(20),
        loss,
        ..Conditions::default()
    }
}

/// The congestion window of a bulk transfer right before and right after a loss.
fn around_a_loss(seed: u64, algorithm: CongestionControl) -> (u64, u64) {
    let sender = config(|c| c.congestion_control = algorithm);
    let mut pair = Pair::with(seed, config(|_| ()), sender);
    pair.world.link(losing(0.0));
    let (ours, theirs) = pair.connect();
    let writer = ours.clone();
    pair.world.spawn(async move {
        let stream = operations::open(&writer).await.expect("a stream");
        // More than the test will wait for.
        let _ = operations::write_all(&stream, &vec![7; 50_000_000]).await;
    });
    let reader = theirs.clone();
    pair.world.spawn(async move {
        let stream = operations::accept_stream(&reader).await.expect("a stream");
        let _ = operations::read_to_end(&stream).await;
    });
    pair.world.run_for(ms(200));
    // In slow start the window grows as fast as acknowledgments come: the first loss ends it.
    until_the_next_loss(&mut pair.world, &ours);
    pair.world.run_for(ms(400));
    until_the_next_loss(&mut pair.world, &ours)
}

fn until_the_next_loss(world: &mut World, ours: &Connection) -> (u64, u64) {
    let mut before = ours.statistics();
    world.link(losing(0.05));
    for _ in 0..2000 {
        world.run_for(ms(1));
        let now = ours.statistics();
        if now.congestion_events > before.congestion_events {
            world.link(losing(0.0));
            return (before.congestion_window, now.congestion_window);
        }
        before = now;
    }
    panic!("no packet was lost");
}

/// RFC 9002 section 7.3.2 halves it; RFC 9438 section 4.6 takes a flow to seven tenths, and
/// CUBIC here is two flows of which one backs off.
#[test]
fn a_loss_costs_newreno_half_of_the_window_and_cubic_15_hundredths() {
    each_seed(
        "congestion::a_loss_costs_newreno_half_of_the_window_and_cubic_15_hundredths",
        10,
        |seed| {
            for (algorithm, kept) in [
                (CongestionControl::NewReno, 0.5),
                (CongestionControl::Cubic, 0.85),
            ] {
                let (before, after) = around_a_loss(seed, algorithm);
                let share = after as f64 / before as f64;
                // It may have grown by an acknowledgment since it was looked at.
                assert!(
                    (share - kept).abs() < 0.05,
                    "{algorithm:?} went from {before} to {after} bytes"
                );
            }
        },
    );
}
