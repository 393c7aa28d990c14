//! Moves stream data from quinn-proto to a reader's queue, as far as there is room; room that a
//! reader makes meanwhile is not missed. The source of the data is a parameter, which
//! `crates/models` replaces.

use bytes::Bytes;

use crate::{queue::PeerEnd, ready::Waiters, shared::StreamShared};

/// The result of moving bytes to a queue.
#[derive(Default)]
pub(crate) struct Filled {
    /// The cost of the bytes, as `ReceiveCredit` counts it.
    pub(crate) cost: u64,
    /// quinn-proto may hold more of the stream.
    pub(crate) is_paused: bool,
    /// The connection's receive credit is used up by other readers.
    pub(crate) is_waiting_for_credit: bool,
    /// The stream's end has arrived.
    pub(crate) is_done: bool,
}

/// What is left of a stream after `take` has taken what there was room for.
pub(crate) enum Rest {
    /// There may be more.
    More,
    /// Nothing has arrived beyond it.
    Nothing,
    /// Nothing will arrive beyond it.
    End(PeerEnd),
    /// QUIC has discarded the stream.
    Discarded,
}

/// How much more may be held, both by this queue, up to `bound`, and by the connection.
fn room(shared: &StreamShared, bound: usize, cost: usize) -> usize {
    if bound == usize::MAX {
        return bound;
    }
    bound.saturating_sub(cost).min(shared.receive_credit.room())
}

/// Move received bytes of the stream to its queue, up to `bound` bytes there. `cost` is that of the
/// queue; a reader may have lowered it meanwhile. `taken` is empty before and after. `take` puts up to
/// the given number of bytes into it.
pub(crate) fn fill(
    shared: &StreamShared,
    bound: usize,
    cost: usize,
    taken: &mut Vec<Bytes>,
    mut take: impl FnMut(usize, &mut Vec<Bytes>) -> Rest,
) -> Filled {
    let mut filled = Filled::default();
    let mut left = room(shared, bound, cost);
    loop {
        // Not under the queue's lock, so that a reader need not wait. It may read meanwhile, which
        // only makes more room.
        let (is_paused, end) = match take(left, taken) {
            Rest::More => (true, None),
            Rest::Nothing => (false, None),
            Rest::End(end) => (false, Some(end)),
            Rest::Discarded => return filled,
        };
        filled.is_done = end.is_some();
        let receive_credit = &shared.receive_credit;
        let mut incoming = shared.recv_queue.lock();
        let came = incoming.push(taken.drain(..));
        // Still under the lock: before a reader can release it.
        receive_credit.add(came);
        incoming.is_paused = is_paused;
        let has_news = incoming.len > 0 || end.is_some();
        if let Some(end) = end {
            incoming.note_end(end);
        }
        let mut waiters = Waiters::default();
        if has_news {
            waiters = incoming.readable.take();
        }
        let cost = incoming.cost;
        // If the reader has made room already, it will not notify again.
        let wants_more = incoming.wants_more(bound);
        drop(incoming);
        waiters.wake();
        filled.cost += came as u64;
        filled.is_paused = is_paused;
        filled.is_waiting_for_credit = false;
        if is_paused && bound != usize::MAX && receive_credit.room() == 0 {
            receive_credit.note_waiting();
            // Credit may have been released before the note: check again.
            filled.is_waiting_for_credit = receive_credit.room() == 0;
        }
        left = room(shared, bound, cost);
        if !wants_more || left == 0 {
            return filled;
        }
    }
}
