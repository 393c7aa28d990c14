//! From QUIC to a reader's queue: as much as there is room for, and no room that comes meanwhile
//! is missed. QUIC is a parameter; `crates/models` tries this with another.

use bytes::Bytes;

use crate::{queue::PeerEnd, ready::Waiters, stream::StreamShared};

/// What came of moving bytes to a queue.
#[derive(Default)]
pub(crate) struct Filled {
    /// What they cost, as `ReceiveCredit` counts it.
    pub(crate) cost: u64,
    /// QUIC may hold more.
    pub(crate) is_paused: bool,
    /// The connection holds too much for other readers.
    pub(crate) is_waiting_for_credit: bool,
    /// The end has come.
    pub(crate) is_done: bool,
}

/// How much more may be held: in this queue, up to `bound`, and by the connection.
fn room(shared: &StreamShared, bound: usize, cost: usize) -> usize {
    if bound == usize::MAX {
        return bound;
    }
    bound.saturating_sub(cost).min(shared.receive_credit.room())
}

/// Move what QUIC has of the stream to its queue, up to `bound` bytes there. `taken` is empty
/// before and after. `take` puts up to so many bytes there, and says whether that was the end
/// and whether there may be more; `None` from it when there is no such stream.
pub(crate) fn fill(
    shared: &StreamShared,
    bound: usize,
    taken: &mut Vec<Bytes>,
    mut take: impl FnMut(usize, &mut Vec<Bytes>) -> Option<(Option<PeerEnd>, bool)>,
) -> Filled {
    let mut filled = Filled::default();
    let cost = shared.recv_queue.lock().cost;
    let mut left = room(shared, bound, cost);
    loop {
        // Without the queue's lock, which a reader would have to wait for; what it reads
        // meanwhile only makes more room.
        let Some((end, is_paused)) = take(left, taken) else {
            return filled;
        };
        filled.is_done = end.is_some();
        let receive_credit = &shared.receive_credit;
        let mut incoming = shared.recv_queue.lock();
        let came = incoming.push(taken.drain(..));
        // Before a reader can release it.
        receive_credit.add(came);
        incoming.is_paused = is_paused;
        let has_news = incoming.len > 0 || end.is_some();
        if let Some(end) = end {
            incoming.end.get_or_insert(end);
        }
        let mut waiters = Waiters::default();
        if has_news {
            waiters = incoming.readable.take();
        }
        let cost = incoming.cost;
        // The reader was faster, and will not say again that it wants more.
        let is_late = incoming.wants_more(bound);
        drop(incoming);
        waiters.wake();
        filled.cost += came as u64;
        filled.is_paused = is_paused;
        filled.is_waiting_for_credit = false;
        if is_paused && bound != usize::MAX && receive_credit.room() == 0 {
            receive_credit.note_waiting();
            // It may have come while nobody was known to wait for it.
            filled.is_waiting_for_credit = receive_credit.room() == 0;
        }
        left = room(shared, bound, cost);
        if !is_late || left == 0 {
            return filled;
        }
    }
}
