//! qlog: a file of events for each connection, as draft-ietf-quic-qlog-main-schema-14 and
//! draft-ietf-quic-qlog-quic-events-13 define them, in JSON text sequences (RFC 7464).
//!
//! The packets come from wrapped keys and the metrics from a wrapped congestion controller, both of
//! which exist only if a folder is configured: without one, no code of this module runs. Decision
//! 0007 says why quinn-proto's own feature is not used.

mod connection_log;
mod controller;
mod files;
mod frames;
mod json;
mod keys;
mod output;
mod packet;
mod parameters;
mod wall_clock;

use std::{path::PathBuf, sync::Arc};

use quinn_proto::{ConnectionId, crypto};

pub(crate) use self::{
    connection_log::ConnectionLog, controller::LoggedController, keys::LatestLog,
};
use self::{
    connection_log::Role,
    files::Files,
    keys::{FirstPacket, LoggedClient, LoggedListener, LoggedServer},
};

/// Bytes that a file may have at least: its header and some events.
pub(crate) const SMALLEST_FILE: u64 = 4096;

/// The logs of one endpoint.
pub(crate) struct Qlog {
    files: Arc<Files>,
    first: FirstPacket,
}

impl Qlog {
    /// Log into `folder`, or into the one that the environment variable `QLOGDIR` names; each file
    /// has at most `limit` bytes. `None` if neither names one.
    pub(crate) fn open(folder: Option<PathBuf>, limit: u64) -> Option<Self> {
        let files = Files::open(folder, limit)?;
        let first = FirstPacket::default();
        Some(Self { files, first })
    }

    /// The cryptography of a dial, each attempt of which begins a log in `latest`.
    pub(crate) fn client(
        &self,
        inner: Arc<dyn crypto::ClientConfig>,
        latest: LatestLog,
    ) -> Arc<dyn crypto::ClientConfig> {
        let files = self.files.clone();
        Arc::new(LoggedClient {
            inner,
            files,
            latest,
        })
    }

    /// The cryptography of an endpoint's listeners, before a connection is accepted.
    pub(crate) fn listener(
        &self,
        inner: Arc<dyn crypto::ServerConfig>,
    ) -> Arc<dyn crypto::ServerConfig> {
        let first = self.first.clone();
        Arc::new(LoggedListener { inner, first })
    }

    /// Begin the log of an inbound connection. `None` if there are too many files.
    pub(crate) fn accept(&self, id: &ConnectionId) -> Option<Arc<ConnectionLog>> {
        self.files.begin(Role::Server, id)
    }

    /// The cryptography of one inbound connection.
    pub(crate) fn server(
        &self,
        inner: Arc<dyn crypto::ServerConfig>,
        log: Arc<ConnectionLog>,
    ) -> Arc<dyn crypto::ServerConfig> {
        let first = self.first.clone();
        Arc::new(LoggedServer { inner, first, log })
    }

    /// Wait a moment until everything is written: the process may exit next.
    pub(crate) fn finish(&self) {
        self.files.finish();
    }
}
