//! Error numbers of the system's sockets, under POSIX's names: nix's on Unix, and Winsock's on Windows.
//! Which of them ends a dial or a send is decided where they are handled.

#[cfg(unix)]
pub(crate) use nix::errno::Errno;
#[cfg(windows)]
pub(crate) use winsock::Errno;

#[cfg(any(windows, test))]
mod winsock;
