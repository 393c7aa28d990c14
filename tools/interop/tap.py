"""A tap on one handshake: it forwards datagrams in both directions and reads the hellos.

The keys of Initial packets follow from the connection id that the dialer chose for the
listener's end, or, after a Retry packet, from the one in it (RFC 9001 section 5.2), so
any observer on the path can read which key exchange a dialer offers and which one the listener
chooses. The tap changes nothing, and cannot read anything after the hellos.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from aioquic._buffer import Buffer, BufferReadError
from aioquic._crypto import CryptoError
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    RETRY_INTEGRITY_TAG_SIZE,
    QuicHeader,
    QuicPacketType,
    get_retry_integrity_tag,
    pull_quic_header,
)

GROUPS = {0x0017: "P-256", 0x0018: "P-384", 0x001D: "X25519", 0x001E: "X448", 0x11EC: "X25519MLKEM768"}

_LARGEST = 65_536
"""The maximum size of a UDP datagram, in bytes."""

_PADDING, _PING, _ACK, _ACK_WITH_ECN, _CRYPTO = 0x00, 0x01, 0x02, 0x03, 0x06
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_SERVER_NAME, _KEY_SHARE = 0, 51
_FIXED_BIT = 0x40

_RETRY_REQUEST = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The "random" of a ServerHello that asks for another key share. RFC 8446 section 4.1.3."""


class Tap:
    """``address`` leads to the listener through the tap; the other fields are what was read."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.offered: list[str] = []
        """The groups of the dialer's key shares, in its order."""
        self.agreed: str | None = None
        self.was_retried = False
        """The listener requested a share of another group first (TLS's HelloRetryRequest)."""
        self.sent_retry = False
        """The listener validated the dialer's address first (QUIC's Retry packet)."""
        self.server_name: str | None = None
        """The SNI of the dialer."""
        self._destination: bytes | None = None
        """The connection id that the secrets are derived from."""
        self._secrets: dict[bool, CryptoPair] = {}
        self._pieces: dict[bool, dict[int, bytes]] = {True: {}, False: {}}

    def read(self, datagram: bytes, is_dialers: bool) -> None:
        """Read a datagram of either side; a datagram that cannot be read is no error."""
        try:
            start = 0
            while start < len(datagram):
                # Peers may clear the fixed bit (RFC 9287), which aioquic does not support.
                buffer = Buffer(data=bytes([datagram[start] | _FIXED_BIT]) + datagram[start + 1 :])
                header = pull_quic_header(buffer, host_cid_length=0)
                if header.packet_type is QuicPacketType.RETRY and not is_dialers:
                    self._retry(header, datagram[start:])
                    return
                if header.packet_type is not QuicPacketType.INITIAL or header.version is None:
                    return
                if self._destination is None:
                    self._set_up(header.destination_cid, header.version)
                end = start + header.packet_length
                packet = datagram[start:end]
                _, frames, _ = self._secrets[is_dialers].decrypt_packet(packet, buffer.tell(), 0)
                self._frames(Buffer(data=frames), self._pieces[is_dialers])
                self._hellos(joined(self._pieces[is_dialers]))
                start = end
        except (BufferReadError, CryptoError, ValueError):
            # Not a handshake. The case fails because it lacks evidence.
            return

    def _set_up(self, destination: bytes, version: int) -> None:
        self._destination = destination
        for side in (True, False):
            self._secrets[side] = CryptoPair()
            self._secrets[side].setup_initial(destination, not side, version)

    def _retry(self, header: QuicHeader, packet: bytes) -> None:
        """Follow a Retry that the dialer follows: the first one, before any answer, and valid (RFC 9000
        section 17.2.5.2). The dialer repeats its hello after it."""
        if self._destination is None or header.version is None or self.sent_retry or self._pieces[False]:
            return
        sealed = packet[:-RETRY_INTEGRITY_TAG_SIZE]
        tag = get_retry_integrity_tag(sealed, self._destination, header.version)
        if tag == header.integrity_tag:
            self.sent_retry = True
            self._pieces[True].clear()
            self._set_up(header.source_cid, header.version)

    @staticmethod
    def _frames(frames: Buffer, pieces: dict[int, bytes]) -> None:
        while not frames.eof():
            kind = frames.pull_uint_var()
            if kind in (_ACK, _ACK_WITH_ECN):
                frames.pull_uint_var(), frames.pull_uint_var()
                for _ in range(1 + 2 * frames.pull_uint_var() + (3 if kind == _ACK_WITH_ECN else 0)):
                    frames.pull_uint_var()
            elif kind == _CRYPTO:
                offset = frames.pull_uint_var()
                piece = frames.pull_bytes(frames.pull_uint_var())
                # Retransmitted data may be split at other offsets.
                pieces[offset] = max(piece, pieces.get(offset, b""), key=len)
            elif kind not in (_PADDING, _PING):
                return

    def _hellos(self, said: bytes) -> None:
        messages = Buffer(data=said)
        while messages.capacity - messages.tell() >= 4:
            kind, length = messages.pull_uint8(), int.from_bytes(messages.pull_bytes(3), "big")
            if kind not in (_CLIENT_HELLO, _SERVER_HELLO) or length > messages.capacity - messages.tell():
                # Not a hello, or an incomplete one.
                return
            message = Buffer(data=messages.pull_bytes(length))
            message.pull_uint16()
            random = message.pull_bytes(32)
            message.pull_bytes(message.pull_uint8())
            if kind == _CLIENT_HELLO:
                message.pull_bytes(message.pull_uint16())
                message.pull_bytes(message.pull_uint8())
                extensions = message.tell()
                # A list with one name: the length of the list, the kind of name, its own length.
                self.server_name = extension(message, _SERVER_NAME)[5:].decode(errors="replace") or None
                message.seek(extensions)
                shares = Buffer(data=extension(message, _KEY_SHARE)[2:])
                self.offered = []
                while not shares.eof():
                    self.offered.append(named(shares.pull_uint16()))
                    shares.pull_bytes(shares.pull_uint16())
            else:
                message.pull_bytes(3)
                self.was_retried |= random == _RETRY_REQUEST
                self.agreed = named(int.from_bytes(extension(message, _KEY_SHARE)[:2], "big"))


