//! No event loop receives here: there is never such a set.

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use crate::signal::Signal;

pub(crate) struct PollSet(Infallible);

impl PollSet {
    #[allow(clippy::unnecessary_wraps, reason = "epoll may be out of descriptors")]
    pub(crate) fn new(_: &Signal) -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn add(&self, _: impl AsFd) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn remove(&self, _: impl AsFd) {
        match self.0 {}
    }
}

impl AsFd for PollSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }
}
