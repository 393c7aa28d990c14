//! The streams of one driven connection: between quinn-proto and the two queues of each.
//!
//! Bytes leave a queue only when QUIC took them and leave QUIC only when the queue has room,
//! so flow control reaches from one application to the other.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn_proto::{
    Connection, Dir, ReadError as QuinnRead, StreamId, VarInt, WriteError as QuinnWrite,
};
use rustc_hash::FxHashMap;

use crate::{
    config::Config,
    connection::ConnectionShared,
    driver::fill::fill,
    error::{ConnectionError, ReadError, WriteError},
    queue::{LocalEnd, PeerEnd},
    ready::Waiters,
    receive_credit::CHUNK_COST,
    send_buffers,
    stream::StreamShared,
    sync::atomic::Ordering,
};

/// How long the peer may go on sending on a stream that we finished and read no more. Whoever
/// closes a stream while the peer writes its last words means no failure of the peer's, and
/// some peers take STOP_SENDING for one. What comes is dropped.
const STOP_DELAY: Duration = Duration::from_secs(1);

pub(super) struct Streams {
    slots: FxHashMap<StreamId, Slot>,
    /// When the peer's last words on a stream are over, in order of time.
    stops: VecDeque<(Instant, StreamId)>,
    /// On its way from QUIC to a queue; empty between calls.
    taken: Vec<Bytes>,
    /// Streams that wait until the connection holds less for readers, each once.
    waiting_for_credit: Vec<StreamId>,
    /// What was handed to readers, as `ReceiveCredit` counts it.
    handed: u64,
    /// Bytes that QUIC took of all streams.
    written: u64,
    /// A reader has not kept up since `resume`.
    is_lagging: bool,
}

struct Slot {
    shared: Arc<StreamShared>,
    /// Nothing more to send and nothing to wait for.
    is_send_done: bool,
    /// Nothing more will be received.
    is_receive_done: bool,
    /// QUIC has our finish.
    is_finish_sent: bool,
    /// When the peer is to be asked to stop.
    stop_at: Option<Instant>,
    /// It is in the list of those who wait.
    is_waiting_for_credit: bool,
}

/// A 62-bit code as QUIC wants it; the public verbs promise no more than that range, and
/// what is beyond is cut to the largest code.
pub(super) fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

