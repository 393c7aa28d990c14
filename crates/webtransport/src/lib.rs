//! HTTP/3 with WebTransport as a state machine without sockets and clock.
#![forbid(unsafe_code)]

pub mod error_code;
pub mod varint;

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
mod static_table;
#[allow(dead_code)]
mod type_length;
