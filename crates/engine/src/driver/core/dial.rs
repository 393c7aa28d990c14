//! The state of one dial that the peer has not answered yet. `dialing` begins and ends it.

use std::sync::Arc;

use quinn_proto::ConnectionHandle;

use crate::{
    dial_mode::DialMode,
    driver::{dial_report::DialReport, network::SocketKey, settings::DialConfig},
    tls::Verdict,
};

/// One dial and its attempts: at most two, each with its own QUIC connection.
///
/// The first attempt lasts as long as the dial, for paths so slow that a fresh attempt is dropped
/// before its answer arrives. A fresh attempt is replaced before it would send a probe: a dial to
/// an unused address sends two datagrams every 0.8 s, beside the probes of the first attempt. On a
/// slower path each attempt costs the listener a handshake; only the last is told to drop it.
pub(super) struct Dial {
    pub(super) first: ConnectionHandle,
    pub(super) fresh: Option<ConnectionHandle>,
    pub(super) config: Arc<DialConfig>,
    pub(super) verdict: Verdict,
    pub(super) socket: SocketKey,
    pub(super) report: Arc<DialReport>,
    pub(super) mode: DialMode,
}
