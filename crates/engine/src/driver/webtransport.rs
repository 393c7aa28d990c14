//! Runs HTTP/3, one WebTransport session and Noise on a connection whose handshake agreed on `h3`: until the peer's
//! identity is proven, and then for as long as the session lasts. The bytes of HTTP/3 and Noise are read in their own
//! crates; the session's streams are the application's, in `streams`.
//!
//! A browser proves nothing before Noise has run. Until then the connection counts as a handshake, so that the limits
//! on handshakes and their timeout hold for it.

mod own_streams;
mod proof;
#[cfg(test)]
mod raw_peer_tests;
mod setup;

use std::{collections::VecDeque, sync::Arc};

use libp2p_quic_webtransport::{
    ClientConfig, Connection as Http3, Event, Opening, Output, PATH, Received, Refusal,
    ServerConfig, SessionEnd, SessionId, StreamId as Http3Id, error_code, stream_header,
};
use quinn_proto::{Connection, Dir, StreamId};

use self::{
    own_streams::{Arrived, OwnStreams, Reader},
    proof::Proof,
};
use crate::{
    driver::codes::varint,
    error::{CloseKind, ConnectionError, Party},
    host_key::PublicKey,
    identity::PeerId,
};

pub(crate) use self::setup::Setup;
pub(super) use libp2p_quic_webtransport::error_code::H3_NO_ERROR;

/// What the connection has to know.
pub(super) enum News {
    /// The peer has proven its identity: the connection is the application's.
    Proven(PeerId, Box<PublicKey>),
    /// The peer opened this stream for the application. The codes are QUIC's, and come from what the peer did before
    /// the stream's header arrived: its reset has been read, and its STOP_SENDING is not answered.
    Stream {
        id: StreamId,
        reset: Option<u64>,
        stopped: Option<u64>,
    },
    /// The session is over: close the connection with this code of HTTP/3.
    Over(ConnectionError, u64),
}

/// Where the identities' proof is.
enum Progress {
    /// There is no session yet.
    Requested,
    /// There is a session, and no stream for Noise.
    Established(Proof),
    /// Noise runs on this stream.
    Proving(Proof, StreamId),
    Proven,
}

pub(super) struct WebTransport {
    http3: Http3,
    setup: Arc<Setup>,
    progress: Progress,
    session: Option<SessionId>,
    streams: OwnStreams,
    /// Streams that could not be opened yet.
    openings: VecDeque<Opening>,
    /// Streams of the session that the peer opened before its proof was complete.
    held: Vec<StreamId>,
    news: VecDeque<News>,
    /// This side has closed the session.
    is_closed: bool,
    /// The peer has acknowledged that.
    is_close_delivered: bool,
}

impl WebTransport {
    pub(super) fn new(setup: Arc<Setup>) -> Self {
        let http3 = match &*setup {
            Setup::Listener { .. } => Http3::server(ServerConfig::default()),
            Setup::Dialer { authority, .. } => Http3::client(ClientConfig {
                authority: authority.clone(),
                path: PATH.to_owned(),
            }),
        };
        Self {
            http3,
            setup,
            progress: Progress::Requested,
            session: None,
            streams: OwnStreams::default(),
            openings: VecDeque::new(),
            held: Vec::new(),
            news: VecDeque::new(),
            is_closed: false,
            is_close_delivered: false,
        }
    }

    /// The handshake of TLS is complete: send our part of HTTP/3, and read what has arrived. Returns how many
    /// bidirectional streams the peer has opened.
    pub(super) fn begin(&mut self, conn: &mut Connection) -> u64 {
        self.pump(conn);
        self.accept(conn, Dir::Uni);
        self.accept(conn, Dir::Bi)
    }

