//! HTTP/3 with WebTransport as a state machine without sockets and clock: what a libp2p node needs so that browsers
//! can dial it, and to dial others in the same way. It depends on no other crate.
//!
//! Of HTTP/3 (RFC 9114) there are SETTINGS, field sections without a dynamic table (RFC 9204), the extended CONNECT
//! request (RFC 9220), capsules and datagrams (RFC 9297). Of WebTransport (draft-ietf-webtrans-http3, whose sections are
//! cited as draft 15 numbers them) there is one session for each connection, in the dialects of the drafts that Chrome,
//! Firefox, Safari and go-libp2p speak. A [`Connection`] holds no more of a peer than: 16 unfinished requests of 16 KiB
//! each, 64 partial headers of streams, 16 streams without a session, 1 KiB of SETTINGS.
//!
//! # What the engine must do
//!
//! The engine owns QUIC's streams and their ids; the connection tells it what to do with some of them.
//!
//! - **Transport parameters.** Allow the peer at least three unidirectional streams and one bidirectional stream, and
//!   datagrams: HTTP/3's SETTINGS promise to receive them, and Chrome insists on them.
//! - **Begin.** Once the handshake is complete with the protocol `h3`, make a [`Connection::client`] or a
//!   [`Connection::server`]. A server may do so, and send, before it knows that the client has finished.
//! - **After each call, [`Connection::poll`] until it returns `None`,** and do what the [`Output`]s say, in
//!   their order. [`Output::Open`] is answered by [`Connection::opened`] once the peer's stream limit allows it.
//!   [`Output::Write`]s wait in the stream's send queue while flow control has no space; they are small.
//! - **Pass what the peer sends** on each stream that the peer opened, and on the client's request stream, to
//!   [`Connection::receive`], and obey [`Received`]: after [`Received::Session`] the rest of the bytes and all later ones
//!   are the application's, and the connection must not see the stream again, not even its reset; after
//!   [`Received::Waiting`] stop reading the stream, so that flow control bounds what it holds; after [`Received::Ended`], and
//!   after [`Output::Stop`], drop what still comes.
//! - **Credit** bytes to the peer when they are passed to `receive`, as the connection stores only a bounded part of them.
//! - **Pass resets** to [`Connection::receive_reset`] and requests to stop sending to [`Connection::receive_stop`],
//!   for all streams but those of sessions. A stream that waits for its session counts as none of a session yet.
//!   Both return true where the header of a stream has not arrived. A stream that was reset may be taken for the
//!   session's, as an application may reset a stream before its first byte. Keep a stop until the header has arrived:
//!   then it is the application's, as the stream is, or is passed again.
//! - **Open a session's stream** after [`Event::Established`]: write [`stream_header`] first, then the payload. What the
//!   peer sends on it has no header and is not passed to the connection.
//! - **Codes of resets and stops** on a session's streams go through [`error_code::from_application`] and
//!   [`error_code::to_application`].
//! - **End.** After [`Event::Ended`], and after a call of [`Connection::close_session`], reset and stop the session's streams with
//!   [`error_code::WT_SESSION_GONE`]. libp2p has one session for a connection, so the engine then closes the connection
//!   with [`error_code::H3_NO_ERROR`], after the written bytes are acknowledged or a timeout has passed.
//! - **Time.** The connection has no clock. The engine bounds how long a peer may take until the session is there and
//!   Noise has run on it, and how many such connections there are.
#![forbid(unsafe_code)]

pub mod error_code;
pub mod varint;

mod capsule;
mod connection;
mod control_stream;
mod datagram;
mod error;
mod field_section;
mod frame;
mod huffman;
mod message;
mod output;
mod qpack_streams;
mod request;
mod request_stream;
mod response;
mod settings;
mod static_table;
mod stream_header;
mod stream_id;
mod type_length;
mod waiting_streams;

pub use connection::{ClientConfig, Connection, Received, ServerConfig};
pub use datagram::header as datagram_header;
pub use output::{Event, Opening, Output, Refusal, SessionEnd};
pub use request::{PATH, is_libp2p_path};
pub use stream_header::of_session as stream_header;
pub use stream_id::{SessionId, Side, StreamId};