def joined(pieces: dict[int, bytes]) -> bytes:
    """The data up to the first gap."""
    said = b""
    for offset in sorted(pieces):
        if offset <= len(said):
            said = said[:offset] + pieces[offset] + said[offset + len(pieces[offset]) :]
    return said


def extension(hello: Buffer, wanted: int) -> bytes:
    """The contents of one extension; empty if it is absent."""
    hello.pull_uint16()
    while not hello.eof():
        kind, contents = hello.pull_uint16(), hello.pull_bytes(hello.pull_uint16())
        if kind == wanted:
            return contents
    return b""


def named(group: int) -> str:
    return GROUPS.get(group, f"group {group:#06x}")


@asynccontextmanager
async def tapped(address: str) -> AsyncIterator[Tap]:
    """Forward between one dialer and the listener at ``address`` on 127.0.0.1."""
    port = address.split("/")[4]
    front = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    back = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    with front, back:
        await front.bind(("127.0.0.1", 0))
        await back.connect(("127.0.0.1", int(port)))
        tap = Tap(address.replace(f"/udp/{port}/", f"/udp/{front.getsockname()[1]}/"))
        dialer: tuple[str, int] = ("", 0)

        async def to_listener() -> None:
            nonlocal dialer
            datagram, dialer = await front.recvfrom(_LARGEST)
            tap.read(datagram, is_dialers=True)
            await back.send(datagram)

        async def to_dialer() -> None:
            datagram = await back.recv(_LARGEST)
            tap.read(datagram, is_dialers=False)
            await front.sendto(datagram, dialer)

        scope, is_over = trio.CancelScope(), trio.Event()

        async def carry() -> None:
            with scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_forever, to_listener)
                    nursery.start_soon(_forever, to_dialer)
            is_over.set()

        # A nursery around the block would wrap whatever the block raises.
        trio.lowlevel.spawn_system_task(carry)
        try:
            yield tap
        finally:
            scope.cancel()
            with trio.CancelScope(shield=True):
                await is_over.wait()


async def _forever(carry: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await carry()
        except ConnectionRefusedError:
            # The port is closed: the datagram is lost, as on the network.
            continue
