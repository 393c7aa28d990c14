//! The folder of an endpoint's files: begins the log of a connection in a file of its own.

use std::{fmt::Write, path::PathBuf, sync::Arc, time::Duration};

use quinn_proto::ConnectionId;

use super::{
    connection_log::{ConnectionLog, Role},
    output::Writer,
};

/// How long the end of an endpoint may wait for the disk.
const PATIENCE: Duration = Duration::from_millis(250);

/// The environment variable that names the folder, as in other implementations of QUIC.
const VARIABLE: &str = "QLOGDIR";

pub(super) struct Files {
    folder: PathBuf,
    limit: u64,
    writer: Arc<Writer>,
}

impl Files {
    /// In `folder`, or in the one that `QLOGDIR` names; each file has at most `limit` bytes. `None`
    /// without a folder, or if the system refuses the thread, which is logged.
    pub(super) fn open(folder: Option<PathBuf>, limit: u64) -> Option<Arc<Self>> {
        let from_environment = || std::env::var_os(VARIABLE).map(PathBuf::from);
        let folder = folder.or_else(from_environment);
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty())?;
        // The process may change its working directory. It fails only if there is none.
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let writer = Writer::start()
            .inspect_err(|error| tracing::warn!("qlog: no thread to write files: {error}"))
            .ok()?;
        Some(Arc::new(Self {
            folder,
            limit,
            writer,
        }))
    }

    /// Begin a file, named after the destination connection id that the dialer chose first. `None`
    /// if there are too many files.
    pub(super) fn begin(&self, role: Role, id: &ConnectionId) -> Option<Arc<ConnectionLog>> {
        let mut name = String::new();
        for byte in id.iter() {
            let _ = write!(name, "{byte:02x}");
        }
        let path = self.folder.join(format!("{name}_{}.sqlog", role.name()));
        let output = self.writer.output(path, self.limit)?;
        let log = ConnectionLog::new(self.writer.clone(), output, role, id);
        Some(Arc::new(log))
    }

    /// Wait a moment until everything is written.
    pub(super) fn finish(&self) {
        self.writer.finish(PATIENCE);
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.writer.stop();
    }
}
