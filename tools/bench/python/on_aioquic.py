"""The contender that is an asyncio program over aioquic's own asyncio API, with the command line of
tools/bench/README.md: `python -m tools.bench.python.on_aioquic serve`, or
`... dial ADDRESS MEASURE name=value...`. The measures are in `asyncio_measures`. It is plain QUIC: the
listener has a certificate that nobody verifies.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
from contextlib import AsyncExitStack
from datetime import datetime, timedelta, timezone

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import CipherSuite
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from tools.bench.python.asyncio_measures import answer, dial, parser, until_stdin_ends


def configuration(is_client: bool) -> QuicConfiguration:
    """The windows, the datagrams and the first cipher of the other contenders."""
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["libp2p"],
        verify_mode=ssl.CERT_NONE,
        cipher_suites=[CipherSuite.AES_128_GCM_SHA256],
        max_stream_data=10_000_000,
        max_data=15_000_000,
        max_datagram_size=1452,
    )


def with_certificate(of: QuicConfiguration) -> QuicConfiguration:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    of.certificate, of.private_key = builder.sign(key, SHA256()), key
    return of


class Stream:
    """aioquic's reader and writer, as a program for asyncio uses them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.read = reader.read
        self.read_exactly = reader.readexactly

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def finish(self) -> None:
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()


class Connection:
    def __init__(self, protocol: QuicConnectionProtocol, held: AsyncExitStack, closing: set[Closing]) -> None:
        self._protocol = protocol
        self._held = held
        self._closing = closing

    async def open_stream(self) -> Stream:
        return Stream(*await self._protocol.create_stream())

    def close(self) -> None:
        """At once. The end of aioquic's `connect` waits for the end of the draining period, which no other
        contender does; it runs in the background."""
        self._protocol.close()
        task = asyncio.ensure_future(self._held.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


Closing = asyncio.Task[None]


class Node:
    def __init__(self) -> None:
        self._closing: set[Closing] = set()

    async def connect(self, address: str) -> Connection:
        _, _, host, _, port, *_ = address.split("/")
        held = AsyncExitStack()
        of = connect(host, int(port), configuration=configuration(is_client=True))
        return Connection(await held.enter_async_context(of), held, self._closing)


async def run(arguments: argparse.Namespace) -> None:
    if arguments.role == "dial":
        await dial(Node(), arguments)
        return
    tasks: set[asyncio.Task[None]] = set()

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(answer_one(Stream(reader, writer)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await serve(
        "127.0.0.1",
        0,
        configuration=with_certificate(configuration(is_client=False)),
        stream_handler=start,
    )
    # aioquic has no other way to learn the port that the system chose.
    assert server._transport is not None
    _, port = server._transport.get_extra_info("sockname")
    await until_stdin_ends(f"/ip4/127.0.0.1/udp/{port}/quic-v1")


async def answer_one(stream: Stream) -> None:
    try:
        await answer(stream)
    except asyncio.IncompleteReadError:
        # The dialer ends streams and reports its own failures.
        return


if __name__ == "__main__":
    asyncio.run(run(parser("python -m tools.bench.python.on_aioquic").parse_args()))