/// QUIC's own name of a stream, from the number on the wire (RFC 9000 section 2.1).
fn quinn_id(id: u64) -> StreamId {
    StreamId::from(varint(id))
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            slots: FxHashMap::default(),
            stops: VecDeque::new(),
            taken: Vec::new(),
            waiting_for_credit: Vec::new(),
            handed: 0,
            written: 0,
            is_lagging: false,
        }
    }

    /// What was handed to readers so far, as `ReceiveCredit` counts it.
    pub(super) fn handed(&self) -> u64 {
        self.handed
    }

    /// What was handed to QUIC to be sent so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether a reader has not kept up since `resume` or `look_who_lags`.
    pub(super) fn is_lagging(&self) -> bool {
        self.is_lagging
    }

    /// Find out whether a reader lags now.
    pub(super) fn look_who_lags(&mut self) {
        let mut slots = self.slots.values();
        self.is_lagging = slots.any(|slot| slot.shared.recv_queue.lock().is_paused);
    }

    /// Whether streams wait until the connection holds less for readers, or may hold more.
    pub(super) fn is_any_waiting_for_credit(&self) -> bool {
        !self.waiting_for_credit.is_empty()
    }

    /// There is room: those who waited for it go on, in the order in which they came.
    pub(super) fn resume(&mut self, conn: &mut Connection, now: Instant) {
        self.is_lagging = false;
        for id in std::mem::take(&mut self.waiting_for_credit) {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.is_waiting_for_credit = false;
                self.receive(conn, now, id);
            }
        }
    }

    /// When `expire` next has something to do.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        while let Some((at, id)) = self.stops.front() {
            if self.slots.get(id).is_some_and(|slot| !slot.is_receive_done) {
                return Some(*at);
            }
            self.stops.pop_front();
        }
        None
    }

    /// Time has passed: ask peers to stop whose last words take too long.
    pub(super) fn expire(&mut self, conn: &mut Connection, now: Instant) {
        while self.stops.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, id)) = self.stops.pop_front() {
                self.receive(conn, now, id);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Open one ahead of need, if the peer allows another.
    pub(super) fn open(
        &mut self,
        conn: &mut Connection,
        share: impl FnOnce(u64) -> Arc<StreamShared>,
    ) -> Option<Arc<StreamShared>> {
        let id = conn.streams().open(Dir::Bi)?;
        Some(self.insert(id, share(id.into())))
    }

    /// The next one that the peer opened. What came with its first packet is read at once,
    /// as QUIC reports only what comes later.
    pub(super) fn accept(
        &mut self,
        conn: &mut Connection,
        now: Instant,
        share: impl FnOnce(u64) -> Arc<StreamShared>,
    ) -> Option<Arc<StreamShared>> {
        let id = conn.streams().accept(Dir::Bi)?;
        let shared = self.insert(id, share(id.into()));
        shared.send_queue.lock().is_unaccepted = true;
        self.receive(conn, now, id);
        Some(shared)
    }

    fn insert(&mut self, id: StreamId, shared: Arc<StreamShared>) -> Arc<StreamShared> {
        self.slots.insert(
            id,
            Slot {
                shared: shared.clone(),
                is_send_done: false,
                is_receive_done: false,
                is_finish_sent: false,
                stop_at: None,
                is_waiting_for_credit: false,
            },
        );
        shared
    }

    /// The application did something to this stream.
    pub(super) fn touch(&mut self, conn: &mut Connection, now: Instant, shared: &StreamShared) {
        // Before the queues are read, so that what comes after is told again.
        shared.is_queued.store(false, Ordering::Release);
        let id = quinn_id(shared.id);
        self.send(conn, id);
        self.receive(conn, now, id);
    }

    /// QUIC can take more of this stream.
    pub(super) fn writable(&mut self, conn: &mut Connection, id: StreamId) {
        if let Some(slot) = self.slots.get(&id) {
            slot.shared.send_queue.lock().is_blocked = false;
        }
        self.send(conn, id);
    }

    fn send(&mut self, conn: &mut Connection, id: StreamId) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if slot.is_send_done {
            return;
        }
        let mut out = slot.shared.send_queue.lock();
        if let Some(LocalEnd::Reset(code)) = out.ending {
            // Fails only on a stream that QUIC has already forgotten.
            let _ = conn.send_stream(id).reset(varint(code));
            slot.is_send_done = true;
        }
        if let Some(code) = out.stop_to_answer() {
            // RFC 9000 section 3.5: answer with a reset, which also frees the stream.
            let _ = conn.send_stream(id).reset(varint(code));
            slot.is_send_done = true;
        }
        while !out.is_empty() && !slot.is_send_done {
            match conn.send_stream(id).write_chunks(out.chunks()) {
                Ok(written) => {
                    out.took(written.chunks, written.bytes);
                    self.written += written.bytes as u64;
                }
                Err(QuinnWrite::Blocked) => {
                    out.is_blocked = true;
                    break;
                }
                Err(QuinnWrite::Stopped(code)) => {
                    // Only what the application has written comes here: it has the stream.
                    out.fail(WriteError::Stopped(code.into_inner()));
                    let _ = conn.send_stream(id).reset(code);
                    slot.is_send_done = true;
                }
                Err(QuinnWrite::ClosedStream) => {
                    out.fail(WriteError::Closed);
                    slot.is_send_done = true;
                }
            }
        }
        if out.ending == Some(LocalEnd::Finish)
            && out.is_empty()
            && !slot.is_finish_sent
            && !slot.is_send_done
        {
            slot.is_finish_sent = true;
            // Fails only where the peer stopped the stream, which has its own event.
            let _ = conn.send_stream(id).finish();
        }
        let mut waiters = Waiters::default();
        if out.len() <= slot.shared.write_buffer() / 2 {
            waiters = out.writable.take();
        }
        drop(out);
        waiters.wake();
        self.forget_if_done(id);
    }

    /// Move what QUIC has of this stream to its queue, as far as there is room.
    pub(super) fn receive(&mut self, conn: &mut Connection, now: Instant, id: StreamId) {
        if let Some(slot) = self.slots.get(&id) {
            let bound = slot.shared.read_buffer();
            self.receive_up_to(conn, now, id, bound);
        }
    }

    fn receive_up_to(&mut self, conn: &mut Connection, now: Instant, id: StreamId, bound: usize) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if slot.is_receive_done {
            return;
        }
        let stopped = {
            let incoming = slot.shared.recv_queue.lock();
            (incoming.stopped.is_some() || incoming.end.is_some()).then_some(incoming.stopped)
        };
        match stopped {
            None => {
                let filled = fill(&slot.shared, bound, &mut self.taken, |room, taken| {
                    take_chunks(conn, id, room, taken)
                });
                slot.is_receive_done = filled.is_done;
                self.handed += filled.cost;
                self.is_lagging |= filled.is_paused;
                if filled.is_waiting_for_credit
                    && !std::mem::replace(&mut slot.is_waiting_for_credit, true)
                {
                    self.waiting_for_credit.push(id);
                }
            }
            Some(code) => self.drop_rest(conn, now, id, code),
        }
        self.forget_if_done(id);
    }

    /// Nobody reads what comes on this stream: drop it, and ask the peer to stop with `code`.
    fn drop_rest(&mut self, conn: &mut Connection, now: Instant, id: StreamId, code: Option<u64>) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        // Dropped, not left to QUIC: the peer may have to write it before it reads ours.
        slot.is_receive_done = discard(conn, id);
        let Some(code) = code.filter(|_| !slot.is_receive_done) else {
            return;
        };
        let (is_finished, is_undelivered) = {
            let out = slot.shared.send_queue.lock();
            (out.ending == Some(LocalEnd::Finish), out.is_undelivered())
        };
        if is_finished {
            let stop_at = *slot.stop_at.get_or_insert_with(|| {
                self.stops.push_back((now + STOP_DELAY, id));
                now + STOP_DELAY
            });
            // Nor before it has acknowledged our finish: see `Stream::stop`.
            if now < stop_at || is_undelivered {
                return;
            }
        }
        let _ = conn.recv_stream(id).stop(varint(code));
        slot.is_receive_done = true;
    }

    /// The peer acknowledged everything up to our finish.
    pub(super) fn finished(&mut self, conn: &mut Connection, now: Instant, id: StreamId) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        slot.is_send_done = true;
        {
            let mut out = slot.shared.send_queue.lock();
            out.is_acknowledged = true;
            out.wake_all();
        }
        // A stop may have waited for this.
        self.receive(conn, now, id);
        self.forget_if_done(id);
    }

    /// The peer reads no more of this stream.
    pub(super) fn stopped(
        &mut self,
        conn: &mut Connection,
        now: Instant,
        id: StreamId,
        code: VarInt,
    ) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if !slot.is_send_done {
            let error = WriteError::Stopped(code.into_inner());
            slot.shared.send_queue.lock().fail(error);
        }
        self.send(conn, id);
        self.receive(conn, now, id);
    }

    /// Whether any finished stream still owes the peer bytes.
    pub(super) fn is_any_undelivered(&self) -> bool {
        self.slots
            .values()
            .any(|slot| !slot.is_send_done && slot.shared.send_queue.lock().is_undelivered())
    }

    /// The connection is over for the application. What arrived stays readable and a stream
    /// that arrived whole ends cleanly; everything else fails with `error`.
    pub(super) fn fail(&mut self, conn: &mut Connection, now: Instant, error: &ConnectionError) {
        let ids: Vec<_> = self.slots.keys().copied().collect();
        for id in ids {
            self.receive_up_to(conn, now, id, usize::MAX);
        }
        self.abandon(error);
    }

    /// Like `fail`, where QUIC's own state is not to be touched any more.
    pub(super) fn abandon(&mut self, error: &ConnectionError) {
        for (_, slot) in self.slots.drain() {
            let end = PeerEnd::Failed(ReadError::Lost(error.clone()));
            slot.shared.recv_queue.lock().finish(end);
            if !slot.is_send_done {
                let error = WriteError::Lost(error.clone());
                slot.shared.send_queue.lock().fail(error);
            }
        }
    }

    /// We closed the connection: streams that were not finished end here; finished ones go
    /// on owing, and reading is over.
    pub(super) fn linger(&mut self, conn: &mut Connection, now: Instant, error: &ConnectionError) {
        let ids: Vec<_> = self.slots.keys().copied().collect();
        for id in ids {
            self.receive_up_to(conn, now, id, usize::MAX);
        }
        for slot in self.slots.values() {
            let end = PeerEnd::Failed(ReadError::Lost(error.clone()));
            slot.shared.recv_queue.lock().finish(end);
            let mut out = slot.shared.send_queue.lock();
            if !out.is_undelivered() {
                out.fail(WriteError::Lost(error.clone()));
            }
        }
    }

    fn forget_if_done(&mut self, id: StreamId) {
        let is_done = self
            .slots
            .get(&id)
            .is_some_and(|slot| slot.is_send_done && slot.is_receive_done);
        if is_done {
            self.slots.remove(&id);
        }
    }
}

