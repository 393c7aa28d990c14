//! Decides which sockets report undelivered datagrams: only those with unanswered dials, which alone
//! use the reports. Anybody can send ICMP messages.

use rustc_hash::FxHashMap;

use crate::driver::network::{Network, SocketKey};

#[derive(Default)]
pub(super) struct Reporting {
    /// How many unanswered dials each socket has.
    dials: FxHashMap<SocketKey, usize>,
    /// Sockets whose first dial began, or whose last ended, since the last update.
    changed: Vec<SocketKey>,
}

impl Reporting {
    /// A dial from this socket begins.
    pub(super) fn begin(&mut self, socket: SocketKey) {
        let dials = self.dials.entry(socket).or_default();
        *dials += 1;
        if *dials == 1 {
            self.changed.push(socket);
        }
    }

    /// A dial from this socket is answered or over.
    pub(super) fn end(&mut self, socket: SocketKey) {
        let Some(dials) = self.dials.get_mut(&socket) else {
            return;
        };
        *dials -= 1;
        if *dials == 0 {
            self.dials.remove(&socket);
            self.changed.push(socket);
        }
    }

    /// Turn reports on or off for the sockets that changed.
    pub(super) fn update(&mut self, network: &mut dyn Network) {
        for socket in self.changed.drain(..) {
            network.report_undelivered(socket, self.dials.contains_key(&socket));
        }
    }
}
