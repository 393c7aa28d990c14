//! The signal of Windows: a UDP socket on loopback that is connected to itself, so that nobody else's datagrams
//! reach it. trio, and asyncio's selector loop, can wait for a socket; for no pipe.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    os::windows::io::{AsSocket, BorrowedSocket},
};

pub(crate) struct Signal(UdpSocket);

impl Signal {
    pub(crate) fn new() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(socket.local_addr()?)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Make the socket readable.
    pub(crate) fn raise(&self) {
        // It fails only when the buffer is full, and then the socket is readable.
        let _ = self.0.send(&[1]);
    }

    /// Make the socket unreadable until it is raised again.
    pub(crate) fn clear(&self) {
        // An error is the end too: of nothing to read, or of a datagram that is larger than the buffer.
        while self.0.recv(&mut [0; 8]).is_ok() {}
    }
}

impl AsSocket for Signal {
    fn as_socket(&self) -> BorrowedSocket<'_> {
        self.0.as_socket()
    }
}
