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
    // Whole engine calls run on these stacks, for which the default is too small.
    config.stack_size = 256 * 1024;
    Runner::new(scheduler, config).run(model);
}

fn explore(model: fn()) {
    explored(model, RandomScheduler::new(runs()));
    explored(model, PctScheduler::new(DEPTH, runs()));
}

#[test]
fn ready_queue() {
    explore(models::ready_queue);
}

#[test]
fn ready_queue_of_passes() {
    explore(models::ready_queue_of_passes);
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
fn shared_credit() {
    explore(models::shared_credit);
}

#[test]
fn credit_released_once() {
    explore(models::credit_released_once);
}

#[test]
fn event_loop() {
    explore(models::event_loop);
}

#[test]
fn accept() {
    explore(models::accept);
}

#[test]
fn listener_close() {
    explore(models::listener_close);
}

#[test]
fn listen_again() {
    explore(models::listen_again);
}

#[test]
fn endpoint_close() {
    explore(models::endpoint_close);
}

#[test]
fn lease() {
    explore(models::lease);
}

#[test]
fn lease_of_a_busy_loop() {
    explore(models::lease_of_a_busy_loop);
}

#[test]
fn lease_and_close() {
    explore(models::lease_and_close);
}
