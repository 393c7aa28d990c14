//! Isolates panics: one while a connection is driven ends only that connection, and one while
//! quinn-proto begins a connection, only that attempt. In both, code reads what a peer has sent.
//!
//! quinn-proto's `Endpoint` has no unsafe code, so a panic may leave it inconsistent, but not unsound.
//! What its calls leave behind (0.11.19):
//!
//! - `handle` enters a new connection's first packet in its last step, after which nothing can panic.
//!   What it changes before that, such as the time of the last reset, may be changed at any time.
//! - `accept` may panic before it has added the connection. The entry of the original destination
//!   connection id then names a buffer that is gone, so that `handle` panics at each further datagram
//!   with that id, which is dropped. A client that begins again has another id.
//! - `accept` may panic after that, at the contents of the first packet. The connection is then the
//!   only one without a driver, and is removed with all its entries.
//! - Both `accept` and `connect` may leave one connection id that no peer has been told.
//!
//! What remains has less than 100 bytes for each attempt. A panic anywhere else in a core ends its
//! endpoint, because the state that it leaves is unknown: see `handover`.

use std::{
    any::Any,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
};

use quinn_proto::{ConnectionHandle, Endpoint, EndpointEvent};

use super::Core;
use crate::{driver::connection::ConnectionDriver, error::ConnectionError, multiaddr::Multiaddr};

impl Core {
    /// Call a function on one connection; a panic ends only that connection.
    pub(super) fn with<T>(
        &mut self,
        handle: ConnectionHandle,
        call: impl FnOnce(&mut ConnectionDriver, &mut Endpoint) -> T,
    ) -> Option<T> {
        let driven = self.connections.get_mut(handle.0)?.as_deref_mut()?;
        let endpoint = &mut self.endpoint;
        // State that the panic left inconsistent belongs to the connection, which is dropped.
        match catch_unwind(AssertUnwindSafe(|| call(driven, endpoint))) {
            Ok(value) => {
                if driven.was_connected()
                    && let Some(inbound_slot) = &mut driven.inbound_slot
                    && self.admission.complete_handshake(inbound_slot)
                {
                    self.update_server_config();
                }
                Some(value)
            }
            Err(panic) => {
                let (cause, remote) = (
                    panic_message(&*panic),
                    Multiaddr(driven.conn.remote_address()),
                );
                tracing::error!("a panic ended the connection with {remote}: {cause}");
                if !driven.is_drained() {
                    self.endpoint.handle_event(handle, EndpointEvent::drained());
                }
                driven.discard(ConnectionError::internal(cause));
                self.remove(handle);
                None
            }
        }
    }

    /// Call quinn-proto's endpoint to route a datagram, or to begin a connection with `remote`. `Err`
    /// has what a panic said; the connection does not exist then.
    pub(super) fn isolated<T>(
        &mut self,
        remote: SocketAddr,
        call: impl FnOnce(&mut Endpoint) -> T,
    ) -> Result<T, String> {
        let before = self.endpoint.open_connections();
        let endpoint = &mut self.endpoint;
        // The opening comment says what a panic leaves in the endpoint.
        match catch_unwind(AssertUnwindSafe(|| call(endpoint))) {
            Ok(value) => Ok(value),
            Err(panic) => {
                let (cause, remote) = (panic_message(&*panic), Multiaddr(remote));
                tracing::error!("a panic ended an attempt to connect with {remote}: {cause}");
                self.remove_undriven(before);
                Err(cause)
            }
        }
    }

    /// Remove the connection that quinn-proto added before a panic, if it did: the caller did not get
    /// its handle. `before` is how many connections there were. quinn-proto ignores the other handles.
    fn remove_undriven(&mut self, before: usize) {
        for slot in 0..=self.connections.len() {
            if self.endpoint.open_connections() <= before {
                return;
            }
            let handle = ConnectionHandle(slot);
            if self.slot(handle).is_none() {
                self.endpoint.handle_event(handle, EndpointEvent::drained());
            }
        }
    }
}

/// What a panic said.
pub(in crate::driver) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
