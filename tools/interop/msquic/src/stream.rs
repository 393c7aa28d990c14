//! A blocking interface to msquic's streams: read, write, finish, reset.

use std::{
    fmt,
    io::{self, Read, Write},
    sync::Arc,
};

use msquic::{
    BufferRef, SendFlags, Status, StatusCode, StreamEvent, StreamOpenFlags, StreamShutdownFlags,
    StreamStartFlags,
};

use crate::{Failure, quic::Connection, watched::Watched};

/// Why a stream or its connection ended early: the code of the other side, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Cut(pub Option<u64>);

impl std::error::Error for Cut {}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            Some(code) => write!(f, "cut by the other side with code {code}"),
            None => write!(f, "cut"),
        }
    }
}

#[derive(Default)]
struct StreamState {
    /// Received bytes without new credit for the other side; `taken` of them were read.
    incoming: Vec<u8>,
    taken: usize,
    is_finished: bool,
    read_cut: Option<Cut>,
    write_cut: Option<Cut>,
    is_sending: bool,
    is_over: bool,
}

fn callback() -> (
    Arc<Watched<StreamState>>,
    impl FnMut(msquic::StreamRef, StreamEvent) -> Result<(), Status>,
) {
    let watched = Arc::new(Watched::<StreamState>::default());
    let state = watched.clone();
    let callback = move |_: msquic::StreamRef, event: StreamEvent| {
        match event {
            StreamEvent::Receive {
                buffers,
                total_buffer_length,
                ..
            } if *total_buffer_length > 0 => {
                state.change(|state| {
                    for buffer in buffers {
                        state.incoming.extend_from_slice(buffer.as_bytes());
                    }
                });
                // `read` reports when all of it was read; until then msquic delivers no more.
                return Err(StatusCode::QUIC_STATUS_PENDING.into());
            }
            StreamEvent::PeerSendShutdown => state.change(|state| state.is_finished = true),
            StreamEvent::PeerSendAborted { error_code } => state.change(|state| {
                state.read_cut.get_or_insert(Cut(Some(error_code)));
            }),
            StreamEvent::PeerReceiveAborted { error_code } => state.change(|state| {
                state.write_cut.get_or_insert(Cut(Some(error_code)));
            }),
            StreamEvent::SendComplete { .. } => state.change(|state| state.is_sending = false),
            StreamEvent::ShutdownComplete {
                connection_shutdown_by_app,
                connection_closed_remotely,
                connection_error_code,
                ..
            } => state.change(|state| {
                let is_told = connection_shutdown_by_app && connection_closed_remotely;
                let cut = Cut(is_told.then_some(connection_error_code));
                state.read_cut.get_or_insert(cut);
                state.write_cut.get_or_insert(cut);
                state.is_over = true;
            }),
            _ => {}
        }
        Ok(())
    };
    (watched, callback)
}

/// A stream that the other side opened, before it is accepted.
pub struct Incoming {
    handle: msquic::Stream,
    state: Arc<Watched<StreamState>>,
}

impl Incoming {
    pub fn new(stream: &msquic::StreamRef) -> Self {
        let (state, callback) = callback();
        stream.set_callback_handler(callback);
        // SAFETY: msquic transfers the ownership of an inbound stream to this callback.
        let handle = unsafe { msquic::Stream::from_raw(stream.as_raw()) };
        Incoming { handle, state }
    }

    pub fn claimed(self, connection: Connection) -> Stream {
        Stream {
            state: self.state,
            handle: self.handle,
            connection,
        }
    }
}

/// One stream. `&Stream` reads and writes, so that two threads can do both at once.
pub struct Stream {
    state: Arc<Watched<StreamState>>,
    // Dropped before the connection, because streams must be closed first.
    handle: msquic::Stream,
    pub connection: Connection,
}

impl Stream {
    pub fn open(on: &msquic::Connection, connection: Connection) -> Result<Self, Failure> {
        let (state, callback) = callback();
        let handle = msquic::Stream::open(on, StreamOpenFlags::NONE, callback)?;
        handle.start(StreamStartFlags::SHUTDOWN_ON_FAIL)?;
        Ok(Stream {
            state,
            handle,
            connection,
        })
    }

    /// End our direction.
    pub fn finish(&self) -> Result<(), Failure> {
        Ok(self.handle.shutdown(StreamShutdownFlags::GRACEFUL, 0)?)
    }

    /// Finish our direction, and wait until the other side has finished its own and acknowledged all of
    /// ours. A stream that is dropped before is reset.
    pub fn close(self) -> Result<(), Failure> {
        self.finish()?;
        io::copy(&mut &self, &mut io::sink())?;
        self.state.wait(|state| state.is_over.then_some(()));
        Ok(())
    }

    /// Finish our direction and send STOP_SENDING.
    pub fn leave(self) -> Result<(), Failure> {
        self.finish()?;
        self.handle
            .shutdown(StreamShutdownFlags::ABORT_RECEIVE, 0)?;
        self.state.wait(|state| state.is_over.then_some(()));
        Ok(())
    }

    /// Reset both directions.
    pub fn reset(&self, code: u64) -> Result<(), Failure> {
        Ok(self.handle.shutdown(StreamShutdownFlags::ABORT, code)?)
    }
}

impl Read for &Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (count, credit) = self.state.wait(|state| {
            let rest = &state.incoming[state.taken..];
            if rest.is_empty() {
                let cut = state.read_cut.map(|cut| Err(io::Error::other(cut)));
                return if state.is_finished {
                    Some(Ok((0, 0)))
                } else {
                    cut
                };
            }
            let count = rest.len().min(into.len());
            into[..count].copy_from_slice(&rest[..count]);
            state.taken += count;
            if state.taken < state.incoming.len() {
                return Some(Ok((count, 0)));
            }
            state.taken = 0;
            let credit = state.incoming.len() as u64;
            state.incoming.clear();
            Some(Ok((count, credit)))
        })?;
        if credit > 0 {
            self.handle.receive_complete(credit);
        }
        Ok(count)
    }
}

impl Write for &Stream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.state.change(|state| state.is_sending = true);
        let buffers = [BufferRef::from(data)];
        // SAFETY: data and buffers are borrowed until msquic is done with them, below.
        if let Err(status) = unsafe {
            self.handle
                .send(&buffers, SendFlags::NONE, std::ptr::null())
        } {
            self.state.change(|state| state.is_sending = false);
            let cut = self.state.wait(|state| Some(state.write_cut));
            return Err(cut.map_or_else(|| io::Error::other(status), io::Error::other));
        }
        self.state.wait(|state| (!state.is_sending).then_some(()));
        match self.state.wait(|state| Some(state.write_cut)) {
            Some(cut) => Err(io::Error::other(cut)),
            None => Ok(data.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
