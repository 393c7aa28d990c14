//! One stream: read, write, finish, reset, stop. This file fills and empties the stream's two
//! queues and notifies the I/O thread, whose part is in `driver::streams`.

use std::{
    fmt, iter,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use crate::{
    blocking,
    driver::Command,
    error::{ReadError, WriteError},
    handle::Handle,
    queue::{LocalEnd, RecvQueue},
    send_buffers,
    shared::StreamShared,
    sync::atomic::Ordering,
};

/// Up to this many bytes are copied under the lock of a queue, as taking the lock once more, and lists
/// of chunks, cost more than such a copy. More would let the I/O thread wait.
const COPIED_UNDER_LOCK: usize = 4096;

/// A bidirectional byte stream.
///
/// All methods may be called from any thread, and a reader and a writer may work at once.
/// Dropping a stream that was not finished resets it with code 0, so that the peer does not
/// take a part for the whole. Dropping one that was not read to its end stops it with code 0.
pub struct Stream {
    shared: Arc<StreamShared>,
    /// Keeps the connection open while it has streams.
    connection: Arc<Handle>,
}

impl Stream {
    pub(crate) fn new(shared: Arc<StreamShared>, connection: Arc<Handle>) -> Self {
        Self { shared, connection }
    }

    /// The application has taken this stream, which the peer opened.
    pub(crate) fn accept(&self) {
        let is_news = self.shared.send_queue.lock().accept();
        if is_news {
            self.notify();
            // The peer's stream counts against its limit until the reset, and a program that only drops
            // what it accepts flushes nothing.
            self.connection.commands.wake();
        }
    }

    /// Have the I/O thread process this stream.
    fn notify(&self) {
        if !self.shared.is_queued.swap(true, Ordering::AcqRel) {
            let Handle { shared, commands } = &*self.connection;
            commands.push(Command::Stream(shared.id, self.shared.clone()));
        }
    }

    /// `cost` was read or dropped: resume other streams of the connection that wait for credit. True
    /// if there are any.
    fn release(&self, cost: usize) -> bool {
        let is_news = self.shared.receive_credit.release(cost);
        if is_news {
            let Handle { shared, commands } = &*self.connection;
            commands.push(Command::Resume(shared.id));
        }
        is_news
    }

    /// The QUIC stream id (RFC 9000 section 2.1).
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Append up to `max` bytes to `into`, in the buffers they arrived in, and return how many.
    /// `Ok(0)` for a `max` above zero is the end of the stream.
    ///
    /// # Errors
    /// [`ReadError`] when the peer reset the stream, this program stopped it, or the connection
    /// ended. Bytes that arrived before are returned first, unless this program stopped reading.
    ///
    /// # Cancellation
    /// Bytes leave the stream only when this returns `Ready`.
    pub fn poll_read_chunks(
        &self,
        cx: &mut Context<'_>,
        max: usize,
        into: &mut Vec<Bytes>,
    ) -> Poll<Result<usize, ReadError>> {
        self.read_with(|recv_queue| recv_queue.poll_read_chunks(cx, max, into))
    }

    /// Read, and have more moved to the queue if there is room now.
    fn read_with<T>(&self, read: impl FnOnce(&mut RecvQueue) -> T) -> T {
        let (result, wants_more, cost) = {
            let mut recv_queue = self.shared.recv_queue.lock();
            let before = recv_queue.cost;
            let result = read(&mut recv_queue);
            let wants_more = recv_queue.wants_more(self.shared.read_buffer());
            (result, wants_more, before - recv_queue.cost)
        };
        if wants_more {
            self.notify();
        }
        self.release(cost);
        result
    }

    /// Read up to `buf.len()` bytes. `Ok(0)` for a non-empty `buf` is the end of the stream.
    ///
    /// # Errors
    /// As [`poll_read_chunks`](Self::poll_read_chunks).
    ///
    /// # Cancellation
    /// Bytes leave the stream only when this returns `Ready`.
    pub fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize, ReadError>> {
        if buf.len() <= COPIED_UNDER_LOCK {
            return self.read_with(|recv_queue| recv_queue.poll_read(cx, buf));
        }
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

    /// Queue as many bytes of `data` as the write buffer has room for, and return how many.
    ///
    /// # Errors
    /// [`WriteError`] when the peer stopped reading, this program finished or reset the stream,
    /// or the connection ended.
    ///
    /// # Cancellation
    /// Bytes are taken only when this returns `Ready`.
    pub fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, WriteError>> {
        if data.len() <= COPIED_UNDER_LOCK {
            return self.write_with(cx, data.len(), |room| {
                iter::once(Bytes::copy_from_slice(&data[..room]))
            });
        }
        // Copied without the lock, so that the I/O thread does not wait for the copy.
        let room =
            self.shared
                .send_queue
                .lock()
                .poll_room(cx, data.len(), self.shared.write_buffer());
        let data = &data[..ready!(room)?];
        let chunks: Vec<Bytes> = send_buffers::copied(data).collect();
        // There may be less room now: another thread may have written, reset or finished meanwhile.
        self.write_with(cx, data.len(), |mut room| {
            chunks.into_iter().map_while(move |mut chunk| {
                chunk.truncate(room);
                room -= chunk.len();
                (!chunk.is_empty()).then_some(chunk)
            })
        })
    }

    /// Queue what `chunks` makes for the room that there is, up to `wanted` bytes. It is called only if
    /// there is some.
    fn write_with<I: Iterator<Item = Bytes>>(
        &self,
        cx: &Context<'_>,
        wanted: usize,
        chunks: impl FnOnce(usize) -> I,
    ) -> Poll<Result<usize, WriteError>> {
        let (result, is_news) = {
            let mut send_queue = self.shared.send_queue.lock();
            let result = send_queue.poll_room(cx, wanted, self.shared.write_buffer());
            if let Poll::Ready(Ok(room @ 1..)) = result {
                send_queue.push(chunks(room));
            }
            // A stream that flow control blocks is resumed by quinn-proto's event.
            let is_news = matches!(result, Poll::Ready(Ok(1..))) && !send_queue.is_blocked;
            (result, is_news)
        };
        if is_news {
            self.notify();
        }
        result
    }

    /// End this side with FIN after the bytes already written (RFC 9000 section 2.4). Does nothing
    /// on a stream that has ended.
    pub fn finish(&self) {
        self.end(LocalEnd::Finish);
    }

    /// Reset this side with an application code below 2^62: unsent bytes are dropped and the
    /// peer reads an error (RFC 9000 section 19.4). Replaces a finish that the peer has not
    /// acknowledged; does nothing on a stream that has ended.
    pub fn reset(&self, code: u64) {
        self.end(LocalEnd::Reset(code));
    }

    /// True if the I/O thread has something to do for it.
    fn end(&self, ending: LocalEnd) -> bool {
        let is_news = self.shared.send_queue.lock().end(ending);
        if is_news {
            self.notify();
        }
        is_news
    }

    /// Stop reading with an application code below 2^62: unread bytes are dropped, and the peer
    /// is asked to stop sending (RFC 9000 section 19.5).
    ///
    /// After a [`finish`](Self::finish) the peer may finish too, and its bytes are dropped. It gets
    /// STOP_SENDING only when that takes more than a second, and never before it has acknowledged
    /// the finish. Some peers take STOP_SENDING for the end of both directions and would lose the
    /// tail, and closing a stream should not cause an error in the peer's program.
    pub fn stop(&self, code: u64) {
        self.stop_reading(code);
    }

    /// True if the I/O thread has something to do for it.
    fn stop_reading(&self, code: u64) -> bool {
        let (is_news, cost) = {
            let mut recv_queue = self.shared.recv_queue.lock();
            let cost = recv_queue.cost;
            (recv_queue.stop(code), cost)
        };
        let is_any_resumed = self.release(cost);
        if is_news {
            self.notify();
        }
        is_news || is_any_resumed
    }

    /// Ready when the peer has acknowledged all bytes and the FIN.
    ///
    /// # Errors
    /// [`WriteError`] when this side was reset, the peer stopped reading, or the connection ended
    /// before.
    pub fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        self.shared.send_queue.lock().poll_finished(cx)
    }

    /// [`poll_read`](Self::poll_read), blocking.
    pub fn read(&self, buf: &mut [u8]) -> Result<usize, ReadError> {
        blocking::wait(|cx| self.poll_read(cx, buf))
    }

    /// Block until the end of the stream, or until `limit` bytes have arrived, and return them.
    /// Bytes beyond `limit` stay unread.
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

    /// Write all of `data`, blocking until the last of it is in the write buffer.
    pub fn write_all(&self, mut data: &[u8]) -> Result<(), WriteError> {
        while !data.is_empty() {
            let n = blocking::wait(|cx| self.poll_write(cx, data))?;
            data = &data[n..];
        }
        Ok(())
    }

    /// [`poll_finished`](Self::poll_finished), blocking.
    pub fn wait_finished(&self) -> Result<(), WriteError> {
        blocking::wait(|cx| self.poll_finished(cx))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let is_unfinished = self.shared.send_queue.lock().ending.is_none();
        let is_reset = is_unfinished && self.end(LocalEnd::Reset(0));
        let is_stopped = self.stop_reading(0);
        // A drop may happen in any thread, and no flush may follow it. A stream that was finished and
        // read to its end, as that of most requests, wakes nobody: the wake-up would cost a system call,
        // and take the commands of other streams from the flush that gathers them.
        if is_reset || is_stopped {
            self.connection.commands.wake();
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.shared.id).finish()
    }
}
