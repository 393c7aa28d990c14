//! The two bounded byte queues of a stream, between application threads and the I/O thread.
//!
//! Written bytes are copied once; received bytes stay in the buffers of their datagrams.
//! `shared::StreamShared` gives each queue a lock, which is held for list operations only and never
//! across a wait. The I/O thread's use of the queues is in `driver::streams`.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};

use crate::{
    budget::Budget,
    error::{ReadError, WriteError},
    ready::Waiters,
    receive_credit::CHUNK_COST,
};

/// How this program ended its sending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalEnd {
    /// With FIN, after all bytes.
    Finish,
    /// With RESET_STREAM and this application code.
    Reset(u64),
}

/// Written bytes that QUIC has not taken yet. They are charged to a budget.
pub(crate) struct SendQueue {
    chunks: VecDeque<Bytes>,
    /// Bytes in `chunks`.
    len: usize,
    /// Bytes that QUIC has taken so far.
    moved: usize,
    budget: Arc<Budget>,
    pub(crate) ending: Option<LocalEnd>,
    /// The peer acknowledged all bytes and our FIN.
    pub(crate) is_acknowledged: bool,
    /// Why nothing more can be sent. Few streams fail, and a connection holds streams opened ahead, so
    /// that it is boxed.
    error: Option<Box<WriteError>>,
    /// The peer opened the stream and the application has not accepted it. Until then the peer's
    /// STOP_SENDING stays unanswered, so that the stream counts against the peer's stream limit:
    /// streams that wait to be accepted are then bounded by it.
    pub(crate) is_unaccepted: bool,
    /// Flow control or the send window blocks the stream; quinn-proto's event, not a write, resumes
    /// it.
    pub(crate) is_blocked: bool,
    pub(crate) writable: Waiters,
    pub(crate) finished: Waiters,
}

impl SendQueue {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self {
            chunks: VecDeque::new(),
            len: 0,
            moved: 0,
            budget,
            ending: None,
            is_acknowledged: false,
            error: None,
            is_unaccepted: false,
            is_blocked: false,
            writable: Waiters::default(),
            finished: Waiters::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn chunks(&mut self) -> &mut [Bytes] {
        self.chunks.make_contiguous()
    }

    /// QUIC has taken `bytes` bytes, and with them the first `chunks` chunks completely.
    pub(crate) fn took(&mut self, chunks: usize, bytes: usize) {
        self.chunks.drain(..chunks);
        self.len -= bytes;
        self.moved = self.moved.saturating_add(bytes);
        self.budget.release(bytes as u64);
    }