/// Take what `room` allows, as `ReceiveCredit` counts it, of this stream out of QUIC. `None`: QUIC does not know it any
/// more; else its end, if that came, and whether there may be more than there is room for.
fn take_chunks(
    conn: &mut Connection,
    id: StreamId,
    mut room: usize,
    taken: &mut Vec<Bytes>,
) -> Option<(Option<PeerEnd>, bool)> {
    let mut stream = conn.recv_stream(id);
    let mut chunks = stream.read(true).ok()?;
    let outcome = loop {
        if room == 0 {
            break (None, true);
        }
        match chunks.next(room) {
            Ok(Some(chunk)) => {
                room = room.saturating_sub(chunk.bytes.len() + CHUNK_COST);
                taken.push(send_buffers::unpinned(chunk.bytes));
            }
            Ok(None) => break (Some(PeerEnd::Finished), false),
            Err(QuinnRead::Reset(code)) => {
                let error = ReadError::Reset(code.into_inner());
                break (Some(PeerEnd::Failed(error)), false);
            }
            Err(QuinnRead::Blocked) => break (None, false),
        }
    };
    // The connection is driven after every change, so credit goes out by itself.
    let _ = chunks.finalize();
    Some(outcome)
}

/// Drop what QUIC has of this stream, which makes room for more. True at its end.
fn discard(conn: &mut Connection, id: StreamId) -> bool {
    let mut stream = conn.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else {
        return false;
    };
    let is_over = loop {
        match chunks.next(usize::MAX) {
            Ok(Some(_)) => {}
            Ok(None) | Err(QuinnRead::Reset(_)) => break true,
            Err(QuinnRead::Blocked) => break false,
        }
    };
    let _ = chunks.finalize();
    is_over
}

/// What a stream's handle and the connection share.
pub(super) fn stream_of(shared: &ConnectionShared, id: u64, config: &Config) -> Arc<StreamShared> {
    StreamShared::new(
        id,
        shared.id,
        shared.commands.clone(),
        shared.receive_credit.clone(),
        shared.unacked.clone(),
        config.read_buffer,
        config.write_buffer,
    )
}
