//! Every model, in many interleavings: at random, and by priorities that change at a few points
//! (probabilistic concurrency testing), which finds what needs one rare order.
//!
//! `LIBP2P_QUIC_MODELS=N` tries N of each kind; a failure prints the schedule that led to it.

use std::env;

use libp2p_quic_models::models;
use shuttle::{
    Config, Runner,
    scheduler::{PctScheduler, RandomScheduler, Scheduler},
};

/// Changes of priority in one run: most defects need two or three.
const DEPTH: usize = 3;

fn runs() -> usize {
    env::var("LIBP2P_QUIC_MODELS").map_or(2_000, |text| text.parse().expect("a number of runs"))
}

fn explored(model: fn(), scheduler: impl Scheduler + 'static) {
    let mut config = Config::new();
    // Whole verbs run in these, not the few frames that the default has room for.
    config.stack_size = 256 * 1024;
    Runner::new(scheduler, config).run(model);
}

fn explore(model: fn()) {
    explored(model, RandomScheduler::new(runs()));
    explored(model, PctScheduler::new(DEPTH, runs()));
}

#[test]
fn bell() {
    explore(models::bell);
}

#[test]
fn inline_driving() {
    explore(models::inline_driving);
}

#[test]
fn deadlines() {
    explore(models::deadlines);
}

#[test]
fn endpoints_come_and_go() {
    explore(models::endpoints_come_and_go);
}

#[test]
fn full_queues() {
    explore(models::full_queues);
}

#[test]
fn starved_streams() {
    explore(models::starved_streams);
}

#[test]
fn starved_once() {
    explore(models::starved_once);
}

#[test]
fn event_loop() {
    explore(models::event_loop);
}
