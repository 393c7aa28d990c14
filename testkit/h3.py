"""QUIC programs that are not libp2p peers: aioquic's sans-I/O connection over one trio socket.

The server has an ordinary self-signed certificate, the client none; both offer the ALPN of their
configuration, and only complete the handshake.
"""

from __future__ import annotations

import datetime
import math
import socket

import trio
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import pull_quic_header
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certify(configuration: QuicConfiguration) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    day = datetime.timedelta(days=1)
    builder = builder.not_valid_before(now - day).not_valid_after(now + day)
    configuration.certificate = builder.sign(key, hashes.SHA256())
    configuration.private_key = key


async def serve(sock: trio.socket.SocketType, configuration: QuicConfiguration) -> None:
    certify(configuration)
    connections: dict[tuple[str, int], QuicConnection] = {}
    while True:
        data, sender = await sock.recvfrom(2048)
        if sender not in connections:
            header = pull_quic_header(Buffer(data=data), host_cid_length=8)
            connections[sender] = QuicConnection(
                configuration=configuration,
                original_destination_connection_id=header.destination_cid,
            )
        connection = connections[sender]
        connection.receive_datagram(data, sender, now=trio.current_time())
        for reply, address in connection.datagrams_to_send(now=trio.current_time()):
            await sock.sendto(reply, address)


async def call(address: tuple[str, int], configuration: QuicConfiguration) -> ConnectionTerminated:
    """Dial ``address`` and stay connected until the connection ends; returns how it ended."""
    return await run(QuicConnection(configuration=configuration), address)


async def run(connection: QuicConnection, address: tuple[str, int]) -> ConnectionTerminated:
    """`call`, with a connection that the caller can inspect afterwards."""
    connection.connect(address, now=trio.current_time())
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while True:
            for data, receiver in connection.datagrams_to_send(now=trio.current_time()):
                await sock.sendto(data, receiver)
            while (event := connection.next_event()) is not None:
                if isinstance(event, ConnectionTerminated):
                    return event
            with trio.move_on_at(connection.get_timer() or math.inf) as due:
                reply, sender = await sock.recvfrom(2048)
                connection.receive_datagram(reply, sender, now=trio.current_time())
            if due.cancelled_caught:
                connection.handle_timer(now=trio.current_time())
