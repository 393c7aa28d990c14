//! An engine without a network: it drives one connection, opens streams, and keeps what was asked of it.

use std::collections::BTreeMap;

use libp2p_quic_webtransport::{
    ClientConfig, Connection, Event, Opening, Output, PATH, Received, ServerConfig, SessionId,
    Side, StreamId, stream_header,
};

/// Bytes of a stream, and whether they end it.
pub(crate) type Sent = (StreamId, Vec<u8>, bool);

pub(crate) struct Peer {
    pub(crate) connection: Connection,
    side: Side,
    /// How many streams this side opened, bidirectional and unidirectional ones.
    opened: [u64; 2],
    /// What this side sent and the other has not received.
    pub(crate) sent: Vec<Sent>,
    pub(crate) events: Vec<Event>,
    pub(crate) resets: Vec<(StreamId, u64)>,
    pub(crate) stops: Vec<(StreamId, u64)>,
    pub(crate) closed: Option<u64>,
    /// Payload of sessions' streams, by stream.
    pub(crate) payload: BTreeMap<StreamId, Vec<u8>>,
    /// Streams whose bytes are payload, or discarded, for ever.
    passed: BTreeMap<StreamId, Received>,
}

impl Peer {
    pub(crate) fn client() -> Self {
        let config = ClientConfig {
            authority: "192.0.2.1:4001".to_owned(),
            path: PATH.to_owned(),
        };
        Self::new(Connection::client(config), Side::Client)
    }

    pub(crate) fn server() -> Self {
        Self::new(Connection::server(ServerConfig::default()), Side::Server)
    }

    fn new(connection: Connection, side: Side) -> Self {
        let mut peer = Self {
            connection,
            side,
            opened: [0; 2],
            sent: Vec::new(),
            events: Vec::new(),
            resets: Vec::new(),
            stops: Vec::new(),
            closed: None,
            payload: BTreeMap::new(),
            passed: BTreeMap::new(),
        };
        peer.run();
        peer
    }

    /// A server with the session 0.
    pub(crate) fn serving() -> Self {
        let mut server = Self::server();
        let mut client = Self::client();
        exchange(&mut client, &mut server, &[usize::MAX]);
        assert_eq!(
            server.events,
            [Event::Established {
                session: session(0)
            }]
        );
        server.events.clear();
        server
    }

    /// Everything that the connection asked for and reported, to compare with another's.
    pub(crate) fn record(&self) -> impl PartialEq + std::fmt::Debug + '_ {
        (&self.sent, self.outcome())
    }

    /// The same but for what was sent.
    pub(crate) fn outcome(&self) -> impl PartialEq + std::fmt::Debug + '_ {
        (
            &self.events,
            &self.resets,
            &self.stops,
            self.closed,
            &self.payload,
        )
    }

    pub(crate) fn open(&mut self, is_bidirectional: bool) -> StreamId {
        let count = &mut self.opened[usize::from(!is_bidirectional)];
        let id =
            *count << 2 | u64::from(!is_bidirectional) << 1 | u64::from(self.side == Side::Server);
        *count += 1;
        StreamId::new(id).expect("an id")
    }

    pub(crate) fn is_client(&self) -> bool {
        self.side == Side::Client
    }

    /// Do what the connection asks for.
    pub(crate) fn run(&mut self) {
        while let Some(output) = self.connection.poll() {
            assert_eq!(self.closed, None, "{output:?} after the end");
            match output {
                Output::Open(opening) => {
                    let stream = self.open(opening == Opening::Connect);
                    self.connection.opened(opening, stream);
                }
                Output::Write { stream, bytes, fin } => self.sent.push((stream, bytes, fin)),
                Output::Reset { stream, code } => self.resets.push((stream, code)),
                Output::Stop { stream, code } => {
                    self.passed.insert(stream, Received::Ended);
                    self.stops.push((stream, code));
                }
                Output::Close { code, .. } => self.closed = Some(code),
                Output::Event(event) => {
                    if let Event::StreamReady { stream, session } = event {
                        let ready = Received::Session { session, header: 0 };
                        self.passed.insert(stream, ready);
                    }
                    self.events.push(event);
                }
            }
        }
    }

    pub(crate) fn receive(&mut self, stream: StreamId, bytes: &[u8], fin: bool) -> Received {
        let received = match self.passed.get(&stream) {
            Some(Received::Session { session, .. }) => Received::Session {
                session: *session,
                header: 0,
            },
            Some(Received::Waiting { session, .. }) => Received::Waiting {
                session: *session,
                header: 0,
            },
            Some(_) => Received::Ended,
            None => self.connection.receive(stream, bytes, fin),
        };
        match received {
            Received::Session { header, .. } | Received::Waiting { header, .. } => {
                let payload = self.payload.entry(stream).or_default();
                payload.extend_from_slice(&bytes[header..]);
                self.passed.entry(stream).or_insert(received);
            }
            Received::Ended => {
                self.passed.insert(stream, received);
            }
            Received::Taken => {}
        }
        self.run();
        received
    }

    /// Receive the reset of a stream.
    pub(crate) fn receive_reset(&mut self, stream: StreamId, code: u64) {
        if matches!(
            self.passed.get(&stream),
            None | Some(Received::Waiting { .. })
        ) {
            self.connection.receive_reset(stream, code);
            self.passed.insert(stream, Received::Ended);
            self.run();
        }
    }

    /// Receive the only bytes of a stream.
    pub(crate) fn receive_all(&mut self, id: u64, bytes: &[u8]) -> Received {
        self.receive(stream(id), bytes, false)
    }

    /// Send payload on a new stream of a session.
    pub(crate) fn send(
        &mut self,
        session: SessionId,
        is_bidirectional: bool,
        payload: &[u8],
    ) -> StreamId {
        let stream = self.open(is_bidirectional);
        let mut bytes = stream_header(session, is_bidirectional);
        bytes.extend_from_slice(payload);
        self.sent.push((stream, bytes, true));
        stream
    }
}

/// Deliver everything that two sides send, in pieces of these sizes in turn, until both are silent.
pub(crate) fn exchange(client: &mut Peer, server: &mut Peer, sizes: &[usize]) {
    let mut sizes = sizes.iter().copied().cycle();
    loop {
        let to_server = std::mem::take(&mut client.sent);
        let to_client = std::mem::take(&mut server.sent);
        if to_server.is_empty() && to_client.is_empty() {
            return;
        }
        for (receiver, sent) in [(&mut *server, to_server), (&mut *client, to_client)] {
            for (stream, bytes, fin) in sent {
                let mut rest = &bytes[..];
                loop {
                    let size = sizes.next().expect("sizes").clamp(1, rest.len().max(1));
                    let (piece, later) = rest.split_at(size.min(rest.len()));
                    receiver.receive(stream, piece, fin && later.is_empty());
                    rest = later;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
        }
    }
}

pub(crate) fn stream(id: u64) -> StreamId {
    StreamId::new(id).expect("an id")
}

pub(crate) fn session(id: u64) -> SessionId {
    SessionId::new(id).expect("an id of a session")
}

/// Bytes from digits, with any spaces.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
