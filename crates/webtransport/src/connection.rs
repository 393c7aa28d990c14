//! The state of one HTTP/3 connection with WebTransport: which streams it has, and its session. What a frame or
//! field means is left to the other files.

mod requests;

use std::collections::{BTreeMap, VecDeque};

use crate::{
    capsule,
    control_stream::{Control, ControlStream},
    datagram,
    error::Error,
    error_code, frame,
    output::{Event, Opening, Output},
    qpack_streams::{DecoderStream, check_encoder},
    request::{self, Connect},
    request_stream::RequestStream,
    settings::{self, Settings},
    stream_header::{self, StreamHeader, StreamKind},
    stream_id::{SessionId, Side, StreamId},
    waiting_streams::WaitingStreams,
};

/// The most streams of which a part of the header has arrived. Few headers are cut in two by packets.
const MAX_PARTIAL_HEADERS: usize = 64;
/// What a client asks for.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The host and port of the server.
    pub authority: String,
    /// The path, like [`PATH`](crate::PATH).
    pub path: String,
}

/// What a server accepts.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Whether there are sessions at a path. Requests for others are answered with 404.
    pub accepts: fn(path: &str) -> bool,
}

impl Default for ServerConfig {
    /// Sessions at libp2p's path.
    fn default() -> Self {
        Self {
            accepts: request::is_libp2p_path,
        }
    }
}

/// What became of the bytes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The connection took them, and wants those that follow.
    Taken,
    /// The stream belongs to a session: all bytes after the first `header` ones, and everything that
    /// follows on this stream, are payload and must not be passed to the connection.
    Session {
        /// The session.
        session: SessionId,
        /// The length of the rest of the header in the bytes that were passed.
        header: usize,
    },
    /// The same, but the session is not there yet. The engine keeps the payload and stops reading the
    /// stream, until [`Event::StreamReady`] comes or the stream is stopped.
    Waiting {
        /// The session.
        session: SessionId,
        /// The length of the rest of the header in the bytes that were passed.
        header: usize,
    },
    /// Nothing of this stream may be passed to the connection any more, and its bytes are to be discarded.
    Ended,
}

/// Where a request is on the way to a session and to its end.
#[derive(Debug)]
enum Phase {
    /// The server reads the request.
    Reading,
    /// The server has accepted the request, and waits for the client's SETTINGS
    /// (draft-ietf-webtrans-http3 section 3.1).
    Accepted(Connect),
    /// The client waits for the response.
    Requested,
    /// The session is there.
    Established,
    /// This side has closed the session, which the end of our part of the stream says; the peer's part has not
    /// ended.
    Closing,
    /// The peer has closed the session, and our part of the stream has ended; the peer's has not.
    Closed,
}

#[derive(Debug)]
struct Request {
    stream: RequestStream,
    phase: Phase,
}

#[derive(Debug)]
enum Role {
    Client(ClientConfig),
    Server(ServerConfig),
}

/// One HTTP/3 connection. See the [crate](crate) for how an engine drives it.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    outputs: VecDeque<Output>,
    is_closed: bool,
    /// Our own control stream.
    control: Option<StreamId>,
    /// The peer's streams that the connection requires, or that last as long as it does.
    peer_control: Option<(StreamId, ControlStream)>,
    peer_encoder: Option<StreamId>,
    peer_decoder: Option<(StreamId, DecoderStream)>,
    settings: Option<Settings>,
    /// The server processes no request with this id or a higher one.
    go_away: Option<u64>,
    headers: BTreeMap<StreamId, StreamHeader>,
    requests: BTreeMap<SessionId, Request>,
    waiting: WaitingStreams,
}

impl Connection {
    /// The client's side, which asks for a session as soon as the server's SETTINGS allow it.
    #[must_use]
    pub fn client(config: ClientConfig) -> Self {
        Self::new(Role::Client(config))
    }

    /// The server's side.
    #[must_use]
    pub fn server(config: ServerConfig) -> Self {
        Self::new(Role::Server(config))
    }

