//! Whole engines against each other, by seed, in virtual time and without a socket.
//!
//! A failure names its seed; `LIBP2P_QUIC_SEED=<seed>` in the environment runs only that one.
//!
//! What is hard about driving quinn-proto, and the test that says so. Tests in `loopback` are
//! in `tests/loopback`, all others here.
//!
//! | what goes wrong | test |
//! |---|---|
//! | a deadline that moved is not re-read | `timeouts::a_lost_packet_is_sent_again_long_before_the_idle_timeout` |
//! | sending kills a connection and nobody looks | `datagrams::a_retry_token_too_large_for_a_packet_ends_the_dial` |
//! | new connection ids are not handed back | `paths::a_peer_that_moves_often_keeps_its_connection` |
//! | connections leak, or are drained twice | `mixtures::*`, `closing::a_thousand_connections_leave_nothing` |
//! | a slot is reused and hears old commands | `defects::a_stale_command_does_not_reach_the_next_connection` |
//! | a local close tells nobody here | `closing::who_waits_hears_of_a_local_close` |
//! | dropped handles are forgotten | `closing::dropping_handles_resets_stops_and_closes` |
//! | the first frame of a stream makes no event | `streams::the_first_frame_is_readable_without_another_event` |
//! | a blocked writer is not resumed | `backpressure::a_blocked_writer_is_resumed_by_credit`, `backpressure::a_writer_that_was_blocked_once_is_heard_again`, `backpressure::connection_credit_resumes_every_stream` |
//! | a stopped stream is never freed | `streams::a_stopped_stream_is_freed`, `streams::stopped_streams_give_their_place_back` |
//! | credit that reading gives is not sent | `backpressure::a_reader_that_pauses_revives_the_writer` |
//! | a first packet is dropped on the floor | `limits::unknown_senders_at_a_socket_that_does_not_listen_are_ignored`, `limits::connections_beyond_the_limit_are_refused` |
//! | an answer disturbs a kept datagram | `datagrams::answers_to_senders_do_not_disturb_a_transfer` |
//! | a refused datagram is lost, or its connection sleeps | `paths::a_refused_datagram_is_kept_and_its_connection_resumed`, `paths::what_stands_behind_a_refused_datagram_follows_it_at_once` |
//! | a failed batch, or the loss of GSO, ends a connection | `paths::the_loss_of_segmentation_offload_costs_one_batch` |
//! | a batch exceeds what UDP carries | `paths::large_datagrams_stay_below_the_limit_of_udp` |
//! | empty and short datagrams | `datagrams::nonsense_is_ignored`, `loopback addresses::empty_datagrams_are_ignored` |
//! | ECN and the local address get lost | `paths::marks_and_local_addresses_are_passed_through` |
//! | a path drops marked datagrams, and nothing is ever acknowledged | `ecn::*` |
//! | wake-ups get lost | every test, as tasks run only when woken; `loopback transfers::no_wake_up_is_lost_between_threads` |
//! | one connection starves the others | `loopback transfers::a_flood_does_not_starve_a_ping` |
//! | a deadline in the past spins | every test: a world that spins panics |
//! | a panic takes all with it | `defects::*` |
//! | STOP_SENDING ends both directions at some peers | `streams::stopping_waits_until_the_finish_is_acknowledged` |
//!
//! Three things do not apply. There is no 0-RTT. Nobody but the I/O thread drives, so time is
//! taken by one thread only. Sockets are never exchanged under a connection; that the *peer*
//! moves is in `paths`.

mod admission;
mod attackers;
mod backpressure;
mod browsers;
mod canceled_dials;
mod closing;
mod congestion;
mod connection_ids;
mod datagrams;
mod defects;
mod dials;
mod ecn;
mod endpoints;
mod handshakes;
#[path = "../forge/initial.rs"]
mod initial;
mod kit;
mod limits;
mod mixtures;
mod paths;
mod punching;
mod resets;
mod session_streams;
mod statistics;
mod streams;
mod timeouts;
mod transfers;
