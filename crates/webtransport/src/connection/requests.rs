//! The request streams of a connection: how a request becomes a session, and how the session ends.

use super::{Connection, Phase, Request, Role, creation_error};
use crate::{
    capsule::Capsule,
    error::Error,
    error_code,
    field_section::Field,
    message::Malformed,
    output::{Event, Opening, Output, Refusal, SessionEnd},
    request::{self, Refused},
    request_stream::{Part, RequestStream},
    response,
    settings::Settings,
    stream_id::{SessionId, Side, StreamId},
};

/// The most requests that have not become a session and are not over. A libp2p client sends one.
const MAX_REQUESTS: usize = 16;
/// The most sessions at the same time, as our SETTINGS say.
const MAX_SESSIONS: usize = 1;

impl Connection {
    /// Send the client's request, on a stream that the engine has opened.
    pub(super) fn send_request(&mut self, id: SessionId) {
        let Role::Client(config) = &self.role else {
            return;
        };
        if self.go_away.is_some_and(|limit| id.get() >= limit) {
            self.reject(id.stream(), error_code::H3_REQUEST_CANCELLED);
            self.event(Event::Refused(Refusal::GoingAway));
            return;
        }
        let mut bytes = Vec::new();
        let offered = self.settings.clone().unwrap_or_default();
        request::write(&mut bytes, &config.authority, &config.path, &offered);
        self.write(id.stream(), bytes, false);
        let stream = RequestStream::response();
        let phase = Phase::Requested;
        self.requests.insert(id, Request { stream, phase });
    }

    /// A peer's bidirectional stream is no session's: it begins with a frame of this type.
    pub(super) fn begin_request(
        &mut self,
        stream: StreamId,
        kind: u64,
        input: &[u8],
        fin: bool,
    ) -> Result<bool, Error> {
        let Some(id) = SessionId::new(stream.get()) else {
            return Err(creation_error("a server opened a stream of no session"));
        };
        if self.count(|phase| !matches!(phase, Phase::Established)) == MAX_REQUESTS {
            return Err(Error::Stream(
                error_code::H3_REQUEST_REJECTED,
                "too many requests are unfinished",
            ));
        }
        let stream = RequestStream::request(kind);
        let phase = Phase::Reading;
        self.requests.insert(id, Request { stream, phase });
        self.receive_request(id, input, fin)
    }

