//! A connection whose peer opens, fills, ends and resets streams in any order. A second connection gets the same
//! in single bytes, which must make no difference, but for what it does before bytes that are an error.

use libp2p_quic_webtransport::{
    Event, Received, Refusal, Side, StreamId, datagram_header, stream_header,
};

use crate::{
    bytes::Bytes,
    peer::{Peer, session, stream},
};

/// Two peers in the same state.
struct Twins([Peer; 2]);

impl Twins {
    fn new(new: fn() -> Peer) -> Self {
        Self([new(), new()])
    }

    fn receive(&mut self, id: StreamId, bytes: &[u8], fin: bool) {
        let [whole, single] = &mut self.0;
        whole.receive(id, bytes, fin);
        if bytes.is_empty() {
            single.receive(id, bytes, fin);
        }
        for (index, byte) in bytes.iter().enumerate() {
            single.receive(id, &[*byte], fin && index + 1 == bytes.len());
        }
    }

    fn each(&mut self, act: impl Fn(&mut Peer)) {
        self.0.iter_mut().for_each(|peer| {
            act(peer);
            peer.run();
        });
    }

    fn compare(&self) -> &Peer {
        let [whole, single] = &self.0;
        if whole.closed.is_some() {
            // The error is in the bytes that the first got at once: it has not acted on those before it.
            assert_eq!(whole.closed, single.closed);
            assert!(single.sent.starts_with(&whole.sent));
            assert!(single.events.starts_with(&whole.events));
            assert!(single.resets.starts_with(&whole.resets));
            assert!(single.stops.starts_with(&whole.stops));
            for (id, payload) in &whole.payload {
                assert!(single.payload[id].starts_with(payload));
            }
        } else if has_kept_back_request(whole) {
            // The second had sent its request when it read the GOAWAY.
            let others = single.sent.iter().filter(|(id, ..)| *id != stream(0));
            assert!(whole.sent.iter().eq(others));
            assert_eq!(whole.outcome(), single.outcome());
        } else {
            assert_eq!(whole.record(), single.record());
        }
        assert_eq!(whole.connection.is_closed(), whole.closed.is_some());
        whole
    }
}

/// Whether a GOAWAY came with the SETTINGS, so that the client had not sent its request yet, and does not.
fn has_kept_back_request(peer: &Peer) -> bool {
    peer.events.contains(&Event::Refused(Refusal::GoingAway))
        && !peer.sent.iter().any(|(id, ..)| *id == stream(0))
}

/// A stream that the other side opened, of few, and again as often as not the request's.
fn peers_stream(data: &mut Bytes<'_>, side: Side) -> StreamId {
    let id = stream(u64::from(data.u8() % 64));
    if id.initiator() == side {
        stream(0)
    } else {
        id
    }
}

/// Do what the input says, on one side.
fn act(twins: &mut Twins, data: &mut Bytes<'_>, side: Side) {
    let mut ended = Vec::new();
    while !data.is_empty() {
        let choice = data.u8();
        let id = peers_stream(data, side);
        match choice % 8 {
            0..=3 if !ended.contains(&id) => {
                let fin = choice & 0x10 != 0;
                let len = usize::from(data.u8());
                twins.receive(id, data.take(len), fin);
                if fin {
                    ended.push(id);
                }
            }
            4 if !ended.contains(&id) => {
                let code = data.number();
                twins.each(|peer| peer.receive_reset(id, code));
                ended.push(id);
            }
            5 => {
                let (id, code) = (stream(u64::from(choice >> 4)), data.number());
                twins.each(|peer| {
                    peer.connection.receive_stop(id, code);
                });
            }
            6 => {
                let len = usize::from(data.u8() % 16);
                let datagram = data.take(len);
                twins.each(|peer| {
                    peer.connection.receive_datagram(datagram);
                });
            }
            7 if choice & 0x10 == 0 => twins.each(|peer| peer.connection.drain_session(session(0))),
            7 => twins.each(|peer| peer.connection.close_session(session(0), 1, "closed")),
            _ => {}
        }
        twins.compare();
    }
}

pub(crate) fn connection(data: &[u8]) {
    let mut data = Bytes(data);
    match data.u8() % 3 {
        0 => act(&mut Twins::new(Peer::server), &mut data, Side::Server),
        1 => act(&mut Twins::new(Peer::serving), &mut data, Side::Server),
        _ => act(&mut Twins::new(Peer::client), &mut data, Side::Client),
    }
}

/// Streams and datagrams of sessions, before and after the session is there. Payload must arrive untouched.
pub(crate) fn session_streams(data: &[u8]) {
    let mut data = Bytes(data);
    let is_early = data.bool();
    let mut twins = Twins::new(if is_early {
        Peer::server
    } else {
        Peer::serving
    });
    let mut sent = Vec::new();
    for n in 1..u64::from(data.u8() % 32) {
        let choice = data.u8();
        // One in eight names a session that there is not.
        let of = session(if choice & 7 == 0 {
            data.number() % (1 << 60) * 4
        } else {
            0
        });
        let is_bidirectional = choice & 0x10 != 0;
        let id = stream(if is_bidirectional { 4 * n } else { 4 * n + 2 } + 1024);
        let len = usize::from(data.u8());
        let payload = data.take(len);
        let header = stream_header(of, is_bidirectional);
        let mut bytes = [&header[..], payload].concat();
        if choice & 0x20 != 0 {
            // Without payload, and sometimes without the end of the header.
            bytes.truncate(usize::from(choice >> 6));
        }
        let is_whole = bytes.len() >= header.len();
        twins.receive(id, &bytes, choice & 8 != 0 && is_whole);
        if is_whole && of == session(0) {
            sent.push((id, bytes.split_off(header.len())));
        }
        let mut datagram = datagram_header(of);
        datagram.extend_from_slice(payload);
        twins.each(|peer| {
            let is_established = !is_early && of == session(0) && peer.closed.is_none();
            let expected = is_established.then_some((of, payload));
            assert_eq!(peer.connection.receive_datagram(&datagram), expected);
        });
    }
    let peer = twins.compare();
    assert_eq!(peer.closed, None);
    let waiting = sent
        .iter()
        .filter(|each| peer.payload.contains_key(&each.0))
        .count();
    assert!(is_early || waiting == sent.len());
    for (id, payload) in &sent {
        if let Some(received) = peer.payload.get(id) {
            assert_eq!(received, payload);
        }
    }
    if is_early {
        let mut client = Peer::client();
        let settings = Peer::server().sent.remove(0).1;
        client.receive_all(3, &settings);
        for (id, bytes, fin) in &client.sent {
            twins.receive(*id, bytes, *fin);
        }
        let peer = twins.compare();
        let ready = peer
            .events
            .iter()
            .filter(|event| matches!(event, Event::StreamReady { .. }));
        assert_eq!(ready.count(), waiting);
    }
    let last = stream(2 + 4 * 10_000);
    twins.each(|peer| {
        let received = peer.receive(last, &stream_header(session(0), false), false);
        assert!(matches!(received, Received::Session { header: 3, .. }));
    });
}
