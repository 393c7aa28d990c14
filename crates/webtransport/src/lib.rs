//! HTTP/3 with WebTransport as a state machine without sockets and clock.
#![forbid(unsafe_code)]

pub mod error_code;
pub mod varint;

#[allow(dead_code)]
mod capsule;
#[allow(dead_code)]
mod datagram;
#[allow(dead_code)]
mod error;
#[allow(dead_code)]
mod field_section;
#[allow(dead_code)]
mod frame;
#[allow(dead_code)]
mod huffman;
#[allow(dead_code)]
mod qpack_streams;
#[allow(dead_code)]
mod settings;
#[allow(dead_code)]
mod static_table;
#[allow(dead_code)]
mod stream_header;
mod stream_id;
#[allow(dead_code)]
mod type_length;

pub use stream_id::{SessionId, Side, StreamId};
