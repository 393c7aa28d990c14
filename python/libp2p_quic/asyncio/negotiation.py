"""multistream-select 1.0: agrees on the protocol of a stream. No I/O here.

`Proposer` is the side that opened the stream and `Selector` the other one. Each takes received bytes and
has bytes to send. Every length is bounded, and a malformed message raises NegotiationError, after
which the caller ends the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from libp2p_quic._exception_types import NegotiationError, ProtocolNotSupportedError
from libp2p_quic._protobuf import varint

HEADER = "/multistream/1.0.0"
_NOT_AVAILABLE = "na"
_LIST = "ls"
# The longest message with its newline, in bytes: go-libp2p's limit. rust-libp2p allows 16 KiB.
MAX_MESSAGE = 1024
# Messages of one negotiation, without the header. The protocols of a peer are tens, not hundreds.
MAX_MESSAGES = 256


def message(text: str) -> bytes:
    """One message: its length as varint, the text, a newline."""
    data = text.encode() + b"\n"
    return varint(len(data)) + data


def checked(protocols: Iterable[str]) -> tuple[str, ...]:
    """The names of protocols, without duplicates. Raises ValueError for one that cannot be sent."""
    if isinstance(protocols, str):
        raise ValueError(f"give a list of protocols: [{protocols!r}]")
    names = tuple(dict.fromkeys(protocols))
    for name in names:
        if not name or "\n" in name:
            raise ValueError(f"a protocol is a text without newline, got {name!r}")
        if name in (HEADER, _NOT_AVAILABLE, _LIST) or len(name.encode()) >= MAX_MESSAGE:
            raise ValueError(f"{name[:80]!r} cannot be negotiated: it is reserved or too long")
    return names


def unanswered(protocols: Sequence[str], what: str, stream_id: str, code: int) -> ProtocolNotSupportedError:
    """The error of a stream whose peer did ``what`` with ``code`` instead of agreeing to a proposal.

    The peer may have answered: a reset overtakes an answer that is still on its way.
    """
    names = ", ".join(protocols)
    proposed, served = (names, "it") if len(protocols) == 1 else (f"one of {names}", "any of them")
    text = f"the peer {what} the stream before it agreed to {proposed}: it probably does not serve {served}"
    return ProtocolNotSupportedError(text, stream_id, code)


class _Messages:
    """Splits received bytes into messages. ``rest`` has the bytes after the last one."""

    def __init__(self) -> None:
        self.rest = b""
        self._count = 0

    def receive(self, data: bytes) -> None:
        self.rest += data

    def next(self) -> str | None:
        """The next message; None until it is complete. Raises NegotiationError."""
        length, start = 0, 0
        while True:
            if start == len(self.rest):
                return None
            byte = self.rest[start]
            length |= (byte & 0x7F) << (7 * start)
            start += 1
            if byte < 0x80:
                break
            if start == 2:
                raise NegotiationError(f"the peer announced a message of more than {MAX_MESSAGE} bytes")
        if not 1 <= length <= MAX_MESSAGE:
            raise NegotiationError(
                f"the peer announced a message of {length} bytes, allowed are 1 to {MAX_MESSAGE}"
            )
        if len(self.rest) < start + length:
            return None
        text, self.rest = self.rest[start : start + length], self.rest[start + length :]
        if not text.endswith(b"\n"):
            raise NegotiationError(f"the peer sent a message without a newline: {text[:80]!r}")
        self._count += 1
        if self._count > MAX_MESSAGES + 1:
            raise NegotiationError(f"the peer sent more than {MAX_MESSAGES} messages")
        try:
            return text[:-1].decode()
        except UnicodeDecodeError as error:
            raise NegotiationError(f"the peer sent a name that is not UTF-8: {text[:80]!r}") from error


class _Side:
    """What both sides share: the header comes first."""

    def __init__(self) -> None:
        self.outgoing = b""
        self.agreed: str | None = None
        # The last answer was that a protocol is not available: the peer must be able to read it.
        self.has_refused = False
        self._messages = _Messages()
        self._has_header = False

    @property
    def rest(self) -> bytes:
        """Received bytes that belong to the agreed protocol."""
        return self._messages.rest

    def receive(self, data: bytes) -> str | None:
        """Take received bytes. Returns the agreed protocol; None while more bytes are needed.

        Afterwards ``outgoing`` has what to send. Raises NegotiationError.
        """
        self._messages.receive(data)
        while self.agreed is None and (text := self._messages.next()) is not None:
            if self._has_header:
                self._handle(text)
            elif text == HEADER:
                self._has_header = True
            else:
                raise NegotiationError(f"the peer began with {text[:80]!r} instead of {HEADER!r}")
        return self.agreed

    def take_outgoing(self) -> bytes:
        """The bytes to send, once."""
        data, self.outgoing = self.outgoing, b""
        return data

    def _handle(self, text: str) -> None:
        raise NotImplementedError


class Proposer(_Side):
    """The side that opened the stream. Proposes ``protocols`` in their order."""

    def __init__(self, protocols: Sequence[str]) -> None:
        super().__init__()
        self.protocols = protocols
        self._proposed = 0
        self.outgoing = message(HEADER)
        self._propose()

    def _propose(self) -> None:
        self.outgoing += message(self.protocols[self._proposed])

    def _handle(self, text: str) -> None:
        proposal = self.protocols[self._proposed]
        if text == proposal:
            self.agreed = text
        elif text != _NOT_AVAILABLE:
            raise NegotiationError(f"the peer answered {text[:80]!r} to the proposal {proposal!r}")
        elif self._proposed + 1 < len(self.protocols):
            self._proposed += 1
            self._propose()
        else:
            raise ProtocolNotSupportedError(f"the peer supports none of {', '.join(self.protocols)}")


class Selector(_Side):
    """The side that accepted the stream. Agrees to the first proposal that is in ``protocols``."""

    def __init__(self, protocols: Sequence[str]) -> None:
        super().__init__()
        self.protocols = protocols
        self.outgoing = message(HEADER)

    def _handle(self, text: str) -> None:
        if text in self.protocols:
            self.agreed = text
            self.outgoing += message(text)
        elif text == _LIST:
            self.outgoing += self._list()
        else:
            self.has_refused = True
            self.outgoing += message(_NOT_AVAILABLE)

    def _list(self) -> bytes:
        """The protocols, each as a message, inside one message; as many as a message may have."""
        names = b""
        for name in self.protocols:
            if len(names) + len(message(name)) >= MAX_MESSAGE:
                break
            names += message(name)
        return varint(len(names) + 1) + names + b"\n"
