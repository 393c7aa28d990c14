//! What keeps a connection open: all its [`Connection`](crate::Connection)s and
//! [`Stream`](crate::Stream)s hold one `Handle`.

use std::sync::Arc;

use crate::{driver::Commands, shared::ConnectionShared};

/// Closes the connection when the last connection or stream that holds it is dropped.
pub(crate) struct Handle {
    pub(crate) shared: Arc<ConnectionShared>,
    pub(crate) commands: Arc<Commands>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<ConnectionShared>, commands: Arc<Commands>) -> Arc<Self> {
        Arc::new(Self { shared, commands })
    }

    pub(crate) fn close(&self, code: u64, reason: &[u8]) {
        self.commands.close_connection(&self.shared, code, reason);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close(0, b"dropped");
    }
}
