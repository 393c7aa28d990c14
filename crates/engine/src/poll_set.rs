//! A descriptor that is readable while one of several others is, for an event loop that waits for one
//! descriptor: an epoll instance on Linux. Other systems have none.

#[cfg_attr(target_os = "linux", path = "poll_set/epoll.rs")]
#[cfg_attr(not(target_os = "linux"), path = "poll_set/none.rs")]
mod system;

pub(crate) use system::PollSet;