    pub(super) fn poll(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// The session, once there is one.
    pub(super) fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Whether a stream is not the application's.
    pub(super) fn owns(&self, id: StreamId) -> bool {
        self.streams.contains(id)
    }

    /// The peer opened streams. Returns how many.
    pub(super) fn accept(&mut self, conn: &mut Connection, dir: Dir) -> u64 {
        let mut opened = 0;
        while let Some(id) = conn.streams().accept(dir) {
            opened += 1;
            self.streams.insert(id, Reader::Http3, true, dir == Dir::Bi);
            self.readable(conn, id);
        }
        opened
    }

    /// There may be something to read on a stream.
    pub(super) fn readable(&mut self, conn: &mut Connection, id: StreamId) {
        while let Some(reader) = self.streams.reader(id) {
            let Some(arrived) = self.streams.read(conn, id) else {
                break;
            };
            match reader {
                Reader::Noise => self.prove(conn, arrived),
                _ => self.receive(conn, id, arrived),
            }
        }
        self.answer_stop(conn, id);
    }

    /// Flow control has room on a stream again.
    pub(super) fn writable(&mut self, conn: &mut Connection, id: StreamId) {
        self.streams.send(conn, id);
    }

    /// The peer has everything of a stream that was finished.
    pub(super) fn finished(&mut self, id: StreamId) {
        let of_session = self.session.map(|session| quinn_id(session.stream()));
        self.is_close_delivered |= self.is_closed && of_session == Some(id);
    }

    /// The peer wants nothing more of a stream.
    pub(super) fn stopped(&mut self, conn: &mut Connection, id: StreamId, code: u64) {
        self.streams.hold_stop(id, code);
        // A close of the session may have come in the same packet, as go-libp2p sends it; quinn-proto reports the
        // stop first.
        self.readable(conn, id);
        self.finished(id);
    }

    /// Answer the peer's STOP_SENDING on a stream, unless the stream is the application's or may become it.
    fn answer_stop(&mut self, conn: &mut Connection, id: StreamId) {
        let (Some(code), Some(http3_id)) = (self.streams.take_stop(id), http3_id(id)) else {
            return;
        };
        let is_held = match self.streams.reader(id) {
            Some(Reader::Nobody) => true,
            Some(Reader::Http3) => self.http3.receive_stop(http3_id, code),
            _ => false,
        };
        if is_held {
            self.streams.hold_stop(id, code);
            return;
        }
        // RFC 9000 section 3.5.
        self.streams.reset(conn, id, code);
        self.pump(conn);
    }

    /// The peer allows more streams.
    pub(super) fn available(&mut self, conn: &mut Connection) {
        self.open_pending(conn);
        self.pump(conn);
        self.open_noise(conn);
    }

    /// Whether this side has closed the session.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Close the session with the application's code and reason. True when the peer has learned of it, or cannot.
    pub(super) fn close(&mut self, conn: &mut Connection, code: u64, reason: &[u8]) -> bool {
        let Some(session) = self.session else {
            return true;
        };
        if !std::mem::replace(&mut self.is_closed, true) {
            let code = u32::try_from(code).unwrap_or(u32::MAX);
            let reason = String::from_utf8_lossy(reason);
            self.http3.close_session(session, code, &reason);
            self.pump(conn);
        }
        self.is_close_delivered
    }

    fn receive(&mut self, conn: &mut Connection, id: StreamId, arrived: Arrived) {
        let Some(http3_id) = http3_id(id) else {
            return;
        };
        let received = match &arrived {
            Arrived::Bytes(bytes) => self.http3.receive(http3_id, bytes, false),
            Arrived::End => self.http3.receive(http3_id, &[], true),
            Arrived::Reset(code) => {
                if self.http3.receive_reset(http3_id, *code) {
                    return self.reset_without_header(conn, id, *code);
                }
                Received::Ended
            }
        };
        match received {
            Received::Taken => {}
            Received::Session { .. } => self.session_stream(conn, id),
            Received::Waiting { .. } => self.streams.set_reader(id, Reader::Nobody),
            Received::Ended => self.streams.set_reader(id, Reader::Over),
        }
        self.pump(conn);
    }

    /// A stream whose header has been read belongs to the session.
    fn session_stream(&mut self, conn: &mut Connection, id: StreamId) {
        if id.dir() == Dir::Uni {
            // libp2p's streams are bidirectional (libp2p connections spec).
            self.streams.stop(conn, id, error_code::from_application(0));
            return;
        }
        self.progress = match std::mem::replace(&mut self.progress, Progress::Proven) {
            // libp2p webtransport spec, "Security Handshake": Noise runs on the client's first stream.
            Progress::Established(proof) if !self.is_dialer() => {
                self.streams.set_reader(id, Reader::Noise);
                Progress::Proving(proof, id)
            }
            Progress::Proven => {
                self.give(id, None);
                Progress::Proven
            }
            other => {
                self.streams.set_reader(id, Reader::Nobody);
                self.held.push(id);
                other
            }
        };
    }

    /// The peer reset a stream before its header arrived: it cannot be known whose the stream was.
    fn reset_without_header(&mut self, conn: &mut Connection, id: StreamId, code: u64) {
        if matches!(self.progress, Progress::Proven) {
            // Nearly all are the application's, which may still send on it, as without a session.
            self.give(id, Some(code));
        } else {
            self.streams
                .reset(conn, id, error_code::H3_REQUEST_CANCELLED);
        }
    }

    /// The stream is the application's. `reset` is the code of the peer's reset, if that has been read.
    fn give(&mut self, id: StreamId, reset: Option<u64>) {
        let stopped = self.streams.take_stop(id);
        self.streams.remove(id);
        self.news.push_back(News::Stream { id, reset, stopped });
    }

    fn is_dialer(&self) -> bool {
        matches!(*self.setup, Setup::Dialer { .. })
    }

    /// Do what HTTP/3 asks for.
    fn pump(&mut self, conn: &mut Connection) {
        while let Some(output) = self.http3.poll() {
            match output {
                Output::Open(opening) => {
                    self.openings.push_back(opening);
                    self.open_pending(conn);
                }
                Output::Write { stream, bytes, fin } => {
                    self.streams.write(conn, quinn_id(stream), &bytes, fin);
                }
                Output::Reset { stream, code } => self.streams.reset(conn, quinn_id(stream), code),
                Output::Stop { stream, code } => self.streams.stop(conn, quinn_id(stream), code),
                Output::Close { code, reason } => {
                    let kind = CloseKind::Transport;
                    let error = ConnectionError::new(Party::Local, kind, Some(code), reason);
                    self.news.push_back(News::Over(error, code));
                }
                Output::Event(event) => self.event(conn, event),
            }
        }
    }

    fn open_pending(&mut self, conn: &mut Connection) {
        while let Some(&opening) = self.openings.front() {
            let dir = match opening {
                Opening::Control => Dir::Uni,
                Opening::Connect => Dir::Bi,
            };
            let Some(id) = conn.streams().open(dir) else {
                return;
            };
            self.openings.pop_front();
            self.streams.insert(id, Reader::Http3, dir == Dir::Bi, true);
            if let Some(http3_id) = http3_id(id) {
                self.http3.opened(opening, http3_id);
            }
        }
    }

    fn event(&mut self, conn: &mut Connection, event: Event) {
        match event {
            Event::Established { session } => {
                self.session = Some(session);
                match Proof::begin(&self.setup) {
                    Ok(proof) => self.progress = Progress::Established(proof),
                    Err(error) => return self.over(error),
                }
                self.open_noise(conn);
            }
            Event::StreamReady { stream, .. } => {
                let id = quinn_id(stream);
                self.session_stream(conn, id);
                self.readable(conn, id);
            }
            Event::Refused(refusal) => self.over(refused(refusal)),
            Event::Draining { .. } => {
                tracing::debug!("the peer wants the WebTransport session to end soon");
            }
            Event::Ended { end, .. } if !self.is_closed => self.over(ended(end)),
            Event::Ended { .. } => self.is_close_delivered = true,
        }
    }

    fn over(&mut self, error: ConnectionError) {
        self.news.push_back(News::Over(error, H3_NO_ERROR));
    }

    /// A dialer begins Noise on its first stream of the session, once the peer allows one.
    fn open_noise(&mut self, conn: &mut Connection) {
        let Some(session) = self.session.filter(|_| self.is_dialer()) else {
            return;
        };
        self.progress = match std::mem::replace(&mut self.progress, Progress::Proven) {
            Progress::Established(mut proof) => match conn.streams().open(Dir::Bi) {
                Some(id) => {
                    self.streams.insert(id, Reader::Noise, true, true);
                    self.streams
                        .write(conn, id, &stream_header(session, true), false);
                    while let Some(bytes) = proof.poll_transmit() {
                        self.streams.write(conn, id, &bytes, false);
                    }
                    Progress::Proving(proof, id)
                }
                None => Progress::Established(proof),
            },
            other => other,
        };
    }

    /// Continue Noise with what the peer has sent.
    fn prove(&mut self, conn: &mut Connection, arrived: Arrived) {
        let Progress::Proving(proof, id) = &mut self.progress else {
            return;
        };
        let id = *id;
        let result = match &arrived {
            Arrived::Bytes(bytes) => proof.receive(Some(bytes)),
            Arrived::End | Arrived::Reset(_) => proof.receive(None),
        };
        if let Err(error) = result {
            return self.over(error);
        }
        while let Some(bytes) = proof.poll_transmit() {
            self.streams.write(conn, id, &bytes, false);
        }
        let Some(peer) = proof.peer() else {
            return;
        };
        self.news
            .push_back(News::Proven(peer.id, Box::new(peer.key.clone())));
        self.progress = Progress::Proven;
        self.streams.set_reader(id, Reader::Over);
        self.streams.write(conn, id, &[], true);
        for held in std::mem::take(&mut self.held) {
            self.give(held, None);
        }
    }
}

/// The peer gives no session.
fn refused(refusal: Refusal) -> ConnectionError {
    let (code, why) = match refusal {
        Refusal::Status(status) => (
            None,
            format!("no WebTransport session: it answered with status {status}"),
        ),
        Refusal::Reset(code) => (
            Some(code),
            "no WebTransport session: the request was reset".to_owned(),
        ),
        Refusal::GoingAway => (None, "it takes no more WebTransport sessions".to_owned()),
    };
    ConnectionError::new(Party::Peer, CloseKind::Refused, code, why)
}

/// The session has ended, and with it the connection.
fn ended(end: SessionEnd) -> ConnectionError {
    match end {
        SessionEnd::Closed { code, reason } => ConnectionError::new(
            Party::Peer,
            CloseKind::Closed,
            Some(u64::from(code)),
            reason,
        ),
        SessionEnd::Aborted { code } => ConnectionError::new(
            Party::Peer,
            CloseKind::Closed,
            None,
            format!("the WebTransport session was aborted with HTTP/3's code {code:#x}"),
        ),
    }
}

fn http3_id(id: StreamId) -> Option<Http3Id> {
    Http3Id::new(id.into())
}

fn quinn_id(id: Http3Id) -> StreamId {
    StreamId::from(varint(id.get()))
}
