//! The streams of one connection that HTTP/3 and Noise use, and those that have not said yet whose they are: which
//! of them are still read, and what waits to be sent on them.

use std::collections::VecDeque;

use bytes::Bytes;
use quinn_proto::{Connection, FinishError, ReadError, StreamId, WriteError};
use rustc_hash::FxHashMap;

use crate::driver::{codes::varint, streams::discard};

/// The longest header of a session's stream: two varints. Up to here a stream is read byte by byte, so that what
/// follows the header is left for the application.
const LONGEST_HEADER: usize = 16;

/// Who reads a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Http3,
    Noise,
    /// Nobody yet: it waits for the session, or for the end of the Noise handshake.
    Nobody,
    /// What still comes is dropped.
    Over,
}

/// What a stream has for its reader.
pub(super) enum Arrived {
    Bytes(Bytes),
    End,
    Reset(u64),
}

struct OwnStream {
    reader: Reader,
    /// Bytes read so far.
    taken: usize,
    is_receive_done: bool,
    unsent: VecDeque<u8>,
    /// Nothing follows what is unsent.
    is_ending: bool,
    is_send_done: bool,
    /// The code of the peer's STOP_SENDING, until it is answered.
    stopped: Option<u64>,
}

#[derive(Default)]
pub(super) struct OwnStreams {
    streams: FxHashMap<StreamId, OwnStream>,
}

impl OwnStreams {
    /// Add a stream of which both sides are open, or only one.
    pub(super) fn insert(&mut self, id: StreamId, reader: Reader, receives: bool, sends: bool) {
        self.streams.insert(
            id,
            OwnStream {
                reader,
                taken: 0,
                is_receive_done: !receives,
                unsent: VecDeque::new(),
                is_ending: false,
                is_send_done: !sends,
                stopped: None,
            },
        );
    }

    pub(super) fn contains(&self, id: StreamId) -> bool {
        self.streams.contains_key(&id)
    }

    /// The stream is the application's from now on.
    pub(super) fn remove(&mut self, id: StreamId) {
        self.streams.remove(&id);
    }

    pub(super) fn reader(&self, id: StreamId) -> Option<Reader> {
        self.streams.get(&id).map(|stream| stream.reader)
    }

    pub(super) fn set_reader(&mut self, id: StreamId, reader: Reader) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.reader = reader;
        }
    }

    /// The peer's STOP_SENDING waits for its answer.
    pub(super) fn hold_stop(&mut self, id: StreamId, code: u64) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.stopped = Some(code);
        }
    }

    /// The code of the peer's STOP_SENDING, if it waits for its answer.
    pub(super) fn take_stop(&mut self, id: StreamId) -> Option<u64> {
        self.streams.get_mut(&id)?.stopped.take()
    }

    /// What has arrived for the stream's reader, if there is one.
    pub(super) fn read(&mut self, conn: &mut Connection, id: StreamId) -> Option<Arrived> {
        let stream = self.streams.get_mut(&id)?;
        if stream.is_receive_done {
            return None;
        }
        let max = match stream.reader {
            Reader::Http3 if stream.taken < LONGEST_HEADER => 1,
            Reader::Http3 | Reader::Noise => usize::MAX,
            Reader::Nobody => return None,
            Reader::Over => {
                stream.is_receive_done = discard(conn, id);
                self.remove_if_done(id);
                return None;
            }
        };
        let mut receiving = conn.recv_stream(id);
        let mut chunks = receiving.read(true).ok()?;
        let arrived = match chunks.next(max) {
            Ok(Some(chunk)) => {
                stream.taken = stream.taken.saturating_add(chunk.bytes.len());
                Some(Arrived::Bytes(chunk.bytes))
            }
            Ok(None) => Some(Arrived::End),
            Err(ReadError::Reset(code)) => Some(Arrived::Reset(code.into_inner())),
            Err(ReadError::Blocked) => None,
        };
        // The connection is driven after every change, so MAX_STREAM_DATA needs no extra transmit.
        let _ = chunks.finalize();
        if matches!(arrived, Some(Arrived::End | Arrived::Reset(_))) {
            stream.is_receive_done = true;
            self.remove_if_done(id);
        }
        arrived
    }

    /// Send bytes after everything that was written before.
    pub(super) fn write(&mut self, conn: &mut Connection, id: StreamId, bytes: &[u8], fin: bool) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.unsent.extend(bytes);
            stream.is_ending |= fin;
        }
        self.send(conn, id);
    }

    /// Send what flow control has room for.
    pub(super) fn send(&mut self, conn: &mut Connection, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let mut stopped = None;
        while !stream.is_send_done && !stream.unsent.is_empty() {
            let (front, _) = stream.unsent.as_slices();
            match conn.send_stream(id).write(front) {
                Ok(written) => drop(stream.unsent.drain(..written)),
                Err(WriteError::Blocked) => return,
                Err(WriteError::Stopped(code)) => {
                    stopped = Some(code);
                    stream.is_send_done = true;
                }
                Err(WriteError::ClosedStream) => stream.is_send_done = true,
            }
        }
        if stream.is_ending && !stream.is_send_done {
            stream.is_send_done = true;
            if let Err(FinishError::Stopped(code)) = conn.send_stream(id).finish() {
                stopped = Some(code);
            }
        }
        if let Some(code) = stopped {
            // RFC 9000 section 3.5: answer with a reset. The event of the stop may find the stream removed.
            let _ = conn.send_stream(id).reset(code);
        }
        self.remove_if_done(id);
    }

    /// Reset our side.
    pub(super) fn reset(&mut self, conn: &mut Connection, id: StreamId, code: u64) {
        // Fails only on a stream that quinn-proto has already discarded.
        let _ = conn.send_stream(id).reset(varint(code));
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_send_done = true;
        }
        self.remove_if_done(id);
    }

    /// Ask the peer to stop sending.
    pub(super) fn stop(&mut self, conn: &mut Connection, id: StreamId, code: u64) {
        let _ = conn.recv_stream(id).stop(varint(code));
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_receive_done = true;
        }
        self.remove_if_done(id);
    }

    fn remove_if_done(&mut self, id: StreamId) {
        let is_done = |stream: &OwnStream| stream.is_send_done && stream.is_receive_done;
        if self.streams.get(&id).is_some_and(is_done) {
            self.streams.remove(&id);
        }
    }
}
