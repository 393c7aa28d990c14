//! Streams that came before the session that they belong to (draft-ietf-webtrans-http3 section 4.6), and sessions
//! that are over, to which streams may still come.

use std::collections::VecDeque;

use crate::stream_id::{SessionId, StreamId};

/// The most streams that wait. Only reordering makes one wait, as clients first wait for the response.
const MAX_WAITING: usize = 16;
/// The most ended sessions that are remembered.
const MAX_ENDED: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct WaitingStreams {
    waiting: Vec<(StreamId, SessionId)>,
    ended: VecDeque<SessionId>,
}

impl WaitingStreams {
    /// Let a stream wait for its session. `false` if too many wait already.
    pub(crate) fn add(&mut self, stream: StreamId, session: SessionId) -> bool {
        if self.waiting.len() == MAX_WAITING {
            return false;
        }
        self.waiting.push((stream, session));
        true
    }

    /// The session for which a stream waits.
    pub(crate) fn session(&self, stream: StreamId) -> Option<SessionId> {
        self.waiting
            .iter()
            .find(|each| each.0 == stream)
            .map(|each| each.1)
    }

    /// A stream no longer waits. `false` if it did not.
    pub(crate) fn remove(&mut self, stream: StreamId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|each| each.0 != stream);
        before > self.waiting.len()
    }

    /// Remove the streams that wait for this session, in the order in which they came.
    pub(crate) fn take(&mut self, session: SessionId) -> Vec<StreamId> {
        let taken = self
            .waiting
            .iter()
            .filter(|each| each.1 == session)
            .map(|each| each.0)
            .collect();
        self.waiting.retain(|each| each.1 != session);
        taken
    }

    /// Remember that a session is over, or never began.
    pub(crate) fn end(&mut self, session: SessionId) {
        if self.is_ended(session) {
            return;
        }
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(session);
    }

    /// Whether the session is over, as far as that is remembered.
    pub(crate) fn is_ended(&self, session: SessionId) -> bool {
        self.ended.contains(&session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: u64) -> StreamId {
        StreamId::new(id).expect("an id")
    }

    fn session(id: u64) -> SessionId {
        SessionId::new(id).expect("a session")
    }

    #[test]
    fn streams_wait_for_their_own_session() {
        let mut waiting = WaitingStreams::default();
        assert!(waiting.add(stream(2), session(0)));
        assert!(waiting.add(stream(6), session(4)));
        assert!(waiting.add(stream(10), session(0)));
        assert!(waiting.add(stream(14), session(0)));
        assert!(waiting.remove(stream(10)));
        assert!(!waiting.remove(stream(10)));
        assert_eq!(waiting.session(stream(6)), Some(session(4)));
        assert_eq!(waiting.take(session(0)), [stream(2), stream(14)]);
        assert_eq!(waiting.take(session(0)), []);
        assert_eq!(waiting.take(session(4)), [stream(6)]);
    }

    #[test]
    fn the_number_that_wait_is_limited() {
        let mut waiting = WaitingStreams::default();
        let added = (0..100)
            .filter(|n| waiting.add(stream(4 * n + 2), session(0)))
            .count();
        assert_eq!(added, MAX_WAITING);
        assert!(waiting.remove(stream(2)));
        assert!(waiting.add(stream(402), session(0)));
    }

    #[test]
    fn the_last_ended_sessions_are_remembered() {
        let mut waiting = WaitingStreams::default();
        (0..20).for_each(|n| waiting.end(session(4 * n)));
        (0..20).for_each(|_| waiting.end(session(76)));
        assert!(!waiting.is_ended(session(0)));
        assert!(!waiting.is_ended(session(12)));
        assert!(waiting.is_ended(session(16)));
        assert!(waiting.is_ended(session(76)));
        assert_eq!(waiting.ended.len(), MAX_ENDED);
    }
}
