//! One stream: read, write, finish, reset, stop. What the I/O thread does about it is in
//! `driver::streams`; this file only fills and empties the two queues and says so.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use crate::{
    blocking,
    budget::Budget,
    connection::Handle,
    driver::{Command, Commands},
    error::{ReadError, WriteError},
    queue::{LocalEnd, RecvQueue, SendQueue},
    receive_credit::ReceiveCredit,
    send_buffers,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// What the application's stream and the I/O thread share.
pub(crate) struct StreamShared {
    pub(crate) id: u64,
    connection: u64,
    pub(crate) recv_queue: Mutex<RecvQueue>,
    pub(crate) send_queue: Mutex<SendQueue>,
    /// The I/O thread has been told to look and has not looked yet.
    pub(crate) is_queued: AtomicBool,
    commands: Arc<Commands>,
    /// What the whole connection holds.
    pub(crate) receive_credit: Arc<ReceiveCredit>,
    read_buffer: usize,
    write_buffer: usize,
}

impl StreamShared {
    pub(crate) fn new(
        id: u64,
        connection: u64,
        commands: Arc<Commands>,
        receive_credit: Arc<ReceiveCredit>,
        unacked: Arc<Budget>,
        read_buffer: usize,
        write_buffer: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            connection,
            recv_queue: Mutex::default(),
            send_queue: Mutex::new(SendQueue::new(unacked)),
            is_queued: AtomicBool::new(false),
            commands,
            receive_credit,
            read_buffer,
            write_buffer,
        })
    }

    pub(crate) fn read_buffer(&self) -> usize {
        self.read_buffer
    }

    pub(crate) fn write_buffer(&self) -> usize {
        self.write_buffer
    }

    /// Read no more. True when the peer has to be told.
    pub(crate) fn stop(&self, code: u64) -> bool {
        let (is_news, cost) = {
            let mut incoming = self.recv_queue.lock();
            let cost = incoming.cost;
            (incoming.stop(code), cost)
        };
        self.release(cost);
        is_news
    }

    /// So much was read or dropped: others of the connection may have waited for that.
    fn release(&self, cost: usize) {
        if self.receive_credit.release(cost) {
            self.commands.push(Command::Resume(self.connection));
        }
    }

    /// The application has this stream of the peer's now.
    pub(crate) fn accept(self: &Arc<Self>) {
        let is_news = self.send_queue.lock().accept();
        if is_news {
            self.touch();
        }
    }

    /// Have the I/O thread look at this stream.
    fn touch(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.commands
                .push(Command::Stream(self.connection, self.clone()));
        }
    }
}

impl Drop for StreamShared {
    fn drop(&mut self) {
        let cost = self.recv_queue.get_mut().cost;
        self.release(cost);
    }
}

/// A bidirectional byte stream.
///
/// All verbs may be called from any thread; a reader and a writer may work at once.
/// Dropping a stream that was not finished resets it with code 0, so that the peer never
/// takes a part for the whole; dropping one that was not read to its end stops it.
pub struct Stream {
    shared: Arc<StreamShared>,
    /// A connection lives at least as long as its streams.
    _connection: Arc<Handle>,
}

impl Stream {
    pub(crate) fn new(shared: Arc<StreamShared>, connection: Arc<Handle>) -> Self {
        Self {
            shared,
            _connection: connection,
        }
    }

    /// The QUIC stream id (RFC 9000 section 2.1).
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Append up to `max` bytes to `into`, as the buffers they arrived in, and return how
    /// many. `Ok(0)` for a `max` above zero is the end of the stream.
    ///
    /// # Cancellation
    /// Bytes leave the stream only when this returns `Ready`.
    pub fn poll_read_chunks(
        &self,
        cx: &mut Context<'_>,
        max: usize,
        into: &mut Vec<Bytes>,
    ) -> Poll<Result<usize, ReadError>> {
        let (result, wants_more, cost) = {
            let mut incoming = self.shared.recv_queue.lock();
            let before = incoming.cost;
            let result = incoming.poll_read_chunks(cx, max, into);
            let wants_more = incoming.wants_more(self.shared.read_buffer);
            (result, wants_more, before - incoming.cost)
        };
        if wants_more {
            self.shared.touch();
        }
        self.shared.release(cost);
        result
    }

