"""The states of the two halves of a stream, and of a connection, as this program sees them.

The names of a stream's states are those of RFC 9000 section 3. The engine runs the protocol's state
machines. The adapter needs only what it did itself and what the engine has reported to it, so that
several of the RFC's states are one here.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto


class SendState(Enum):
    """The sending part of a stream (RFC 9000 section 3.1), which this program ends."""

    # "Ready" and "Send": this program may write.
    SEND = auto()
    # "Data Sent" and "Data Recvd": this program finished its direction.
    DATA_SENT = auto()
    # "Reset Sent" and "Reset Recvd": this program reset the stream. Also after `DATA_SENT`.
    RESET_SENT = auto()


class RecvState(Enum):
    """The receiving part of a stream (RFC 9000 section 3.2), which the peer ends.

    Whether this program still reads is apart from it: it may stop in each of these states.
    """

    # "Recv" and "Size Known": the peer may send, or not all of it has left the engine.
    RECV = auto()
    # Everything up to the end of the peer's data has left the engine.
    DATA_RECVD = auto()
    # A reader has received the end.
    DATA_READ = auto()
    # "Reset Recvd" and "Reset Read": the peer reset its direction.
    RESET_RECVD = auto()


class ConnectionState(IntEnum):
    """The life of a connection. It only moves forward."""

    # Streams can be opened.
    OPEN = auto()
    # Closed by this program or lost. Readers may still take what the peer finished before.
    CLOSED = auto()
    # Streams that the peer finished are read, or their time is over.
    DRAINED = auto()
    # `on_close` was called.
    REPORTING = auto()
    # `on_close` has returned.
    OVER = auto()