    /// Bytes of a request stream. Returns whether more are wanted.
    pub(super) fn receive_request(
        &mut self,
        id: SessionId,
        mut input: &[u8],
        fin: bool,
    ) -> Result<bool, Error> {
        while let Some(request) = self.requests.get_mut(&id) {
            match request.stream.next(&mut input)? {
                Some(part) => self.receive_part(id, part)?,
                None if fin => {
                    request.stream.end()?;
                    self.end_request(id);
                }
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    fn receive_part(&mut self, id: SessionId, part: Part) -> Result<(), Error> {
        let Some(request) = self.requests.get_mut(&id) else {
            return Ok(());
        };
        match (part, &request.phase, &self.role) {
            (Part::Fields(fields), Phase::Reading, Role::Server(config)) => {
                match request::read(fields, config.accepts) {
                    Ok(connect) => {
                        request.stream.begin_tunnel();
                        request.phase = Phase::Accepted(connect);
                        self.establish_accepted(id);
                    }
                    Err(refused) => self.refuse(id, refused),
                }
            }
            (Part::TooLarge, Phase::Reading, _) => self.refuse(id, Refused::status(431)),
            (Part::Fields(fields), Phase::Requested, _) => self.receive_response(id, fields)?,
            (Part::TooLarge, _, _) => {
                return Err(Error::Stream(
                    error_code::H3_EXCESSIVE_LOAD,
                    "a response has too many fields",
                ));
            }
            (Part::Capsule(Capsule::Close { code, reason }), Phase::Established, _) => {
                request.phase = Phase::Closed;
                self.write(id.stream(), Vec::new(), true);
                self.closed(id, code, reason);
            }
            (Part::Capsule(Capsule::Drain), Phase::Established, _) => {
                self.event(Event::Draining { session: id });
            }
            (Part::Capsule(Capsule::Close { .. }), Phase::Accepted(_), _) => {
                self.abandon(id, error_code::H3_REQUEST_CANCELLED);
            }
            // Fields come before a session only, and after its end capsules mean nothing.
            (Part::Fields(_) | Part::Capsule(_), _, _) => {}
        }
        Ok(())
    }

    /// Answer a request with a status.
    fn refuse(&mut self, id: SessionId, refused: Refused) {
        let allow = (refused.status == 405).then_some(("allow", "CONNECT"));
        let mut bytes = Vec::new();
        response::write(&mut bytes, refused.status, allow);
        self.write(id.stream(), bytes, true);
        self.output(Output::Stop {
            stream: id.stream(),
            code: refused.code,
        });
        self.requests.remove(&id);
        self.end_session(id);
    }

    /// Begin the session of a request that was accepted, once the client's SETTINGS are there.
    fn establish_accepted(&mut self, id: SessionId) {
        let phase = self.requests.get(&id).map(|request| &request.phase);
        let (Some(Phase::Accepted(connect)), Some(_)) = (phase, &self.settings) else {
            return;
        };
        let draft = connect
            .wants_draft_02
            .then_some(("sec-webtransport-http3-draft", "draft02"));
        if self.count(|phase| matches!(phase, Phase::Established)) >= MAX_SESSIONS {
            return self.abandon(id, error_code::H3_REQUEST_REJECTED);
        }
        let mut bytes = Vec::new();
        response::write(&mut bytes, 200, draft);
        self.write(id.stream(), bytes, false);
        self.establish(id);
    }

    fn receive_response(&mut self, id: SessionId, fields: Vec<Field>) -> Result<(), Error> {
        let malformed = |Malformed(reason)| Error::Stream(error_code::H3_MESSAGE_ERROR, reason);
        match response::read(fields).map_err(malformed)? {
            100..=199 => {}
            200..=299 => self.establish(id),
            status => {
                self.reject(id.stream(), error_code::H3_REQUEST_CANCELLED);
                self.requests.remove(&id);
                self.end_session(id);
                self.event(Event::Refused(Refusal::Status(status)));
            }
        }
        Ok(())
    }

    fn establish(&mut self, id: SessionId) {
        if let Some(request) = self.requests.get_mut(&id) {
            request.stream.begin_tunnel();
            request.phase = Phase::Established;
        }
        self.event(Event::Established { session: id });
        for stream in self.waiting.take(id) {
            self.event(Event::StreamReady {
                stream,
                session: id,
            });
        }
    }

    /// The peer ended its part of a request stream, where it may end.
    fn end_request(&mut self, id: SessionId) {
        match self.requests.remove(&id).map(|request| request.phase) {
            // A CONNECT stream that ends is a session that is closed (draft-ietf-webtrans-http3 section 6).
            Some(Phase::Established) => {
                self.write(id.stream(), Vec::new(), true);
                self.closed(id, 0, String::new());
            }
            Some(Phase::Accepted(_)) => {
                self.output(Output::Reset {
                    stream: id.stream(),
                    code: error_code::H3_REQUEST_CANCELLED,
                });
                self.end_session(id);
            }
            _ => {}
        }
    }

    /// The peer closed a session.
    fn closed(&mut self, session: SessionId, code: u32, reason: String) {
        self.end_session(session);
        let end = SessionEnd::Closed { code, reason };
        self.event(Event::Ended { session, end });
    }

    /// End both parts of a request stream with this code.
    pub(super) fn abandon(&mut self, id: SessionId, code: u64) {
        let stream = id.stream();
        if self.is_closing(id) {
            // A reset would discard the message of our close, which the peer may still read.
            self.output(Output::Stop { stream, code });
        } else {
            self.reject(stream, code);
        }
        self.aborted(id, code);
    }

    /// Both parts of a request stream were ended with this code, by the peer or by us.
    pub(super) fn aborted(&mut self, id: SessionId, code: u64) {
        let phase = self.requests.remove(&id).map(|request| request.phase);
        self.end_session(id);
        match phase {
            Some(Phase::Established) => self.event(Event::Ended {
                session: id,
                end: SessionEnd::Aborted { code },
            }),
            Some(Phase::Requested) => self.event(Event::Refused(Refusal::Reset(code))),
            _ => {}
        }
    }

    /// There are no more streams of a session.
    pub(super) fn end_session(&mut self, session: SessionId) {
        self.waiting.end(session);
        for stream in self.waiting.take(session) {
            self.reject(stream, error_code::WT_SESSION_GONE);
        }
    }

    /// The peer's SETTINGS.
    pub(super) fn receive_settings(&mut self, settings: Settings) -> Result<(), Error> {
        let allows_sessions = settings.allows_sessions();
        self.settings = Some(settings);
        match self.side() {
            // A client shows by its request that it knows WebTransport: its settings differ with the draft,
            // and the older drafts do not require any.
            Side::Server => {
                let accepted: Vec<_> = self.requests.keys().copied().collect();
                accepted
                    .into_iter()
                    .for_each(|id| self.establish_accepted(id));
                Ok(())
            }
            Side::Client if allows_sessions => {
                self.output(Output::Open(Opening::Connect));
                Ok(())
            }
            Side::Client => Err(Error::Connection(
                error_code::WT_REQUIREMENTS_NOT_MET,
                "the server's SETTINGS do not offer WebTransport",
            )),
        }
    }

    /// GOAWAY (RFC 9114 section 5.2) also asks to end the sessions (draft-ietf-webtrans-http3 section 4.7).
    pub(super) fn receive_go_away(&mut self, limit: u64) {
        self.go_away = Some(limit);
        let ids: Vec<_> = self.requests.keys().copied().collect();
        for id in ids {
            match self.requests.get(&id).map(|request| &request.phase) {
                Some(Phase::Established) => self.event(Event::Draining { session: id }),
                Some(Phase::Requested) if id.get() >= limit => {
                    self.reject(id.stream(), error_code::H3_REQUEST_CANCELLED);
                    self.requests.remove(&id);
                    self.end_session(id);
                    self.event(Event::Refused(Refusal::GoingAway));
                }
                _ => {}
            }
        }
    }

    /// The id of a stream that is a request's.
    pub(super) fn request_of(&self, stream: StreamId) -> Option<SessionId> {
        SessionId::new(stream.get()).filter(|id| self.requests.contains_key(id))
    }

    pub(super) fn is_established(&self, session: SessionId) -> bool {
        self.requests
            .get(&session)
            .is_some_and(|request| matches!(request.phase, Phase::Established))
    }

    /// Whether this side has closed the session.
    pub(super) fn is_closing(&self, session: SessionId) -> bool {
        self.requests
            .get(&session)
            .is_some_and(|request| matches!(request.phase, Phase::Closing))
    }

    fn count(&self, is_counted: fn(&Phase) -> bool) -> usize {
        self.requests
            .values()
            .filter(|request| is_counted(&request.phase))
            .count()
    }
}
