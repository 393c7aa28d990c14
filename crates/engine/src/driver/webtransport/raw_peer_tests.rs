//! Sessions between two connections of quinn-proto without a network, whose peer also uses streams of QUIC itself, in
//! an order that no engine sends.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use libp2p_quic_webtransport::{error_code, stream_header};
use quinn_proto::{
    Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, Event, ReadError, StreamEvent,
    StreamId,
};

use super::{News, WebTransport, quinn_id};
use crate::{
    config::Config,
    congestion::CongestionSignals,
    dial_mode::DialMode,
    driver::{
        codes::varint,
        settings::{Settings, Wanted},
    },
    error::{ConnectionError, Party},
    identity::Identity,
};

/// `GET /` of the authority "a", which has no answer but 404.
const GET: &[u8] = b"\x01\x08\0\0\xd1\xd7\x50\x01a\xc1";

/// How long an exchange takes in virtual time: longer than any acknowledgment is delayed.
const EXCHANGE: Duration = Duration::from_millis(100);

/// The addresses of the dialer and of the listener.
const ADDRESSES: [([u8; 4], u16); 2] = [([192, 0, 2, 1], 1000), ([192, 0, 2, 2], 4001)];

struct Side {
    endpoint: Endpoint,
    handle: ConnectionHandle,
    conn: Connection,
    webtransport: WebTransport,
    /// Streams are the test's alone: there is no HTTP/3.
    is_raw: bool,
}

impl Side {
    /// Send everything to the other side. False if there was nothing.
    fn send(&mut self, other: &mut Self, from: ([u8; 4], u16), now: Instant) -> bool {
        let mut has_sent = false;
        let mut datagram = Vec::new();
        while self.conn.poll_transmit(now, 1, &mut datagram).is_some() {
            has_sent = true;
            other.receive(from, &datagram, now);
            datagram.clear();
        }
        has_sent
    }

    fn receive(&mut self, from: ([u8; 4], u16), datagram: &[u8], now: Instant) {
        let mut response = Vec::new();
        let event =
            self.endpoint
                .handle(now, from.into(), None, None, datagram.into(), &mut response);
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.conn.handle_event(event);
        }
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(event) = self.conn.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.conn.handle_event(event);
            }
        }
        while let Some(event) = self.conn.poll() {
            if !self.is_raw {
                self.handle_event(event);
            }
        }
    }

    fn handle_event(&mut self, event: Event) {
        let (conn, webtransport) = (&mut self.conn, &mut self.webtransport);
        match event {
            Event::Connected => {
                webtransport.begin(conn);
            }
            Event::Stream(StreamEvent::Opened { dir }) => {
                webtransport.accept(conn, dir);
            }
            Event::Stream(StreamEvent::Readable { id }) if webtransport.owns(id) => {
                webtransport.readable(conn, id);
            }
            Event::Stream(StreamEvent::Writable { id }) if webtransport.owns(id) => {
                webtransport.writable(conn, id);
            }
            Event::Stream(StreamEvent::Stopped { id, error_code }) if webtransport.owns(id) => {
                webtransport.stopped(conn, id, error_code.into_inner());
            }
            Event::Stream(StreamEvent::Finished { id }) => webtransport.finished(id),
            Event::Stream(StreamEvent::Available { .. }) => webtransport.available(conn),
            Event::ConnectionLost { reason } => panic!("{reason}"),
            _ => {}
        }
    }

    /// Why the session is over.
    fn end(&mut self) -> Option<ConnectionError> {
        std::iter::from_fn(|| self.webtransport.poll()).find_map(|news| match news {
            News::Over(error, _) => Some(error),
            _ => None,
        })
    }
}

struct Pair {
    now: Instant,
    dialer: Side,
    listener: Side,
}

impl Pair {
    /// A dialer with a session, or one whose streams are the test's alone.
    fn connected(is_raw: bool) -> Self {
        let now = Instant::now();
        let settings =
            || Settings::new(&Identity::generate(), Config::default()).expect("settings");
        let (ours, theirs) = (settings(), settings());
        let endpoint = |settings: &Settings| {
            let server = settings.server(false);
            Endpoint::new(settings.endpoint.clone(), Some(server), false, None)
        };
        let certificates = theirs.certificates();
        let hashes = certificates
            .advertised(certificates.time())
            .expect("hashes");
        let wanted = Wanted::WebTransport(None, hashes.to_vec());
        let [from, to]: [SocketAddr; 2] = ADDRESSES.map(Into::into);
        let signals = CongestionSignals::default();
        let (dial, _verdict) = ours.client(to, wanted, signals, DialMode::Plain);
        let mut dialing = endpoint(&ours);
        let (handle, mut conn) = dialing
            .connect(now, dial.client, to, "libp2p")
            .expect("a dial");
        let mut datagram = Vec::new();
        let first = conn.poll_transmit(now, 1, &mut datagram);
        assert!(first.is_some());
        let dialer = Side {
            endpoint: dialing,
            handle,
            conn,
            webtransport: WebTransport::new(dial.setup.expect("a setup")),
            is_raw,
        };
        let mut listening = endpoint(&theirs);
        let mut response = Vec::new();
        let first = datagram.as_slice().into();
        let event = listening.handle(now, from, None, None, first, &mut response);
        let Some(DatagramEvent::NewConnection(incoming)) = event else {
            panic!("the first packet begins no connection");
        };
        let server = theirs.server_for_connection(CongestionSignals::default(), None, true);
        let accepted = listening.accept(incoming, now, &mut response, Some(server));
        let Ok((handle, conn)) = accepted else {
            panic!("the connection is refused");
        };
        let listener = Side {
            endpoint: listening,
            handle,
            conn,
            webtransport: WebTransport::new(theirs.setup_of_listeners().clone()),
            is_raw: false,
        };
        let mut pair = Self {
            now,
            dialer,
            listener,
        };
        pair.exchange();
        pair
    }