    fn new(role: Role) -> Self {
        Self {
            role,
            outputs: VecDeque::from([Output::Open(Opening::Control)]),
            is_closed: false,
            control: None,
            peer_control: None,
            peer_encoder: None,
            peer_decoder: None,
            settings: None,
            go_away: None,
            headers: BTreeMap::new(),
            requests: BTreeMap::new(),
            waiting: WaitingStreams::default(),
        }
    }

    fn side(&self) -> Side {
        match self.role {
            Role::Client(_) => Side::Client,
            Role::Server(_) => Side::Server,
        }
    }

    /// The next thing to do. Ask after every other call until there is nothing.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether a violation of the peer ended the connection. Nothing that is received matters any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The engine has opened a stream that [`Output::Open`] asked for.
    pub fn opened(&mut self, opening: Opening, stream: StreamId) {
        if self.is_closed {
            return;
        }
        match opening {
            Opening::Control => {
                self.control = Some(stream);
                let mut bytes = Vec::new();
                stream_header::write_control(&mut bytes);
                settings::write(&mut bytes);
                self.write(stream, bytes, false);
            }
            Opening::Connect => {
                if let Some(id) = SessionId::new(stream.get()) {
                    self.send_request(id);
                }
            }
        }
    }

    /// The peer sent bytes on a stream, and with `fin` ended it. Streams that the engine opened for a session
    /// carry no header from the peer, and are not passed.
    pub fn receive(&mut self, stream: StreamId, bytes: &[u8], fin: bool) -> Received {
        if self.is_closed {
            return Received::Ended;
        }
        self.receive_stream(stream, bytes, fin)
            .unwrap_or_else(|error| {
                self.fail(stream, error);
                Received::Ended
            })
    }

    /// The peer reset a stream. True if a bidirectional stream's header had not arrived, so that it cannot be known
    /// whose stream it was: nothing has been done with it.
    pub fn receive_reset(&mut self, stream: StreamId, code: u64) -> bool {
        if self.is_closed {
            return false;
        }
        self.headers.remove(&stream);
        if self.is_critical(stream) {
            self.close(error_code::H3_CLOSED_CRITICAL_STREAM, CLOSED_CRITICAL);
        } else if let Some(id) = self.request_of(stream) {
            // A reset would discard the message of our close, which the peer may still read.
            if !self.is_closing(id) {
                self.output(Output::Reset {
                    stream,
                    code: error_code::H3_REQUEST_CANCELLED,
                });
            }
            self.aborted(id, code);
        } else if self.waiting.remove(stream) {
            if stream.is_bidirectional() {
                self.output(Output::Reset {
                    stream,
                    code: error_code::WT_SESSION_GONE,
                });
            }
        } else {
            return self.is_without_header(stream);
        }
        false
    }

    /// The peer asked us to stop sending on a stream. Streams of sessions do not matter here. True if the stream's
    /// header has not arrived, so that it is not known yet whose stream it is: nothing has been done with it.
    pub fn receive_stop(&mut self, stream: StreamId, code: u64) -> bool {
        if self.is_closed {
            return false;
        }
        if self.control == Some(stream) {
            self.close(error_code::H3_CLOSED_CRITICAL_STREAM, CLOSED_CRITICAL);
        } else if let Some(id) = self.request_of(stream) {
            self.reject(stream, error_code::H3_REQUEST_CANCELLED);
            self.aborted(id, code);
        } else {
            return self.is_without_header(stream);
        }
        false
    }