    /// How many bytes may be pushed now: `wanted`, or as many as `bound` and the budget leave room
    /// for.
    pub(crate) fn poll_room(
        &mut self,
        cx: &Context<'_>,
        wanted: usize,
        bound: usize,
    ) -> Poll<Result<usize, WriteError>> {
        if let Some(error) = self.error.as_deref() {
            return Poll::Ready(Err(error.clone()));
        }
        if self.ending.is_some() {
            return Poll::Ready(Err(WriteError::Closed));
        }
        let bound = self.budget.bound(bound, self.moved);
        let room = bound.saturating_sub(self.len);
        if room == 0 && wanted > 0 {
            self.writable.add(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(wanted.min(room)))
    }

    /// Append `chunks`, for which `poll_room` has found room.
    pub(crate) fn push(&mut self, chunks: impl Iterator<Item = Bytes>) {
        let before = self.len;
        for chunk in chunks {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
        self.budget.reserve((self.len - before) as u64);
    }

    /// Put `header` before all other bytes. There need be no room for it.
    pub(crate) fn prepend(&mut self, header: Bytes) {
        self.len += header.len();
        self.budget.reserve(header.len() as u64);
        self.chunks.push_front(header);
    }

    pub(crate) fn poll_finished(&mut self, cx: &Context<'_>) -> Poll<Result<(), WriteError>> {
        if self.is_acknowledged {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.error.as_deref() {
            return Poll::Ready(Err(error.clone()));
        }
        if let Some(LocalEnd::Reset(_)) = self.ending {
            return Poll::Ready(Err(WriteError::Closed));
        }
        self.finished.add(cx.waker());
        Poll::Pending
    }

    /// End this side. The first call counts, but a reset replaces a finish that the peer has not
    /// acknowledged. True when something changed.
    pub(crate) fn end(&mut self, ending: LocalEnd) -> bool {
        let is_news = match (self.ending, ending) {
            (None, _) => true,
            (Some(LocalEnd::Finish), LocalEnd::Reset(_)) => !self.is_acknowledged,
            _ => false,
        };
        if !is_news || self.error.is_some() {
            return false;
        }
        self.ending = Some(ending);
        if let LocalEnd::Reset(_) = ending {
            self.drop_chunks();
            self.wake_all();
        } else {
            self.writable.wake();
        }
        true
    }

    /// Drop all bytes: nothing more can be sent because of `error`.
    pub(crate) fn fail(&mut self, error: WriteError) {
        self.drop_chunks();
        self.error.get_or_insert_with(|| Box::new(error));
        self.wake_all();
    }

    /// The application has accepted the stream. True when the peer's STOP_SENDING waits for that.
    pub(crate) fn accept(&mut self) -> bool {
        self.is_unaccepted = false;
        self.stop_to_answer().is_some()
    }

    /// The code of the peer's STOP_SENDING that must be answered now.
    pub(crate) fn stop_to_answer(&self) -> Option<u64> {
        match self.error.as_deref() {
            Some(WriteError::Stopped(code)) if !self.is_unaccepted => Some(*code),
            _ => None,
        }
    }

    /// Finished by this program and not yet acknowledged.
    pub(crate) fn is_undelivered(&self) -> bool {
        self.ending == Some(LocalEnd::Finish) && !self.is_acknowledged && self.error.is_none()
    }

    pub(crate) fn drop_chunks(&mut self) {
        self.budget.release(self.len as u64);
        self.chunks = VecDeque::new();
        self.len = 0;
    }

    pub(crate) fn wake_all(&mut self) {
        self.writable.wake();
        self.finished.wake();
    }
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        self.drop_chunks();
    }
}

/// How the peer's side ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerEnd {
    /// All of them arrived.
    Finished,
    /// Some will not arrive, because of this error.
    Failed(ReadError),
}

/// A [`PeerEnd`] in a receive queue. Few streams fail, and a connection holds streams opened ahead, so
/// that the error is boxed.
pub(crate) enum StoredEnd {
    Finished,
    Failed(Box<ReadError>),
}

impl From<PeerEnd> for StoredEnd {
    fn from(end: PeerEnd) -> Self {
        match end {
            PeerEnd::Finished => Self::Finished,
            PeerEnd::Failed(error) => Self::Failed(Box::new(error)),
        }
    }
}

/// Whether received bytes go to a receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Open,
    /// This program stopped reading, with this code.
    Stopped(u64),
    /// The end has arrived.
    Ended,
}

/// Received bytes that the application has not read.
#[derive(Default)]
pub(crate) struct RecvQueue {
    chunks: VecDeque<Bytes>,
    /// Bytes in `chunks`.
    pub(crate) len: usize,
    /// Their cost: their bytes, and `CHUNK_COST` for each chunk.
    pub(crate) cost: usize,
    pub(crate) end: Option<StoredEnd>,
    /// This program stopped reading, with this code.
    pub(crate) stopped: Option<u64>,
    /// The bound is reached and QUIC may hold more: a read must notify the I/O thread.
    pub(crate) is_paused: bool,
    pub(crate) readable: Waiters,
}

impl RecvQueue {
    /// Whether there are bytes to read; `Ok(false)`: the end.
    fn poll_readable(&mut self, cx: &Context<'_>) -> Poll<Result<bool, ReadError>> {
        if self.stopped.is_some() {
            return Poll::Ready(Err(ReadError::Closed));
        }
        if self.len > 0 {
            return Poll::Ready(Ok(true));
        }
        match &self.end {
            Some(StoredEnd::Finished) => Poll::Ready(Ok(false)),
            Some(StoredEnd::Failed(error)) => Poll::Ready(Err(ReadError::clone(error))),
            None => {
                self.readable.add(cx.waker());
                Poll::Pending
            }
        }
    }

