//! A core without QUIC: bytes written to a stream come back on it. The queues are the engine's,
//! and so is the code that fills the receive queue; only the connection is replaced.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    driver::{
        Command, Commands,
        fill::{Rest, fill},
        handover::CoreTask,
    },
    error::ReadError,
    queue::{LocalEnd, PeerEnd},
    ready::Waiters,
    receive_credit::CHUNK_COST,
    shared::StreamShared,
    sync::atomic::Ordering,
};

use super::clock::Clock;

/// The connection between a send queue and a receive queue.
#[derive(Clone, Copy)]
pub(super) struct Network {
    /// Bytes of a stream that may be in flight.
    pub(super) window: usize,
    /// Bytes arrive at a later time, not in the same turn.
    pub(super) is_slow: bool,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            window: usize::MAX,
            is_slow: false,
        }
    }
}

struct Line {
    shared: Arc<StreamShared>,
    sent: VecDeque<Bytes>,
    /// Received bytes that QUIC would hold.
    arrived: VecDeque<Bytes>,
    end_sent: Option<PeerEnd>,
    end_arrived: Option<PeerEnd>,
    is_waiting_for_credit: bool,
}

impl Line {
    /// As `driver::streams` does it.
    fn send(&mut self, window: usize) {
        let mut out = self.shared.send_queue.lock();
        if let Some(LocalEnd::Reset(code)) = out.ending {
            let reset = PeerEnd::Failed(ReadError::Reset(code));
            self.end_sent.get_or_insert(reset);
        }
        while let Some(front) = out.chunks().first() {
            let on_the_way: usize = self.sent.iter().map(Bytes::len).sum();
            if on_the_way + front.len() > window {
                out.is_blocked = true;
                break;
            }
            let chunk = front.clone();
            out.took(1, chunk.len());
            self.sent.push_back(chunk);
        }
        if out.ending == Some(LocalEnd::Finish) && out.is_empty() {
            self.end_sent.get_or_insert(PeerEnd::Finished);
        }
        let mut waiters = Waiters::default();
        if out.len() <= self.shared.write_buffer() / 2 {
            waiters = out.writable.take();
        }
        drop(out);
        waiters.wake();
    }

    fn receive(&mut self) {
        let (is_over, cost) = {
            let recv_queue = self.shared.recv_queue.lock();
            let is_over = recv_queue.stopped.is_some() || recv_queue.end.is_some();
            (is_over, recv_queue.cost)
        };
        if is_over {
            self.arrived.clear();
            return;
        }
        let (arrived, end) = (&mut self.arrived, &self.end_arrived);
        let bound = self.shared.read_buffer();
        let take = |mut room: usize, taken: &mut Vec<Bytes>| {
            while room > 0 {
                let Some(chunk) = arrived.pop_front() else {
                    return end.clone().map_or(Rest::Nothing, Rest::End);
                };
                room = room.saturating_sub(chunk.len() + CHUNK_COST);
                taken.push(chunk);
            }
            Rest::More
        };
        let filled = fill(&self.shared, bound, cost, &mut Vec::new(), take);
        self.is_waiting_for_credit = filled.is_waiting_for_credit;
    }
}

pub(super) struct Echo {
    commands: Arc<Commands>,
    taken: Vec<Command>,
    lines: BTreeMap<u64, Line>,
    network: Network,
    clock: Arc<Clock>,
    /// When the bytes in flight arrive.
    arrival: Option<Instant>,
    is_closed: bool,
}

impl Echo {
    pub(super) fn new(commands: Arc<Commands>, network: Network, clock: Arc<Clock>) -> Self {
        Self {
            commands,
            taken: Vec::new(),
            lines: BTreeMap::new(),
            network,
            clock,
            arrival: None,
            is_closed: false,
        }
    }

    fn touch(&mut self, shared: Arc<StreamShared>) {
        // As `driver::streams` does it, and in that order.
        shared.is_queued.store(false, Ordering::Release);
        let line = self.lines.entry(shared.id).or_insert_with(|| Line {
            shared,
            sent: VecDeque::new(),
            arrived: VecDeque::new(),
            end_sent: None,
            end_arrived: None,
            is_waiting_for_credit: false,
        });
        line.send(self.network.window);
        if line.shared.recv_queue.lock().is_news_for_quic() {
            line.receive();
        }
    }

    fn is_any_on_its_way(&self) -> bool {
        let is_on_its_way =
            |line: &Line| !line.sent.is_empty() || line.end_sent != line.end_arrived;
        self.lines.values().any(is_on_its_way)
    }

    /// Deliver one chunk of each line; true when there is more.
    fn turn(&mut self) -> bool {
        if self.is_any_on_its_way() && self.network.is_slow {
            let now = self.clock.now();
            let arrival = *self.arrival.get_or_insert(now + Duration::from_secs(1));
            if now < arrival {
                return false;
            }
            self.arrival = None;
        }
        for line in self.lines.values_mut() {
            // As quinn-proto's events, only when something changed: the stream is readable, and
            // writable again.
            if let Some(chunk) = line.sent.pop_front() {
                line.arrived.push_back(chunk);
                line.shared.send_queue.lock().is_blocked = false;
                line.send(self.network.window);
                line.receive();
            }
            if line.sent.is_empty() && line.end_arrived != line.end_sent {
                line.end_arrived.clone_from(&line.end_sent);
                line.receive();
            }
        }
        self.is_any_on_its_way()
    }
}

impl CoreTask for Echo {
    fn take_commands(&mut self) {
        let mut taken = std::mem::take(&mut self.taken);
        self.commands.take(&mut taken);
        for command in taken.drain(..) {
            match command {
                Command::Stream(_, shared) => self.touch(shared),
                Command::Resume(_) => {
                    let waiting = self
                        .lines
                        .values_mut()
                        .filter(|line| line.is_waiting_for_credit);
                    waiting.for_each(Line::receive);
                }
                Command::CloseAll { .. } => self.is_closed = true,
                _ => {}
            }
        }
        self.taken = taken;
    }

    fn advance(&mut self) -> bool {
        self.turn()
    }

    fn advance_here(&mut self, _turns: usize) -> bool {
        self.turn()
    }

    fn deadline(&self) -> Option<Instant> {
        self.arrival
    }

    fn has_commands(&self) -> bool {
        self.commands.has_released()
    }

    fn is_releasable(&self) -> bool {
        self.is_closed
    }

    fn is_closed(&self) -> bool {
        self.is_closed
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // As the engine's core: later commands are refused.
        self.commands.close();
    }
}