    /// Deliver what both sides send within the time of an exchange.
    fn exchange(&mut self) {
        let until = self.now + EXCHANGE;
        let [dialing, listening] = ADDRESSES;
        loop {
            let (dialer, listener) = (&mut self.dialer, &mut self.listener);
            while dialer.send(listener, dialing, self.now)
                | listener.send(dialer, listening, self.now)
            {}
            let timeouts = [dialer.conn.poll_timeout(), listener.conn.poll_timeout()];
            let next = timeouts.into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            for side in [dialer, listener] {
                side.conn.handle_timeout(self.now);
                side.settle();
            }
        }
    }

    /// How many bidirectional streams of the dialer the listener has not done with.
    fn open_streams(&mut self) -> u64 {
        self.listener.conn.streams().remote_open_streams(Dir::Bi)
    }

    /// Open a stream of the dialer without HTTP/3.
    fn open(&mut self) -> StreamId {
        let id = self.dialer.conn.streams().open(Dir::Bi);
        id.expect("an allowance")
    }

    /// Send bytes on a stream of the dialer.
    fn write(&mut self, id: StreamId, bytes: &[u8]) {
        let written = self.dialer.conn.send_stream(id).write(bytes);
        assert_eq!(written, Ok(bytes.len()));
    }

    /// Send STOP_SENDING on a stream of the dialer.
    fn stop(&mut self, id: StreamId, code: u64) {
        let stopped = self.dialer.conn.recv_stream(id).stop(varint(code));
        stopped.expect("an open stream");
    }
}

/// webtransport-go stops the stream of the session, then closes the session on it, and quic-go puts control frames
/// before those of streams.
#[test]
fn a_stop_does_not_hide_the_close_of_a_session_behind_it() {
    for is_dialer in [true, false] {
        let mut pair = Pair::connected(false);
        let (closing, other) = match is_dialer {
            true => (&mut pair.dialer, &mut pair.listener),
            false => (&mut pair.listener, &mut pair.dialer),
        };
        assert!(other.end().is_none());
        let session = closing.webtransport.session().expect("a session");
        let stream = quinn_id(session.stream());
        let gone = varint(error_code::WT_SESSION_GONE);
        let stopped = closing.conn.recv_stream(stream).stop(gone);
        stopped.expect("an open stream");
        closing.webtransport.close(&mut closing.conn, 7, b"enough");
        pair.exchange();
        let other = if is_dialer {
            &mut pair.listener
        } else {
            &mut pair.dialer
        };
        let end = other.end().expect("the close");
        assert_eq!((end.by, end.code), (Party::Peer, Some(7)));
        assert_eq!(&end.reason[..], "enough");
    }
}

#[test]
fn a_stop_that_comes_with_the_end_of_a_header_is_told_with_the_stream() {
    let mut pair = Pair::connected(false);
    let session = pair.dialer.webtransport.session().expect("a session");
    assert!(pair.listener.end().is_none());
    let header = stream_header(session, true);
    let (id, code) = (pair.open(), error_code::from_application(5));
    pair.write(id, &header[..1]);
    pair.exchange();
    assert!(pair.listener.webtransport.owns(id));
    pair.write(id, &header[1..]);
    pair.stop(id, code);
    pair.exchange();
    let Some(News::Stream {
        id: given,
        reset,
        stopped,
    }) = pair.listener.webtransport.poll()
    else {
        panic!("no stream");
    };
    assert_eq!((given, reset, stopped), (id, None, Some(code)));
    assert!(!pair.listener.webtransport.owns(id));
}

#[test]
fn a_request_without_an_interest_in_its_answer_is_freed() {
    for is_stop_alone in [true, false] {
        let mut pair = Pair::connected(true);
        let id = pair.open();
        pair.stop(id, error_code::H3_REQUEST_CANCELLED);
        if is_stop_alone {
            pair.exchange();
            assert!(pair.listener.webtransport.owns(id));
        }
        pair.write(id, GET);
        let finished = pair.dialer.conn.send_stream(id).finish();
        assert_eq!(finished, Ok(()));
        pair.exchange();
        assert!(!pair.listener.webtransport.owns(id));
        assert_eq!(pair.open_streams(), 0, "{is_stop_alone}");
    }
}

#[test]
fn a_reset_before_a_header_is_answered_by_one_before_the_proof() {
    let mut pair = Pair::connected(true);
    let id = pair.open();
    let reset = pair.dialer.conn.send_stream(id).reset(varint(7));
    reset.expect("an open stream");
    pair.exchange();
    let mut stream = pair.dialer.conn.recv_stream(id);
    let mut chunks = stream.read(true).expect("an open stream");
    let canceled = ReadError::Reset(varint(error_code::H3_REQUEST_CANCELLED));
    assert_eq!(chunks.next(1).err(), Some(canceled));
    drop(chunks);
    assert_eq!(pair.open_streams(), 0);
}
