//! A connection over WebTransport: what becomes of it as its session begins, carries streams and ends. The session
//! itself is in `webtransport`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p_quic_webtransport::stream_header;
use quinn_proto::{Dir, StreamEvent, StreamId};

use super::{ConnectionDriver, phase::Phase};
use crate::{
    config::Config,
    driver::{
        codes::varint,
        stream_allowance::StreamAllowance,
        streams::stream_of,
        webtransport::{H3_NO_ERROR, News, WebTransport},
    },
    error::{CloseKind, ConnectionError, Party},
    tls,
};

/// How long the peer has to acknowledge the close of its session, at least: enough for a retransmission on any common
/// path, as the default of `Config::linger`.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// go-libp2p closes the connection with this code right after the session, whose close has the code that counts.
const CODE_AFTER_SESSION: u64 = 1;

impl ConnectionDriver {
    /// The handshake agreed on HTTP/3: the connection is the application's once the peer has proven who it is.
    pub(super) fn begin_session(&mut self, now: Instant, config: &Config) {
        let Some(setup) = self.setup.clone() else {
            // Listeners and dials that offer HTTP/3 have one.
            let why = "HTTP/3 was agreed on, and not offered";
            self.fail(now, ConnectionError::internal(why));
            return;
        };
        let webtransport = self.webtransport.insert(Box::new(WebTransport::new(setup)));
        let opened = webtransport.begin(&mut self.conn);
        self.allowance.opened_unproven(opened);
        self.follow_session(now, config);
    }

    /// Have the session handle an event of one of its own streams. False if it is of the application's.
    pub(super) fn handle_session_event(
        &mut self,
        now: Instant,
        config: &Config,
        event: &StreamEvent,
    ) -> bool {
        let Some(webtransport) = &mut self.webtransport else {
            return false;
        };
        let conn = &mut self.conn;
        match *event {
            StreamEvent::Opened { dir } => {
                let opened = webtransport.accept(conn, dir);
                match dir {
                    Dir::Uni => {}
                    Dir::Bi if self.phase.is_connected() => {
                        self.allowance.opened(opened, conn, config);
                    }
                    Dir::Bi => self.allowance.opened_unproven(opened),
                }
            }
            StreamEvent::Readable { id } if webtransport.owns(id) => {
                webtransport.readable(conn, id);
            }
            StreamEvent::Writable { id } if webtransport.owns(id) => {
                webtransport.writable(conn, id);
            }
            StreamEvent::Stopped { id, error_code } if webtransport.owns(id) => {
                webtransport.stopped(conn, id, error_code.into_inner());
            }
            StreamEvent::Finished { id } => {
                webtransport.finished(id);
                return false;
            }
            StreamEvent::Available { .. } => {
                webtransport.available(conn);
                self.follow_session(now, config);
                return false;
            }
            _ => return false,
        }
        self.follow_session(now, config);
        true
    }

    /// Act on what the session tells.
    fn follow_session(&mut self, now: Instant, config: &Config) {
        while let Some(news) = self.webtransport.as_mut().and_then(|it| it.poll()) {
            match news {
                News::Proven(peer, key) => {
                    let session = self.webtransport.as_ref().and_then(|it| it.session());
                    if let Some(session) = session {
                        self.streams.join_session(stream_header(session, true));
                    }
                    let parameters = tls::parameters(self.conn.crypto_session());
                    self.authenticated(now, config, (peer, *key), parameters);
                    StreamAllowance::session_proven(&mut self.conn, config);
                }
                News::Stream { id, reset, stopped } => {
                    self.adopt_stream(now, config, id, reset, stopped);
                }
                News::Over(error, code) => {
                    let reason = match error.by {
                        Party::Local => Bytes::from(error.reason.clone()),
                        _ => Bytes::new(),
                    };
                    self.end(now, error);
                    self.conn.close(now, varint(code), reason);
                }
            }
        }
    }

    /// A stream is the application's, with the codes of QUIC of a reset that has been read and of a STOP_SENDING that
    /// is not answered.
    fn adopt_stream(
        &mut self,
        now: Instant,
        config: &Config,
        id: StreamId,
        reset: Option<u64>,
        stopped: Option<u64>,
    ) {
        if !self.phase.is_connected() {
            return;
        }
        let shared = self.shared.clone();
        let share = |id| stream_of(&shared, id, config);
        let stream = match reset {
            Some(code) => self.streams.adopt_reset(id, varint(code), share),
            None => self.streams.adopt(&mut self.conn, now, id, share),
        };
        if let Some(code) = stopped {
            self.streams.stopped(&mut self.conn, now, id, varint(code));
        }
        self.arrived([stream]);
    }

    /// Refuse the unidirectional streams of a peer that speaks libp2p: it may open some only because the listener
    /// also serves HTTP/3.
    pub(super) fn refuse_unidirectional(&mut self) {
        while let Some(id) = self.conn.streams().accept(Dir::Uni) {
            // Fails only on a stream that quinn-proto has already discarded.
            let _ = self.conn.recv_stream(id).stop(varint(0));
        }
    }

    /// Whether this side has closed the session.
    pub(super) fn is_session_closed(&self) -> bool {
        self.webtransport.as_ref().is_some_and(|it| it.is_closed())
    }

    /// Close the session of a connection that lingers, and the connection once the peer has learned of that, or if
    /// there is no session.
    pub(super) fn close_session(&mut self, now: Instant) {
        let Phase::Lingering {
            deadline,
            code,
            reason,
            ..
        } = &mut self.phase
        else {
            return;
        };
        if let Some(webtransport) = &mut self.webtransport {
            if !webtransport.is_closed() {
                *deadline = (*deadline).max(now + CLOSE_TIMEOUT);
            }
            if !webtransport.close(&mut self.conn, *code, reason) {
                return;
            }
        }
        self.close_now(now);
    }

    /// The code with which the connection is closed on the wire for an application's `code`: that of a session is in
    /// its own message.
    pub(super) fn close_code(&self, code: u64) -> quinn_proto::VarInt {
        match self.webtransport {
            Some(_) => varint(H3_NO_ERROR),
            None => varint(code),
        }
    }

    /// Read the peer's close of the connection as a close of its session without a code.
    pub(super) fn without_http3_code(&self, mut error: ConnectionError) -> ConnectionError {
        let is_close = error.by == Party::Peer && error.kind == CloseKind::Closed;
        if self.webtransport.is_some() && is_close {
            error.code = session_code(error.code);
        }
        error
    }
}

/// The code for the application of a close of the connection that came instead of one of its session.
fn session_code(code: Option<u64>) -> Option<u64> {
    match code {
        Some(H3_NO_ERROR | CODE_AFTER_SESSION) => Some(0),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_of_the_connection_alone_has_no_code() {
        // RFC 9114 section 8.1, and the 1 of go-libp2p.
        assert_eq!(session_code(Some(0x100)), Some(0));
        assert_eq!(session_code(Some(1)), Some(0));
        assert_eq!(session_code(Some(0x101)), Some(0x101));
        assert_eq!(session_code(None), None);
    }
}
