//! Where an application thread and the I/O thread meet: two bounded byte queues per stream.
//!
//! SendQueue bytes are copied in once, on write; incoming ones are the packets' own buffers.
//! Each queue has its own short lock, held for list operations and never across a wait.
//! The I/O thread's half of each rule lives in `driver::streams`.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use crate::{
    budget::Budget,
    error::{ReadError, WriteError},
    ready::Waiters,
    receive_credit::CHUNK_COST,
};

/// How this program ended its sending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalEnd {
    /// All bytes, then the end (FIN).
    Finish,
    /// Abandoned, with a code.
    Reset(u64),
}

/// Bytes on their way out, which are charged to a budget.
pub(crate) struct SendQueue {
    chunks: VecDeque<Bytes>,
    /// Bytes in `chunks`.
    len: usize,
    /// Bytes that were in them and that QUIC has taken.
    moved: usize,
    budget: Arc<Budget>,
    pub(crate) ending: Option<LocalEnd>,
    /// The peer acknowledged everything up to our finish.
    pub(crate) is_acknowledged: bool,
    /// Why nothing more can be sent.
    pub(crate) error: Option<WriteError>,
    /// The application does not have the stream yet, which the peer opened. Until then the peer's
    /// stop stays unanswered, so that QUIC counts the stream: what waits to be accepted is no
    /// more than the peer may have open.
    pub(crate) is_unaccepted: bool,
    /// QUIC takes no more for now; its own event, not a write, resumes the stream.
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

    /// QUIC has taken so many whole chunks, and so many bytes.
    pub(crate) fn took(&mut self, chunks: usize, bytes: usize) {
        self.chunks.drain(..chunks);
        self.len -= bytes;
        self.moved = self.moved.saturating_add(bytes);
        self.budget.release(bytes as u64);
    }

    /// How many bytes may be pushed now: at most `wanted`, and as many as the bound leaves
    /// room for.
    pub(crate) fn poll_room(
        &mut self,
        cx: &Context<'_>,
        wanted: usize,
        bound: usize,
    ) -> Poll<Result<usize, WriteError>> {
        if let Some(error) = &self.error {
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

    /// Append `chunks`, which `poll_room` has found room for.
    pub(crate) fn push(&mut self, chunks: impl Iterator<Item = Bytes>) {
        let before = self.len;
        for chunk in chunks {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
        self.budget.reserve((self.len - before) as u64);
    }

    pub(crate) fn poll_finished(&mut self, cx: &Context<'_>) -> Poll<Result<(), WriteError>> {
        if self.is_acknowledged {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = &self.error {
            return Poll::Ready(Err(error.clone()));
        }
        if let Some(LocalEnd::Reset(_)) = self.ending {
            return Poll::Ready(Err(WriteError::Closed));
        }
        self.finished.add(cx.waker());
        Poll::Pending
    }

    /// Say how this side ends. The first word counts, but a reset overtakes a finish that
    /// the peer has not acknowledged. True when something changed.
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

    /// Nothing more can be sent, and why.
    pub(crate) fn fail(&mut self, error: WriteError) {
        self.drop_chunks();
        self.error.get_or_insert(error);
        self.wake_all();
    }

    /// The application has the stream now. True when the peer's stop waited for that.
    pub(crate) fn accept(&mut self) -> bool {
        self.is_unaccepted = false;
        self.stop_to_answer().is_some()
    }

    /// The code of a stop of the peer's that is to be answered.
    pub(crate) fn stop_to_answer(&self) -> Option<u64> {
        match self.error {
            Some(WriteError::Stopped(code)) if !self.is_unaccepted => Some(code),
            _ => None,
        }
    }

    /// Finished by us, not yet known to have arrived.
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

/// How the peer's bytes ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerEnd {
    /// All of them arrived.
    Finished,
    /// They will not all arrive, and why.
    Failed(ReadError),
}

/// Bytes that arrived.
#[derive(Default)]
pub(crate) struct RecvQueue {
    chunks: VecDeque<Bytes>,
    /// Bytes in `chunks`.
    pub(crate) len: usize,
    /// What they cost: their bytes, and something for each chunk.
    pub(crate) cost: usize,
    pub(crate) end: Option<PeerEnd>,
    /// This program stopped reading, with this code.
    pub(crate) stopped: Option<u64>,
    /// The bound is reached and QUIC may hold more: a read must tell the I/O thread.
    pub(crate) is_paused: bool,
    pub(crate) readable: Waiters,
}

impl RecvQueue {
    /// Move up to `max` bytes, as the chunks they came in, to `into`. `Ok(0)`: the end.
    pub(crate) fn poll_read_chunks(
        &mut self,
        cx: &Context<'_>,
        max: usize,
        into: &mut Vec<Bytes>,
    ) -> Poll<Result<usize, ReadError>> {
        if self.stopped.is_some() {
            return Poll::Ready(Err(ReadError::Closed));
        }
        if self.len == 0 {
            return match &self.end {
                Some(PeerEnd::Finished) => Poll::Ready(Ok(0)),
                Some(PeerEnd::Failed(error)) => Poll::Ready(Err(error.clone())),
                None => {
                    self.readable.add(cx.waker());
                    Poll::Pending
                }
            };
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

    /// Room has come for bytes that QUIC holds back: half of `bound`, so that it pays.
    pub(crate) fn wants_more(&self, bound: usize) -> bool {
        self.is_paused && self.cost <= bound / 2
    }

    /// Append what has come, unless nobody reads it, and say what keeping it costs.
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

    /// Nothing more will come, and why. Bytes that are here stay readable.
    pub(crate) fn finish(&mut self, end: PeerEnd) {
        self.end.get_or_insert(end);
        self.readable.wake();
    }

    /// This program reads no more. True when the peer has to be told.
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
    fn what_is_queued_is_charged_until_it_is_taken_or_dropped() {
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
    fn a_reset_overtakes_a_finish_and_a_finish_no_reset() {
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
