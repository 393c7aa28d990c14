//! What application threads ask of a core, and the waker that wakes its thread.
//!
//! A push is a short lock and at most one system call. CoreTask on streams may be held back
//! until a flush, so that one pass of an event loop wakes the thread once.

use std::{mem, sync::Arc};

use crate::{
    config::Flush,
    connection::ConnectionShared,
    driver::network::SocketKey,
    error::ConnectionError,
    listener::ListenerShared,
    stream::StreamShared,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    tls::Verdict,
};

pub(crate) enum Command {
    /// A socket came to be; `is_kept` ones outlive their listeners and connections.
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
        config: Box<quinn_proto::ClientConfig>,
        verdict: Verdict,
    },
    /// Look at both queues of this stream of this connection.
    Stream(u64, Arc<StreamShared>),
    /// Streams of this connection that had to wait for readers of others may go on.
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
    /// Panic when this connection is driven next: what a defect would do.
    #[cfg(feature = "simulation")]
    Poison(u64),
}

impl Command {
    /// The core is gone: tell whoever waits for what this would have begun.
    pub(super) fn refuse(self) {
        match self {
            Self::Connect { shared, .. } => {
                shared.end(ConnectionError::not_dialed("the endpoint stopped"));
            }
            Self::Listen(listener) => {
                listener.close();
            }
            _ => {}
        }
    }
}

/// Wakes the thread that drives cores, if it sleeps.
pub(crate) trait IoWaker: Send + Sync {
    fn wake(&self);

    /// See that a little work is done, here if that is possible, else by the thread. The
    /// caller must hold no lock of the engine.
    fn drive(&self) {
        self.wake();
    }

    /// See that everything that is asked for is done now, before the process can end. The
    /// caller must hold no lock of the engine, and may have to wait for the core.
    fn drive_all(&self) {
        self.wake();
    }
}

/// The commands of one core.
pub(crate) struct Commands {
    /// `None` once the core is gone. Kept then, they would never be freed: commands hold
    /// streams, and streams hold this.
    queue: Mutex<Option<Vec<Command>>>,
    has_some: AtomicBool,
    waker: Arc<dyn IoWaker>,
    flush: Flush,
}

impl Commands {
    pub(crate) fn new(waker: Arc<dyn IoWaker>, flush: Flush) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Some(Vec::new())),
            has_some: AtomicBool::new(false),
            waker,
            flush,
        })
    }

    pub(crate) fn push(&self, command: Command) {
        // A stream that goes, under whatever lock, may be what resumes others: that is the
        // thread's to do.
        let may_drive = matches!(command, Command::Stream(..) | Command::Refill(_));
        let can_wait = may_drive || matches!(command, Command::Resume(_));
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
        }
        match self.flush {
            Flush::OnRequest if can_wait => {}
            Flush::Immediate if may_drive => self.waker.drive(),
            _ if is_last => self.waker.drive_all(),
            _ => self.waker.wake(),
        }
    }

    /// See that what there is gets done.
    pub(crate) fn flush(&self) {
        if self.has_some() {
            self.waker.drive();
        }
    }

    /// Have the I/O thread see to what there is.
    pub(crate) fn wake(&self) {
        if self.has_some() {
            self.waker.wake();
        }
    }

    pub(crate) fn has_some(&self) -> bool {
        self.has_some.load(Ordering::SeqCst)
    }

    /// Swap the commands into `taken`, which must be empty.
    pub(crate) fn take(&self, taken: &mut Vec<Command>) {
        if self.has_some() {
            let mut queue = self.queue.lock();
            self.has_some.store(false, Ordering::SeqCst);
            if let Some(queue) = queue.as_mut() {
                mem::swap(queue, taken);
            }
        }
    }

    /// The core is gone: what it has not done, to be told of it. Later ones are dropped.
    pub(crate) fn close(&self) -> Vec<Command> {
        self.queue.lock().take().unwrap_or_default()
    }
}