    /// The peer sent a datagram. Returns the session that it belongs to, and its payload; `None` if there is
    /// no such session, in which case it is dropped (RFC 9297 section 2.1).
    pub fn receive_datagram<'a>(&mut self, datagram: &'a [u8]) -> Option<(SessionId, &'a [u8])> {
        if self.is_closed {
            return None;
        }
        match datagram::read(datagram) {
            Ok((session, payload)) => self.is_established(session).then_some((session, payload)),
            Err(Error::Connection(code, reason) | Error::Stream(code, reason)) => {
                self.close(code, reason);
                None
            }
        }
    }

    /// Close a session, with a code and at most 1024 bytes of a reason. The engine resets and stops its streams
    /// with [`WT_SESSION_GONE`](error_code::WT_SESSION_GONE). Nothing happens if there is no such session.
    pub fn close_session(&mut self, session: SessionId, code: u32, reason: &str) {
        if self.is_closed || !self.is_established(session) {
            return;
        }
        let mut value = Vec::new();
        capsule::write_close(&mut value, code, reason);
        self.write_capsule(session, &value, true);
        if let Some(request) = self.requests.get_mut(&session) {
            request.phase = Phase::Closing;
        }
        self.end_session(session);
    }

    /// Tell the peer that a session should end soon. Nothing happens if there is no such session.
    pub fn drain_session(&mut self, session: SessionId) {
        if self.is_closed || !self.is_established(session) {
            return;
        }
        let mut value = Vec::new();
        capsule::write_drain(&mut value);
        self.write_capsule(session, &value, false);
    }

    fn write_capsule(&mut self, session: SessionId, capsule: &[u8], fin: bool) {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, frame::DATA, capsule);
        self.write(session.stream(), bytes, fin);
    }

    fn receive_stream(&mut self, id: StreamId, bytes: &[u8], fin: bool) -> Result<Received, Error> {
        let mut input = bytes;
        if self.is_critical(id) {
            return self.receive_critical(id, input, fin);
        }
        if let Some(request) = self.request_of(id) {
            return self.receive_request(request, input, fin).map(wanted);
        }
        // What follows the header of a session's stream is not for us, and neither is a stream of ours.
        if let Some(session) = self.waiting.session(id) {
            return Ok(Received::Waiting { session, header: 0 });
        }
        if id.initiator() == self.side() {
            return Ok(Received::Ended);
        }
        let mut header = self.headers.remove(&id).unwrap_or_default();
        let Some(kind) = header.read(&mut input, id.is_bidirectional())? else {
            if !fin {
                if self.headers.len() == MAX_PARTIAL_HEADERS {
                    return Err(Error::Connection(
                        error_code::H3_EXCESSIVE_LOAD,
                        "too many streams have sent a part of their header",
                    ));
                }
                self.headers.insert(id, header);
                return Ok(Received::Taken);
            }
            // RFC 9114 section 6.2: the end of a unidirectional stream before its type is no error.
            return match (id.is_bidirectional(), header.is_empty()) {
                (false, _) => Ok(Received::Ended),
                (true, true) => Err(Error::Stream(
                    error_code::H3_REQUEST_INCOMPLETE,
                    "a stream ends before it begins",
                )),
                (true, false) => Err(Error::Connection(
                    error_code::H3_FRAME_ERROR,
                    "a stream ends within its header",
                )),
            };
        };
        let header = bytes.len() - input.len();
        match kind {
            StreamKind::Session(session) => Ok(self.session_stream(id, session, header)),
            StreamKind::Request(kind) => self.begin_request(id, kind, input, fin).map(wanted),
            StreamKind::Control if self.peer_control.is_none() => {
                self.peer_control = Some((id, ControlStream::new(self.side())));
                self.receive_critical(id, input, fin)
            }
            StreamKind::QpackEncoder if self.peer_encoder.is_none() => {
                self.peer_encoder = Some(id);
                self.receive_critical(id, input, fin)
            }
            StreamKind::QpackDecoder if self.peer_decoder.is_none() => {
                self.peer_decoder = Some((id, DecoderStream::default()));
                self.receive_critical(id, input, fin)
            }
            StreamKind::Control | StreamKind::QpackEncoder | StreamKind::QpackDecoder => Err(
                creation_error("a stream that may occur once was opened twice"),
            ),
            StreamKind::Push if self.side() == Side::Server => {
                Err(creation_error("a client opened a push stream"))
            }
            StreamKind::Push => Err(Error::Connection(
                error_code::H3_ID_ERROR,
                "a push stream was opened, and no push is allowed",
            )),
            StreamKind::Unknown => {
                let code = error_code::H3_STREAM_CREATION_ERROR;
                self.output(Output::Stop { stream: id, code });
                Ok(Received::Ended)
            }
        }
    }

    /// Whether it is not known yet whose a bidirectional stream of the peer is. The caller knows that it is no
    /// request's.
    fn is_without_header(&self, stream: StreamId) -> bool {
        let is_peers = stream.is_bidirectional() && stream.initiator() != self.side();
        is_peers && self.waiting.session(stream).is_none()
    }

    /// A stream whose end is the end of the connection.
    fn is_critical(&self, id: StreamId) -> bool {
        self.peer_control.as_ref().is_some_and(|each| each.0 == id)
            || self.peer_encoder == Some(id)
            || self.peer_decoder.as_ref().is_some_and(|each| each.0 == id)
    }

    fn receive_critical(
        &mut self,
        id: StreamId,
        mut input: &[u8],
        fin: bool,
    ) -> Result<Received, Error> {
        if self.peer_encoder == Some(id) {
            check_encoder(input)?;
        } else if let Some((_, decoder)) = self.peer_decoder.as_mut().filter(|each| each.0 == id) {
            decoder.receive(input)?;
        } else {
            while let Some((_, stream)) = &mut self.peer_control {
                match stream.next(&mut input)? {
                    Some(Control::Settings(settings)) => self.receive_settings(settings)?,
                    Some(Control::GoAway(id)) => self.receive_go_away(id),
                    None => break,
                }
            }
        }
        if fin {
            return Err(Error::Connection(
                error_code::H3_CLOSED_CRITICAL_STREAM,
                CLOSED_CRITICAL,
            ));
        }
        Ok(Received::Taken)
    }

    fn session_stream(&mut self, id: StreamId, session: SessionId, header: usize) -> Received {
        if self.is_established(session) {
            return Received::Session { session, header };
        }
        // A client knows the session that may still come: the one that it asked for.
        let is_asked_for = self.side() == Side::Server || self.requests.contains_key(&session);
        let is_expected = is_asked_for && !self.waiting.is_ended(session);
        if !is_expected {
            self.reject(id, error_code::WT_SESSION_GONE);
            return Received::Ended;
        }
        if !self.waiting.add(id, session) {
            self.reject(id, error_code::WT_BUFFERED_STREAM_REJECTED);
            return Received::Ended;
        }
        Received::Waiting { session, header }
    }

    /// Take nothing more from the peer's stream of a session, and send nothing.
    fn reject(&mut self, stream: StreamId, code: u64) {
        if stream.is_bidirectional() {
            self.output(Output::Reset { stream, code });
        }
        self.output(Output::Stop { stream, code });
    }

    /// Report a violation by its scope.
    fn fail(&mut self, stream: StreamId, error: Error) {
        match (error, SessionId::new(stream.get())) {
            (Error::Connection(code, reason), _) => self.close(code, reason),
            (Error::Stream(code, _), Some(id)) => self.abandon(id, code),
            (Error::Stream(code, _), None) => self.reject(stream, code),
        }
    }

    fn close(&mut self, code: u64, reason: &'static str) {
        self.output(Output::Close { code, reason });
        self.is_closed = true;
    }

    fn write(&mut self, stream: StreamId, bytes: Vec<u8>, fin: bool) {
        self.output(Output::Write { stream, bytes, fin });
    }

    fn event(&mut self, event: Event) {
        self.output(Output::Event(event));
    }

    fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}

/// What becomes of bytes of a request stream.
fn wanted(is_wanted: bool) -> Received {
    if is_wanted {
        Received::Taken
    } else {
        Received::Ended
    }
}

const CLOSED_CRITICAL: &str = "a stream that the connection requires was closed";

fn creation_error(reason: &'static str) -> Error {
    Error::Connection(error_code::H3_STREAM_CREATION_ERROR, reason)
}
