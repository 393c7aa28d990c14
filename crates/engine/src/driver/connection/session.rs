//! A connection over WebTransport: what becomes of it as its session begins, carries streams and ends. The session
//! itself is in `webtransport`.

use std::time::Instant;

use bytes::Bytes;
use libp2p_quic_webtransport::stream_header;
use quinn_proto::{Dir, StreamEvent, StreamId};

use super::ConnectionDriver;
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
        webtransport.begin(&mut self.conn);
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
            StreamEvent::Opened { dir } => webtransport.accept(conn, dir),
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
                News::Stream(id) => self.adopt_stream(now, config, id),
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

    fn adopt_stream(&mut self, now: Instant, config: &Config, id: StreamId) {
        let shared = self.shared.clone();
        let share = |id| stream_of(&shared, id, config);
        let stream = self.streams.adopt(&mut self.conn, now, id, share);
        self.arrived(stream);
        self.allowance.opened(1, &mut self.conn, config);
    }

    /// Refuse the unidirectional streams of a peer that speaks libp2p: it may open some only because the listener
    /// also serves HTTP/3.
    pub(super) fn refuse_unidirectional(&mut self) {
        while let Some(id) = self.conn.streams().accept(Dir::Uni) {
            // Fails only on a stream that quinn-proto has already discarded.
            let _ = self.conn.recv_stream(id).stop(varint(0));
        }
    }

    /// Tell the peer that the application closes the session. True when it knows, or there is no session.
    pub(super) fn close_session(&mut self, code: u64, reason: &[u8]) -> bool {
        match &mut self.webtransport {
            Some(webtransport) => webtransport.close(&mut self.conn, code, reason),
            None => true,
        }
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
        if self.webtransport.is_some() && is_close && error.code == Some(H3_NO_ERROR) {
            error.code = Some(0);
        }
        error
    }
}