    /// Read up to `buf.len()` bytes. `Ok(0)` for a non-empty `buf` is the end of the stream.
    ///
    /// # Cancellation
    /// Bytes leave the stream only when this returns `Ready`.
    pub fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize, ReadError>> {
        let mut chunks = Vec::new();
        let n = ready!(self.poll_read_chunks(cx, buf.len(), &mut chunks))?;
        let mut rest = buf;
        for chunk in chunks {
            let (head, tail) = rest.split_at_mut(chunk.len());
            head.copy_from_slice(&chunk);
            rest = tail;
        }
        Poll::Ready(Ok(n))
    }

    /// Take bytes of `data` and return how many: as many as the write buffer has room for.
    ///
    /// # Cancellation
    /// Bytes are taken only when this returns `Ready`.
    pub fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, WriteError>> {
        // Copied without the lock, which the I/O thread would have to wait for.
        let room =
            self.shared
                .send_queue
                .lock()
                .poll_room(cx, data.len(), self.shared.write_buffer);
        let data = &data[..ready!(room)?];
        let chunks: Vec<Bytes> = send_buffers::copied(data).collect();
        let (result, is_news) = {
            let mut outgoing = self.shared.send_queue.lock();
            // Again: another thread may have written, reset or finished meanwhile.
            let result = outgoing.poll_room(cx, data.len(), self.shared.write_buffer);
            if let Poll::Ready(Ok(mut room)) = result {
                outgoing.push(chunks.into_iter().map_while(|mut chunk| {
                    chunk.truncate(room);
                    room -= chunk.len();
                    (!chunk.is_empty()).then_some(chunk)
                }));
            }
            // A stream that QUIC holds back is resumed by QUIC.
            let is_news = matches!(result, Poll::Ready(Ok(1..))) && !outgoing.is_blocked;
            (result, is_news)
        };
        if is_news {
            self.shared.touch();
        }
        result
    }

    /// No more bytes from this side (RFC 9000 section 2.4). What was written is delivered.
    /// Does nothing on a stream that is over.
    pub fn finish(&self) {
        self.end(LocalEnd::Finish);
    }

    /// Abandon this side with an application code below 2^62: unsent bytes are dropped and
    /// the peer reads an error (RFC 9000 section 19.4). Overtakes a finish that the peer has
    /// not acknowledged; does nothing on a stream that is over.
    pub fn reset(&self, code: u64) {
        self.end(LocalEnd::Reset(code));
    }

    fn end(&self, ending: LocalEnd) {
        let is_news = self.shared.send_queue.lock().end(ending);
        if is_news {
            self.shared.touch();
        }
    }

    /// Read no more, drop what is receive_credit, and ask the peer to stop (RFC 9000 section 19.5).
    ///
    /// After a `finish`, the peer may say its last words, which are dropped: it is asked to
    /// stop only when they take more than a second, and never before it has acknowledged the
    /// finish. Some peers take STOP_SENDING for the end of both directions and would lose the
    /// tail, and a program that closes a stream means no failure of the one at the other end.
    pub fn stop(&self, code: u64) {
        if self.shared.stop(code) {
            self.shared.touch();
        }
    }

    /// Ready when the peer has acknowledged everything up to our finish.
    pub fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        self.shared.send_queue.lock().poll_finished(cx)
    }

    /// Block until at least one byte or the end is here, and read it into `buf`.
    pub fn read(&self, buf: &mut [u8]) -> Result<usize, ReadError> {
        blocking::wait(|cx| self.poll_read(cx, buf))
    }

    /// Block until the end of the stream and return all bytes, at most `limit` of them; what
    /// comes beyond is left receive_credit.
    pub fn read_to_end(&self, limit: usize) -> Result<Vec<u8>, ReadError> {
        let mut all = Vec::new();
        while all.len() < limit {
            let mut chunks = Vec::new();
            let room = limit - all.len();
            if blocking::wait(|cx| self.poll_read_chunks(cx, room, &mut chunks))? == 0 {
                break;
            }
            for chunk in chunks {
                all.extend_from_slice(&chunk);
            }
        }
        Ok(all)
    }

    /// Block until all of `data` is in the write buffer.
    pub fn write_all(&self, mut data: &[u8]) -> Result<(), WriteError> {
        while !data.is_empty() {
            let n = blocking::wait(|cx| self.poll_write(cx, data))?;
            data = &data[n..];
        }
        Ok(())
    }

    /// Block until the peer has acknowledged everything up to our finish.
    pub fn wait_finished(&self) -> Result<(), WriteError> {
        blocking::wait(|cx| self.poll_finished(cx))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.shared.send_queue.lock().ending.is_none() {
            self.reset(0);
        }
        self.stop(0);
        // Whoever drops it, in whatever thread, knows of no flush to come.
        self.shared.commands.wake();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.shared.id).finish()
    }
}