    /// Copy up to `buf.len()` bytes. `Ok(0)` for a non-empty `buf`: the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize, ReadError>> {
        if !ready!(self.poll_readable(cx))? {
            return Poll::Ready(Ok(0));
        }
        let mut taken = 0;
        while taken < buf.len() {
            let Some(front) = self.chunks.front_mut() else {
                break;
            };
            let n = front.len().min(buf.len() - taken);
            front.copy_to_slice(&mut buf[taken..taken + n]);
            taken += n;
            if front.is_empty() {
                self.chunks.pop_front();
                self.cost -= CHUNK_COST;
            }
        }
        self.len -= taken;
        self.cost -= taken;
        Poll::Ready(Ok(taken))
    }

    /// Move up to `max` bytes, in the chunks they arrived in, to `into`. `Ok(0)`: the end.
    pub(crate) fn poll_read_chunks(
        &mut self,
        cx: &Context<'_>,
        max: usize,
        into: &mut Vec<Bytes>,
    ) -> Poll<Result<usize, ReadError>> {
        if !ready!(self.poll_readable(cx))? {
            return Poll::Ready(Ok(0));
        }
        let mut taken = 0;
        while taken < max {
            let Some(front) = self.chunks.front_mut() else {
                break;
            };
            let room = max - taken;
            if front.len() > room {
                into.push(front.split_to(room));
                taken += room;
            } else {
                taken += front.len();
                into.extend(self.chunks.pop_front());
                self.cost -= CHUNK_COST;
            }
        }
        self.len -= taken;
        self.cost -= taken;
        Poll::Ready(Ok(taken))
    }

    /// Whether received bytes still go to this queue.
    pub(crate) fn reading(&self) -> Reading {
        match (self.stopped, &self.end) {
            (Some(code), _) => Reading::Stopped(code),
            (None, Some(_)) => Reading::Ended,
            (None, None) => Reading::Open,
        }
    }

    /// Whether what the application did changes what QUIC does: it made room for bytes that QUIC may
    /// hold, or it stopped reading.
    pub(crate) fn is_news_for_quic(&self) -> bool {
        self.is_paused || self.stopped.is_some()
    }

    /// Whether the I/O thread should move more bytes out of QUIC: half of `bound` is free, so that
    /// one wake-up serves many bytes.
    pub(crate) fn wants_more(&self, bound: usize) -> bool {
        self.is_paused && self.cost <= bound / 2
    }

    /// Append received chunks, unless this program stopped reading, and return their cost.
    pub(crate) fn push(&mut self, chunks: impl Iterator<Item = Bytes>) -> usize {
        let mut cost = 0;
        for chunk in chunks.filter(|_| self.stopped.is_none()) {
            self.len += chunk.len();
            cost += chunk.len() + CHUNK_COST;
            self.chunks.push_back(chunk);
        }
        self.cost += cost;
        cost
    }

    /// The peer's side has ended. Queued bytes stay readable.
    pub(crate) fn finish(&mut self, end: PeerEnd) {
        self.note_end(end);
        self.readable.wake();
    }

    /// The same, and the caller wakes readers. The first end counts.
    pub(crate) fn note_end(&mut self, end: PeerEnd) {
        self.end.get_or_insert_with(|| end.into());
    }

