//! HTTP/3 with WebTransport as a state machine without sockets and clock.
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
