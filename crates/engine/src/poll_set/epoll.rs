//! Level-triggered: it stays readable while a socket in it has a datagram.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::epoll;

use crate::signal::Signal;

pub(crate) struct PollSet(OwnedFd);

impl PollSet {
    /// A set of which `signal` is always a member.
    pub(crate) fn new(signal: &Signal) -> io::Result<Option<Self>> {
        let set = Self(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        set.add(signal)?;
        Ok(Some(set))
    }

    pub(crate) fn add(&self, member: impl AsFd) -> io::Result<()> {
        let nothing = epoll::EventData::new_u64(0);
        Ok(epoll::add(&self.0, member, nothing, epoll::EventFlags::IN)?)
    }

    /// Before the member is closed: a copy of its descriptor, as in the child of a fork, would keep it
    /// in the set.
    pub(crate) fn remove(&self, member: impl AsFd) {
        // It fails only for what is no member.
        let _ = epoll::delete(&self.0, member);
    }
}

impl AsFd for PollSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
