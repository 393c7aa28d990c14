//! No event loop receives here: there is never such a set.

#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::{convert::Infallible, io};

use crate::signal::Signal;

pub(crate) struct PollSet(Infallible);

impl PollSet {
    #[allow(clippy::unnecessary_wraps, reason = "epoll may be out of descriptors")]
    pub(crate) fn new(_: &Signal) -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn add(&self, _: impl Sized) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn remove(&self, _: impl Sized) {
        match self.0 {}
    }
}

#[cfg(unix)]
impl AsFd for PollSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }
}
