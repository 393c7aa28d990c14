//! Moves the data of one connection's streams between quinn-proto and the two queues of each stream.
//!
//! Bytes leave a send queue only when quinn-proto takes them, and leave quinn-proto only when the
//! receive queue has room, so flow control reaches from one application to the other.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn_proto::{
    Connection, Dir, FinishError, ReadError as QuinnRead, StreamId, VarInt,
    WriteError as QuinnWrite,
};
use rustc_hash::FxHashMap;

use crate::{
    config::Config,
    driver::{
        codes::{Codes, varint},
        fill::{Rest, fill},
    },
    error::{ConnectionError, ReadError, WriteError},
    queue::{LocalEnd, PeerEnd, Reading},
    ready::Waiters,
    receive_credit::CHUNK_COST,
    send_buffers,
    shared::{ConnectionShared, StreamShared},
    sync::atomic::Ordering,
};

/// How long the peer may continue to send on a stream that we finished and no longer read, before
/// STOP_SENDING. Some peers treat STOP_SENDING as a failure, and closing a stream while the peer
/// writes its last bytes should not cause one. The bytes are dropped.
const STOP_DELAY: Duration = Duration::from_secs(1);

/// A list of chunks with room for at most this many is freed after use: most connections carry small
/// messages, and are idle for most of the time. That of a bulk transfer is larger, and is used again.
const SMALL_LIST: usize = 4;

pub(super) struct Streams {
    slots: FxHashMap<StreamId, Slot>,
    /// When to send STOP_SENDING on a stream, in order of time.
    stops: VecDeque<(Instant, StreamId)>,
    /// Chunks moving from quinn-proto to a queue; empty between calls. See `SMALL_LIST`.
    taken: Vec<Bytes>,
    /// Streams that wait for receive credit, each once.
    waiting_for_credit: Vec<StreamId>,
    /// The cost of all bytes moved to receive queues, as `ReceiveCredit` counts it.
    handed: u64,
    /// Bytes that quinn-proto took of all streams.
    written: u64,
    /// A reader has not kept up since `resume`.
    is_lagging: bool,
    codes: Codes,
    /// What each stream that we open begins with; empty but for WebTransport.
    header: Bytes,
    /// The application has closed the connection.
    is_closing: bool,
}

struct Slot {
    shared: Arc<StreamShared>,
    /// The header is to be sent before the stream's first bytes.
    is_header_due: bool,
    /// Nothing more to send, and no acknowledgment to wait for.
    is_send_done: bool,
    /// Nothing more will be received.
    is_receive_done: bool,
    /// quinn-proto was told to finish the stream.
    is_finish_sent: bool,
    /// It was put into the list `stops`, which has the time. A slot is small, as the table of an idle
    /// connection has room for 14.
    is_stop_scheduled: bool,
    /// That time has passed.
    is_stop_due: bool,
    /// It is in the list `waiting_for_credit`.
    is_waiting_for_credit: bool,
}

impl Slot {
    /// Neither direction has anything to do.
    fn is_done(&self) -> bool {
        self.is_send_done && self.is_receive_done
    }
}

