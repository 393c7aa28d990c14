//! The queue of commands from application threads to a core, and the waker of the core's thread.
//!
//! A push takes a short lock and at most one system call. Commands about streams may be held
//! back until a flush, so that one pass of an event loop wakes the thread once.

use std::{mem, sync::Arc};

use crate::{
    config::Flush,
    dial_mode::DialMode,
    driver::{network::SocketKey, settings::DialConfig},
    error::ConnectionError,
    shared::{ConnectionShared, InboundShared, ListenerShared, StreamShared},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    tls::Verdict,
};

pub(crate) enum Command {
    /// A socket was bound. If `is_kept`, it outlives its listeners and connections.
    Socket {
        socket: SocketKey,
        local: std::net::SocketAddr,
        is_kept: bool,
    },
    Listen(Arc<ListenerShared>),
    StopListening(SocketKey),
    Connect {
        socket: SocketKey,
        shared: Arc<ConnectionShared>,
        config: Arc<DialConfig>,
        verdict: Verdict,
        mode: DialMode,
    },
    /// Send datagrams to `remote` while `inbound` waits, at most for `lasting`.
    Punch {
        socket: SocketKey,
        remote: std::net::SocketAddr,
        lasting: std::time::Duration,
        inbound: std::sync::Weak<InboundShared>,
    },
    /// Process both queues of this stream of this connection.
    Stream(u64, Arc<StreamShared>),
    /// Streams of this connection that waited for receive credit may continue.
    Resume(u64),
    /// Open streams ahead of need on this connection.
    Refill(u64),
    Close {
        connection: u64,
        code: u64,
        reason: Vec<u8>,
    },
    CloseAll {
        code: u64,
        reason: Vec<u8>,
    },
    /// An address of this machine came or went; the I/O thread tells real cores itself.
    #[cfg(feature = "simulation")]
    AddressesChanged,
    /// Panic when this connection is driven next, as a defect would.
    #[cfg(feature = "simulation")]
    Poison(u64),
}

/// The reason of a close of connections that their listener's close found in its backlog.
const LISTENER_CLOSED: &[u8] = b"listener closed";

impl Command {
    /// The core is gone: fail what the command would have begun.
    pub(super) fn refuse(self) {
        match self {
            Self::Connect { shared, .. } => {
                shared.end(ConnectionError::not_dialed("the endpoint stopped"));
            }
            Self::Listen(listener) => {
                for connection in listener.close().into_iter().flatten() {
                    connection.end(ConnectionError::closed_here(0, LISTENER_CLOSED));
                }
            }
            _ => {}
        }
    }
}

/// Wakes the thread that drives cores, if it sleeps.
pub(crate) trait IoWaker: Send + Sync {
    fn wake(&self);

    /// Have one turn done: in this thread if the core is free, else by the I/O thread. The
    /// caller must hold no lock of the engine.
    fn drive(&self) {
        self.wake();
    }

    /// Execute all commands now, before the process can end. The caller must hold no lock of the
    /// engine, and may have to wait for the core.
    fn drive_all(&self) {
        self.wake();
    }
}

/// The commands of one core.
pub(crate) struct Commands {
    /// `None` once the core is gone, which nothing would execute commands of.
    queue: Mutex<Option<Vec<Command>>>,
    /// There are commands, perhaps some that wait for the flush.
    has_some: AtomicBool,
    /// There are commands to execute now. Those held back are not taken before: the I/O thread would
    /// send a datagram for the part of a pass that it finds when it happens to be awake.
    is_released: AtomicBool,
    waker: Arc<dyn IoWaker>,
    flush: Flush,
}

impl Commands {
    pub(crate) fn new(waker: Arc<dyn IoWaker>, flush: Flush) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Some(Vec::new())),
            has_some: AtomicBool::new(false),
            is_released: AtomicBool::new(false),
            waker,
            flush,
        })
    }

    pub(crate) fn push(&self, command: Command) {
        // `Resume` may come from a dropped stream, under any lock, so it must not drive: the I/O
        // thread executes it.
        let may_drive = matches!(command, Command::Stream(..) | Command::Refill(_));
        let can_wait = may_drive || matches!(command, Command::Resume(_));
        let is_held_back = can_wait && self.flush == Flush::OnRequest;
        let is_last = matches!(command, Command::CloseAll { .. });
        {
            let mut queue = self.queue.lock();
            let Some(commands) = queue.as_mut() else {
                drop(queue);
                command.refuse();
                return;
            };
            commands.push(command);
            self.has_some.store(true, Ordering::SeqCst);
            if !is_held_back {
                self.is_released.store(true, Ordering::SeqCst);
            }
        }
        match self.flush {
            _ if is_held_back => {}
            Flush::Immediate if may_drive => self.waker.drive(),
            _ if is_last => self.waker.drive_all(),
            _ => self.waker.wake(),
        }
    }

    /// End the connection for the application, and have its driver close it.
    pub(crate) fn close_connection(&self, connection: &ConnectionShared, code: u64, reason: &[u8]) {
        if connection.end(ConnectionError::closed_here(code, reason)) {
            self.push(Command::Close {
                connection: connection.id,
                code,
                reason: reason.to_vec(),
            });
        }
    }

    /// Have the listener stop accepting, and close the connections in its backlog. True for the
    /// first call.
    pub(crate) fn close_listener(&self, listener: &ListenerShared) -> bool {
        let Some(backlog) = listener.close() else {
            return false;
        };
        for connection in backlog {
            self.close_connection(&connection, 0, LISTENER_CLOSED);
        }
        true
    }

    /// Have the queued commands executed.
    pub(crate) fn flush(&self) {
        if self.release() {
            self.waker.drive();
        }
    }

    /// Have the I/O thread execute the queued commands.
    pub(crate) fn wake(&self) {
        if self.release() {
            self.waker.wake();
        }
    }

    /// Let the queued commands be executed. True if there are any.
    fn release(&self) -> bool {
        let has_some = self.has_some.load(Ordering::SeqCst);
        if has_some {
            self.is_released.store(true, Ordering::SeqCst);
        }
        has_some
    }

    /// Whether there are commands to execute now.
    pub(crate) fn has_released(&self) -> bool {
        self.is_released.load(Ordering::SeqCst)
    }

    /// Swap the commands into `taken`, which must be empty, if there are some to execute now.
    pub(crate) fn take(&self, taken: &mut Vec<Command>) {
        if self.has_released() {
            let mut queue = self.queue.lock();
            self.has_some.store(false, Ordering::SeqCst);
            self.is_released.store(false, Ordering::SeqCst);
            if let Some(queue) = queue.as_mut() {
                mem::swap(queue, taken);
            }
        }
    }

    /// The core is gone: return the commands it has not executed. Later ones are refused.
    pub(crate) fn close(&self) -> Vec<Command> {
        self.queue.lock().take().unwrap_or_default()
    }
}
