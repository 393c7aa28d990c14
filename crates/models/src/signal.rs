//! A signal without a descriptor, for which a modeled thread can wait.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use shuttle::sync::{Condvar, Mutex};

const GONE: &str = "no model goes on after a panic";

pub(crate) struct Signal {
    is_raised: Mutex<bool>,
    raised: Condvar,
}

impl Signal {
    #[allow(
        clippy::unnecessary_wraps,
        reason = "the system's may be out of descriptors"
    )]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            is_raised: Mutex::new(false),
            raised: Condvar::new(),
        })
    }

    pub(crate) fn raise(&self) {
        *self.is_raised.lock().expect(GONE) = true;
        self.raised.notify_all();
    }

    pub(crate) fn clear(&self) {
        *self.is_raised.lock().expect(GONE) = false;
    }

    pub(crate) fn is_raised(&self) -> bool {
        *self.is_raised.lock().expect(GONE)
    }

    /// Wait until raised, as poll(2) on the descriptor does.
    pub(crate) fn wait(&self) {
        let mut is_raised = self.is_raised.lock().expect(GONE);
        while !*is_raised {
            is_raised = self.raised.wait(is_raised).expect(GONE);
        }
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unreachable!("no model has an I/O thread that polls")
    }
}
