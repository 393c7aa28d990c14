"""libp2p's identify protocol: what a peer tells of itself, and what `listen` answers.

Protobuf of a few fields. All of it is the peer's claim; only the peer id is verified, by the handshake.
"""

from __future__ import annotations

from dataclasses import dataclass

from libp2p_quic._command.multiaddr import bytes_of, text_of
from libp2p_quic._exception_types import NegotiationError
from libp2p_quic._protobuf import field, fields, read_varint, varint
from libp2p_quic.asyncio.address import Address
from libp2p_quic.asyncio.connection import Connection

IDENTIFY = "/ipfs/id/1.0.0"

# The numbers of the message's fields (identify spec).
_PUBLIC_KEY, _LISTEN_ADDRESS, _PROTOCOL, _OBSERVED_ADDRESS, _VERSION, _AGENT = 1, 2, 3, 4, 5, 6
# go-libp2p's limit of the whole message.
_LONGEST = 8 * 1024
# No message needs more lines on the screen.
_MOST = 200


@dataclass(frozen=True)
class Identification:
    """What a peer tells. ``observed_address`` is ours, as the peer sees it."""

    agent: str
    version: str
    protocols: tuple[str, ...]
    listen_addresses: tuple[str, ...]
    observed_address: str

    @classmethod
    def parse(cls, message: bytes) -> Identification:
        """Raises ValueError if it is not protobuf."""
        found: dict[int, list[bytes]] = {}
        for number, value in fields(message):
            if isinstance(value, bytes) and len(found.setdefault(number, [])) < _MOST:
                found[number].append(value)

        def texts(number: int) -> tuple[str, ...]:
            return tuple(_printable(each) for each in found.get(number, ()))

        def addresses(number: int) -> tuple[str, ...]:
            return tuple(text_of(each) for each in found.get(number, ()))

        return cls(
            agent=next(iter(texts(_AGENT)), ""),
            version=next(iter(texts(_VERSION)), ""),
            protocols=tuple(sorted(texts(_PROTOCOL))),
            listen_addresses=addresses(_LISTEN_ADDRESS),
            observed_address=next(iter(addresses(_OBSERVED_ADDRESS)), ""),
        )


async def identify(connection: Connection) -> Identification:
    """Ask the peer. Raises QUICError; NegotiationError if its answer is not identify's message."""
    async with await connection.open_stream(IDENTIFY) as stream:
        stream.finish()
        answer = await stream.read_to_end(_LONGEST)
    try:
        size, start = read_varint(answer)
        if size != len(answer) - start:
            raise ValueError(f"{size} bytes announced, {len(answer) - start} sent")
        return Identification.parse(answer[start:])
    except ValueError as error:
        raise NegotiationError(f"the peer's answer to {IDENTIFY} is malformed: {error}") from error


def answer_for(
    public_key: bytes, addresses: list[str], protocols: list[str], agent: str, remote_address: str
) -> bytes:
    """The message that a listener answers with, with its length. ``remote_address`` is the asking peer's."""
    message = b"".join(
        [
            field(_VERSION, b"ipfs/0.1.0"),
            field(_AGENT, agent.encode()),
            field(_PUBLIC_KEY, public_key),
            *(field(_LISTEN_ADDRESS, bytes_of(Address.parse(each))) for each in addresses),
            field(_OBSERVED_ADDRESS, bytes_of(Address.parse(remote_address))),
            *(field(_PROTOCOL, each.encode()) for each in protocols),
        ]
    )
    return varint(len(message)) + message


def _printable(data: bytes) -> str:
    """Text that cannot move the cursor of a terminal."""
    text = data.decode(errors="replace")
    return text if text.isprintable() else repr(text)