/// quinn-proto's id of a stream, from the number on the wire (RFC 9000 section 2.1).
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
            codes: Codes::Plain,
            header: Bytes::new(),
            is_closing: false,
        }
    }

    /// The application has closed the connection: from now on the peer gets no reset and no STOP_SENDING for what the
    /// application does to streams. The close itself, which may come later, must be what it learns.
    pub(super) fn begin_closing(&mut self) {
        self.is_closing = true;
    }

    /// From now on the streams are those of a WebTransport session: this header precedes what we send on each that
    /// we open.
    pub(super) fn join_session(&mut self, header: Vec<u8>) {
        self.codes = Codes::OfSession;
        self.header = header.into();
    }

    /// The cost of all bytes moved to receive queues so far, as `ReceiveCredit` counts it.
    pub(super) fn handed(&self) -> u64 {
        self.handed
    }

    /// Bytes that quinn-proto took to send so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether a reader has not kept up since `resume` or `check_lagging`.
    pub(super) fn is_lagging(&self) -> bool {
        self.is_lagging
    }

    /// Update whether a reader lags now.
    pub(super) fn check_lagging(&mut self) {
        let mut slots = self.slots.values();
        self.is_lagging = slots.any(|slot| slot.shared.recv_queue.lock().is_paused);
    }

    /// Whether streams wait for receive credit.
    pub(super) fn is_any_waiting_for_credit(&self) -> bool {
        !self.waiting_for_credit.is_empty()
    }

    /// There is receive credit: continue the streams that waited for it, in order.
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

    /// Send STOP_SENDING where the peer has continued to send for too long.
    pub(super) fn expire(&mut self, conn: &mut Connection, now: Instant) {
        while self.stops.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, id)) = self.stops.pop_front() {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.is_stop_due = true;
                }
                self.receive(conn, now, id);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Open a stream ahead of need, if the peer allows another.
    pub(super) fn open(
        &mut self,
        conn: &mut Connection,
        share: impl FnOnce(u64) -> Arc<StreamShared>,
    ) -> Option<Arc<StreamShared>> {
        let id = conn.streams().open(Dir::Bi)?;
        Some(self.insert(id, !self.header.is_empty(), share(id.into())))
    }

    /// The next stream that the peer opened. Data that came with it is read at once, as quinn-proto
    /// reports only later data as readable.
    pub(super) fn accept(
        &mut self,
        conn: &mut Connection,
        now: Instant,
        share: impl FnOnce(u64) -> Arc<StreamShared>,
    ) -> Option<Arc<StreamShared>> {
        let id = conn.streams().accept(Dir::Bi)?;
        Some(self.adopt(conn, now, id, share))
    }

    /// A stream that the peer opened and that was found to be the application's.
    pub(super) fn adopt(
        &mut self,
        conn: &mut Connection,
        now: Instant,
        id: StreamId,
        share: impl FnOnce(u64) -> Arc<StreamShared>,
    ) -> Arc<StreamShared> {
        let shared = self.insert(id, false, share(id.into()));
        shared.send_queue.lock().is_unaccepted = true;
        self.receive(conn, now, id);
        shared
    }

    /// The same for a stream whose reset, with this code, has been read already.
    pub(super) fn adopt_reset(
        &mut self,
        id: StreamId,
        code: VarInt,
        share: impl FnOnce(u64) -> Arc<StreamShared>,
    ) -> Arc<StreamShared> {
        let error = ReadError::Reset(self.codes.of_wire(code));
        let shared = self.insert(id, false, share(id.into()));
        shared.send_queue.lock().is_unaccepted = true;
        shared.recv_queue.lock().finish(PeerEnd::Failed(error));
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.is_receive_done = true;
        }
        shared
    }

    fn insert(
        &mut self,
        id: StreamId,
        is_header_due: bool,
        shared: Arc<StreamShared>,
    ) -> Arc<StreamShared> {
        self.slots.insert(
            id,
            Slot {
                shared: shared.clone(),
                is_header_due,
                is_send_done: false,
                is_receive_done: false,
                is_finish_sent: false,
                is_stop_scheduled: false,
                is_stop_due: false,
                is_waiting_for_credit: false,
            },
        );
        shared
    }

    /// Process both queues of a stream that the application has used.
    pub(super) fn process(&mut self, conn: &mut Connection, now: Instant, shared: &StreamShared) {
        // Before the queues are read, so that a later change queues the stream again.
        shared.is_queued.store(false, Ordering::Release);
        let id = quinn_id(shared.id);
        self.send(conn, id);
        // Otherwise quinn-proto held nothing when it was read last, and has an event for what comes. A
        // request of which no answer has arrived needs no read.
        if shared.recv_queue.lock().is_news_for_quic() {
            self.receive(conn, now, id);
        }
    }

    /// quinn-proto can take more of this stream.
    pub(super) fn writable(&mut self, conn: &mut Connection, id: StreamId) {
        if let Some(slot) = self.slots.get(&id) {
            slot.shared.send_queue.lock().is_blocked = false;
        }
        self.send(conn, id);
    }

    fn send(&mut self, conn: &mut Connection, id: StreamId) {
        let codes = self.codes;
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if slot.is_send_done {
            return;
        }
        let mut out = slot.shared.send_queue.lock();
        if let Some(LocalEnd::Reset(code)) = out.ending {
            if !self.is_closing {
                // Fails only on a stream that quinn-proto has already discarded.
                let _ = conn.send_stream(id).reset(codes.to_wire(code));
            }
            slot.is_send_done = true;
        }
        if let Some(code) = out.stop_to_answer() {
            // RFC 9000 section 3.5: answer with a reset, which also frees the stream.
            let _ = conn.send_stream(id).reset(codes.to_wire(code));
            slot.is_send_done = true;
        }
        if slot.is_header_due && (!out.is_empty() || out.ending == Some(LocalEnd::Finish)) {
            slot.is_header_due = false;
            out.prepend(self.header.clone());
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
                    // The application has accepted the stream, as it wrote this data.
                    out.fail(WriteError::Stopped(codes.of_wire(code)));
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
            match conn.send_stream(id).finish() {
                // A stop has its own event.
                Ok(()) | Err(FinishError::Stopped(_)) => {}
                Err(FinishError::ClosedStream) => {
                    out.fail(WriteError::Closed);
                    slot.is_send_done = true;
                }
            }
        }
        let mut waiters = Waiters::default();
        if out.len() <= slot.shared.write_buffer() / 2 {
            waiters = out.writable.take();
        }
        drop(out);
        let is_done = slot.is_done();
        waiters.wake();
        if is_done {
            self.slots.remove(&id);
        }
    }

    /// Move received data of this stream to its queue, as far as there is room.
    pub(super) fn receive(&mut self, conn: &mut Connection, now: Instant, id: StreamId) {
        self.receive_up_to(conn, now, id, None);
    }

    /// `bound` replaces that of the queue.
    fn receive_up_to(
        &mut self,
        conn: &mut Connection,
        now: Instant,
        id: StreamId,
        bound: Option<usize>,
    ) {
        let codes = self.codes;
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if slot.is_receive_done {
            return;
        }
        let (reading, cost) = {
            let recv_queue = slot.shared.recv_queue.lock();
            (recv_queue.reading(), recv_queue.cost)
        };
        match reading {
            Reading::Open => {
                let bound = bound.unwrap_or_else(|| slot.shared.read_buffer());
                let filled = fill(&slot.shared, bound, cost, &mut self.taken, |room, taken| {
                    take_chunks(conn, id, codes, room, taken)
                });
                if self.taken.capacity() <= SMALL_LIST {
                    self.taken = Vec::new();
                }
                slot.is_receive_done = filled.is_done;
                self.handed += filled.cost;
                self.is_lagging |= filled.is_paused;
                if filled.is_waiting_for_credit
                    && !std::mem::replace(&mut slot.is_waiting_for_credit, true)
                {
                    self.waiting_for_credit.push(id);
                }
                if slot.is_done() {
                    self.slots.remove(&id);
                }
                return;
            }
            Reading::Stopped(code) => self.discard_rest(conn, now, id, Some(code)),
            Reading::Ended => self.discard_rest(conn, now, id, None),
        }
        self.remove_if_done(id);
    }

    /// The stream is no longer read: drop its data, and send STOP_SENDING if the application stopped
    /// reading with `code`.
    fn discard_rest(
        &mut self,
        conn: &mut Connection,
        now: Instant,
        id: StreamId,
        code: Option<u64>,
    ) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        // Data is dropped, not left in quinn-proto: the peer may have to send it all before it
        // reads ours.
        slot.is_receive_done = discard(conn, id);
        let Some(code) = code.filter(|_| !slot.is_receive_done) else {
            return;
        };
        let (is_finished, is_undelivered) = {
            let out = slot.shared.send_queue.lock();
            (out.ending == Some(LocalEnd::Finish), out.is_undelivered())
        };
        if is_finished {
            if !std::mem::replace(&mut slot.is_stop_scheduled, true) {
                self.stops.push_back((now + STOP_DELAY, id));
            }
            // The peer must also have acknowledged our finish: see `Stream::stop`.
            if !slot.is_stop_due || is_undelivered {
                return;
            }
        } else if self.is_closing {
            return;
        }
        let _ = conn.recv_stream(id).stop(self.codes.to_wire(code));
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
        if slot.is_receive_done {
            self.slots.remove(&id);
        } else {
            // STOP_SENDING may have waited for this.
            self.receive(conn, now, id);
        }
    }

    /// The peer sent STOP_SENDING on this stream.
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
            let error = WriteError::Stopped(self.codes.of_wire(code));
            slot.shared.send_queue.lock().fail(error);
        }
        self.send(conn, id);
        self.receive(conn, now, id);
    }

    /// Whether a finished stream still has bytes that the peer has not acknowledged.
    pub(super) fn is_any_undelivered(&self) -> bool {
        self.slots
            .values()
            .any(|slot| !slot.is_send_done && slot.shared.send_queue.lock().is_undelivered())
    }

    /// The connection is over for the application. Received data stays readable, and completely
    /// received streams end cleanly; all other operations fail with `error`.
    pub(super) fn fail(&mut self, conn: &mut Connection, now: Instant, error: &ConnectionError) {
        let ids: Vec<_> = self.slots.keys().copied().collect();
        for id in ids {
            self.receive_up_to(conn, now, id, Some(usize::MAX));
        }
        self.abandon(error);
    }

    /// Like `fail`, without using quinn-proto's state.
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

    /// The application closed the connection: fail unfinished streams and reads, and continue to
    /// deliver finished streams.
    pub(super) fn linger(&mut self, conn: &mut Connection, now: Instant, error: &ConnectionError) {
        self.begin_closing();
        let ids: Vec<_> = self.slots.keys().copied().collect();
        for id in ids {
            self.receive_up_to(conn, now, id, Some(usize::MAX));
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

    fn remove_if_done(&mut self, id: StreamId) {
        if self.slots.get(&id).is_some_and(Slot::is_done) {
            self.slots.remove(&id);
        }
    }
}

/// Take data of this stream from quinn-proto, up to `room` as `ReceiveCredit` counts it.
fn take_chunks(
    conn: &mut Connection,
    id: StreamId,
    codes: Codes,
    mut room: usize,
    taken: &mut Vec<Bytes>,
) -> Rest {
    let mut stream = conn.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else {
        return Rest::Discarded;
    };
    let rest = loop {
        if room == 0 {
            break Rest::More;
        }
        match chunks.next(room) {
            Ok(Some(chunk)) => {
                room = room.saturating_sub(chunk.bytes.len() + CHUNK_COST);
                taken.push(send_buffers::unpinned(chunk.bytes));
            }
            Ok(None) => break Rest::End(PeerEnd::Finished),
            Err(QuinnRead::Reset(code)) => {
                let error = ReadError::Reset(codes.of_wire(code));
                break Rest::End(PeerEnd::Failed(error));
            }
            Err(QuinnRead::Blocked) => break Rest::Nothing,
        }
    };
    // The connection is driven after every change, so MAX_STREAM_DATA needs no extra transmit.
    let _ = chunks.finalize();
    rest
}

/// Drop received data of this stream, which releases flow control credit. True at its end.
pub(super) fn discard(conn: &mut Connection, id: StreamId) -> bool {
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

/// The state that a stream's handle and the connection share.
pub(super) fn stream_of(shared: &ConnectionShared, id: u64, config: &Config) -> Arc<StreamShared> {
    StreamShared::new(
        id,
        shared.receive_credit.clone(),
        shared.unacked.clone(),
        config.read_buffer,
        config.write_buffer,
    )
}
