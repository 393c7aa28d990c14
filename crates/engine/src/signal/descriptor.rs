//! The signal of Unix: an eventfd on Linux, a pipe elsewhere.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

pub(crate) struct Signal {
    read: OwnedFd,
    /// Absent where one descriptor serves both ends.
    write: Option<OwnedFd>,
}

impl Signal {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self {
            read: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            write: None,
        })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn new() -> io::Result<Self> {
        let (read, write) = rustix::pipe::pipe()?;
        for end in [&read, &write] {
            rustix::io::ioctl_fionbio(end, true)?;
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        Ok(Self {
            read,
            write: Some(write),
        })
    }

    /// Make the descriptor readable.
    pub(crate) fn raise(&self) {
        let end = self.write.as_ref().unwrap_or(&self.read);
        // It fails only when the pipe or counter is full, and then the descriptor is readable.
        let _ = rustix::io::write(end, &1u64.to_ne_bytes());
    }

    /// Make the descriptor unreadable until it is raised again.
    pub(crate) fn clear(&self) {
        let mut buf = [0; 8];
        while rustix::io::read(&self.read, &mut buf).is_ok_and(|n| n > 0) && self.write.is_some() {}
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}