    /// Stop reading and drop all bytes. True when the peer must be asked to stop.
    pub(crate) fn stop(&mut self, code: u64) -> bool {
        if self.stopped.is_some() {
            return false;
        }
        self.stopped = Some(code);
        self.chunks = VecDeque::new();
        self.len = 0;
        self.cost = 0;
        self.readable.wake();
        self.end.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn queued_bytes_are_charged_until_they_are_taken_or_dropped() {
        let budget = Budget::new(1000);
        let mut out = SendQueue::new(budget.clone());
        let bytes = Bytes::from_static(&[0; 300]);
        out.push([bytes.clone(), bytes.clone()].into_iter());
        assert_eq!(budget.charged(), 600);
        assert_eq!(out.poll_room(&cx(), 1000, 1000), Poll::Ready(Ok(400)));
        out.took(1, 400);
        assert_eq!((out.len(), budget.charged()), (200, 200));
        assert!(out.end(LocalEnd::Reset(1)));
        assert_eq!(budget.charged(), 0);
        let mut out = SendQueue::new(budget.clone());
        out.push([bytes].into_iter());
        drop(out);
        assert_eq!(budget.charged(), 0);
    }

    #[test]
    fn no_byte_is_accepted_beyond_the_bound() {
        let mut out = SendQueue::new(Budget::new(1 << 20));
        assert_eq!(out.poll_room(&cx(), 7, 10), Poll::Ready(Ok(7)));
        out.push([Bytes::from_static(&[0; 7])].into_iter());
        assert_eq!(out.poll_room(&cx(), 7, 10), Poll::Ready(Ok(3)));
        out.push([Bytes::from_static(&[0; 3])].into_iter());
        assert_eq!(out.poll_room(&cx(), 7, 10), Poll::Pending);
        assert_eq!(out.poll_room(&cx(), 0, 10), Poll::Ready(Ok(0)));
        assert_eq!(out.len(), 10);
    }

    #[test]
    fn a_reset_replaces_a_finish_and_a_finish_no_reset() {
        let mut out = SendQueue::new(Budget::new(1 << 20));
        assert!(out.end(LocalEnd::Finish));
        assert!(!out.end(LocalEnd::Finish));
        assert!(out.end(LocalEnd::Reset(3)));
        assert!(!out.end(LocalEnd::Finish));
        assert_eq!(out.ending, Some(LocalEnd::Reset(3)));
        assert_eq!(
            out.poll_room(&cx(), 1, 10),
            Poll::Ready(Err(WriteError::Closed))
        );
    }

    #[test]
    fn copies_cross_chunks_and_count_as_much_as_chunks_do() {
        let mut inc = RecvQueue::default();
        let came = [&[1; 3][..], &[2; 5], &[3; 4]].map(Bytes::copy_from_slice);
        assert_eq!(inc.push(came.into_iter()), 12 + 3 * CHUNK_COST);
        inc.finish(PeerEnd::Finished);
        let mut buf = [0; 6];
        assert_eq!(inc.poll_read(&cx(), &mut buf), Poll::Ready(Ok(6)));
        assert_eq!(buf, [1, 1, 1, 2, 2, 2]);
        assert_eq!((inc.len, inc.cost), (6, 6 + 2 * CHUNK_COST));
        assert_eq!(inc.poll_read(&cx(), &mut buf), Poll::Ready(Ok(6)));
        assert_eq!(buf, [2, 2, 3, 3, 3, 3]);
        assert_eq!((inc.len, inc.cost), (0, 0));
        assert_eq!(inc.poll_read(&cx(), &mut buf), Poll::Ready(Ok(0)));
    }

    #[test]
    fn reads_cut_chunks_where_asked_and_deliver_before_the_end() {
        let mut inc = RecvQueue::default();
        let came = [Bytes::from_static(&[1; 300]), Bytes::from_static(&[2; 5])];
        assert_eq!(inc.push(came.into_iter()), 305 + 2 * CHUNK_COST);
        inc.finish(PeerEnd::Failed(ReadError::Reset(9)));
        let mut chunks = Vec::new();
        assert_eq!(
            inc.poll_read_chunks(&cx(), 301, &mut chunks),
            Poll::Ready(Ok(301))
        );
        assert_eq!(chunks.concat().len(), 301);
        assert_eq!((inc.len, inc.cost), (4, 4 + CHUNK_COST));
        assert_eq!(
            inc.poll_read_chunks(&cx(), 301, &mut chunks),
            Poll::Ready(Ok(4))
        );
        assert_eq!((inc.len, inc.cost), (0, 0));
        assert_eq!(
            inc.poll_read_chunks(&cx(), 301, &mut chunks),
            Poll::Ready(Err(ReadError::Reset(9)))
        );
    }
}
