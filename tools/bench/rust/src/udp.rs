//! An upper bound for all: datagrams of 1452 bytes over loopback with GSO and GRO, without QUIC. Without
//! flow control, only datagrams that arrived count.

use std::{
    io::{self, ErrorKind, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use serde_json::{Value, json};
use socket2::{Domain, SockRef, Socket, Type};

use crate::{net::Outcome, serve::exit_at_end_of_input, usage};

const DATAGRAM: usize = 1452;
/// The most bytes of one system call: 64 KiB less headers.
const BATCH: usize = 44;
const SOCKET_BUFFER: usize = 4 << 20;

fn socket() -> Outcome<(UdpSocket, UdpSocketState)> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>()?.into())?;
    let socket = UdpSocket::from(socket);
    let state = UdpSocketState::new((&socket).into())?;
    SockRef::from(&socket).set_nonblocking(false)?;
    Ok((socket, state))
}

/// A datagram of one byte queries the counters since the last query.
pub fn serve() -> Outcome<()> {
    let (socket, state) = socket()?;
    println!(
        "{}",
        json!({"address": format!("/ip4/127.0.0.1/udp/{}/quic-v1", socket.local_addr()?.port())})
    );
    exit_at_end_of_input();
    let mut buffer = vec![0; 1 << 16];
    let mut meta = [RecvMeta::default()];
    let (mut bytes, mut began, mut ended) = (0, 0, 0);
    loop {
        let slices = &mut [IoSliceMut::new(&mut buffer)];
        state.recv(UdpSockRef::from(&socket), slices, &mut meta)?;
        let [RecvMeta { len, addr, .. }] = meta;
        if len == 1 {
            let said = [bytes, began, ended, usage::cpu(), usage::memory()];
            socket.send_to(&said.map(u64::to_be_bytes).concat(), addr)?;
            bytes = 0;
            continue;
        }
        ended = usage::now();
        if bytes == 0 {
            began = ended;
        }
        bytes += len as u64;
    }
}

pub fn goodput(to: SocketAddr, size: u64, limit: Duration) -> Outcome<Value> {
    let (socket, state) = socket()?;
    let before = (usage::cpu(), ask(&socket, to)?);
    let contents = vec![0x5a; DATAGRAM * BATCH];
    let transmit = Transmit {
        destination: to,
        ecn: None,
        contents: &contents,
        segment_size: Some(DATAGRAM),
        src_ip: None,
    };
    let (began, mut sent) = (usage::now(), 0);
    while sent < size && usage::now() - began < limit.as_nanos() as u64 {
        match state.try_send(UdpSockRef::from(&socket), &transmit) {
            Ok(()) => sent += contents.len() as u64,
            // The receiver's queue is full, which loopback may report to the sender.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => thread::yield_now(),
            Err(error) => return Err(error.into()),
        }
    }
    let after = (usage::cpu(), ask(&socket, to)?);
    let cpu = [after.0 - before.0, after.1[3] - before.1[3]].map(|nanos| nanos as f64 / 1e9);
    Ok(json!({
        "bytes": after.1[0],
        "seconds": (after.1[2] - after.1[1]) as f64 / 1e9,
        "cpu": cpu,
        "rss": [usage::memory(), after.1[4]],
    }))
}

/// Repeat the query until an answer arrives, because a query may be dropped.
fn ask(socket: &UdpSocket, to: SocketAddr) -> io::Result<[u64; 5]> {
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut answer = [0; 40];
    for _ in 0..50 {
        socket.send_to(b"?", to)?;
        if socket.recv(&mut answer).is_ok() {
            let mut numbers = [0; 5];
            for (number, bytes) in numbers.iter_mut().zip(answer.chunks_exact(8)) {
                *number = bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
            }
            return Ok(numbers);
        }
    }
    Err(ErrorKind::TimedOut.into())
}
