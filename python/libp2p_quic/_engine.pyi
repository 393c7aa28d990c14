"""The Rust engine, in verbs that never block.

A verb that cannot do its work yet returns ``None`` ("not yet") and remembers the
caller's token: when it is worth trying again, the token turns up in `ReadyQueue.drain`.
The token is remembered *before* ``None`` is returned, so no wake-up is lost, and a
caller that stops waiting leaves nothing behind: no byte, no stream, no Python object.

Times are seconds, sizes are bytes, codes are integers below 2**62. All classes may be
used from any thread.
"""

from typing import final

from libp2p_quic._errors import ConnectionLostError

__all__ = [
    "Config",
    "Connection",
    "Endpoint",
    "Identity",
    "Listener",
    "LogQueue",
    "ReadyQueue",
    "Stream",
    "__version__",
]

__version__: str

@final
class ReadyQueue:
    """Where tokens of things that became ready are collected.

    One ready_queue belongs to one event loop. Its descriptor becomes readable when the set
    of ready tokens stops being empty.
    """

    def __new__(cls) -> ReadyQueue: ...
    def fileno(self) -> int: ...
    def drain(self) -> list[int]:
        """Take the ready tokens and silence the ready_queue. Duplicates may occur. Cheap when empty."""

@final
class LogQueue:
    """Events of the engine that wait to be logged, of all endpoints of the process.

    The engine never waits for it: at most 1024 events are kept, and others are counted.
    """

    def __new__(cls, ready_queue: ReadyQueue) -> LogQueue: ...
    @staticmethod
    def set_level(level: int) -> None:
        """Queue events of this `logging` level and above; others cost next to nothing."""
    arrived: int
    """Token for `drain_nowait`."""
    def drain_nowait(self) -> tuple[list[tuple[float, int, str, str, int]], int] | None:
        """Events, and how many were lost since the last call: time of each (s since the epoch),
        `logging` level, message, source file and line."""
    def close(self) -> None:
        """Ring the ready_queue no more. Idempotent."""

@final
class Identity:
    """A libp2p host key and the TLS certificate made for it.

    ``private_key`` is libp2p's PrivateKey protobuf: Ed25519 (64 or 96 bytes), Secp256k1,
    ECDSA on P-256, P-384 or P-521, or RSA of 2048 to 8192 bits. A bare 32-byte Ed25519 seed is
    refused, as its bytes could be those of a public key. Raises IdentityError, which says what
    is wrong.
    """

    def __new__(cls, private_key: bytes) -> Identity: ...
    @property
    def peer_id(self) -> bytes:
        """The peer id as multihash bytes."""
    @property
    def public_key(self) -> bytes:
        """libp2p's PublicKey protobuf."""

@final
class Config:
    """Limits and timeouts of an endpoint. Raises ConfigError (which names the field).

    ``...`` stands where the compiled signature cannot spell the default: 5.0 for
    ``keep_alive_interval``, 256 for ``retry_above``, 4096 for ``max_connections`` and 256 for
    ``max_connections_per_address``.
    """

    def __new__(
        cls,
        *,
        handshake_timeout: float = 10.0,
        idle_timeout: float = 30.0,
        keep_alive_interval: float | None = ...,
        linger: float = 1.0,
        stream_receive_window: int = 10_000_000,
        connection_receive_window: int = 15_000_000,
        receive_budget: int = 268_435_456,
        send_window: int = 10_000_000,
        send_budget: int = 268_435_456,
        read_buffer: int = 4_194_304,
        write_buffer: int = 262_144,
        max_incoming_streams: int = 1024,
        max_accept_backlog: int = 256,
        congestion_control: str = "cubic",
        initial_rtt: float = 0.333,
        max_datagram_size: int = 1452,
        segmentation_offload: bool = True,
        max_handshakes: int = 1024,
        max_handshakes_per_address: int = 64,
        retry_above: int | None = ...,
        max_connections: int | None = ...,
        max_connections_per_address: int | None = ...,
        ipv4_prefix: int = 32,
        ipv6_prefix: int = 64,
        accept_draft_29: bool = False,
        migration: bool = True,
    ) -> Config: ...

@final
class Endpoint:
    """One identity with its sockets: it listens, dials, and owns its connections."""

    def __new__(cls, identity: Identity, config: Config, ready_queue: ReadyQueue) -> Endpoint: ...
    def listen(self, host: str, port: int) -> Listener:
        """Bind a UDP socket. ``host`` is a literal IPv4 or IPv6 address. Raises OSError."""
    def connect(self, host: str, port: int, peer_id: bytes | None) -> Connection:
        """Begin a handshake and return at once; `Connection.connected_nowait` tells the outcome.

        ``host`` is a literal IPv4 or IPv6 address; a link-local one needs the index of its interface
        as zone, as in "fe80::1%2". ``peer_id`` (multihash bytes) is the peer that must answer. Leaves
        from the listening socket that the system's routing would use, when there is one. An address
        from which no answer can come ends the connection at once, as "unreachable"; one to which the
        system or the network refuses datagrams twice, when it has.
        Raises OSError when no socket can be had, EndpointClosedError after `close`.
        """
    def deny(self, addresses: list[str]) -> None:
        """Refuse handshakes that these addresses begin, and of no others any more.

        Addresses or prefixes ("192.0.2.0/24"). Connections that exist live on, and dials are
        not asked. Raises ValueError, and then nothing has changed.
        """
    def flush(self) -> None:
        """Hand over what the verbs queued since the last flush: once per scheduler pass."""
    def census(self) -> dict[str, int]:
        """What there is behind its handles, to see that nothing is left: connections, handshakes
        (of strangers), streams, promised (bytes that connections may hold for readers), unacked
        (that they may hold for peers), and kept (that the process keeps for more traffic, until
        there was none for 0.1 s).

        Waits for the engine's pass, some milliseconds at most.
        """
    def close(self, code: int, reason: bytes) -> None:
        """Close every listener and connection. Idempotent.

        Peers to whom nothing is owed any more are told before it returns.
        """
    closed: int
    """Token for `closed_nowait`."""
    def closed_nowait(self) -> bool | None:
        """True when every connection has ended and every socket is closed. None: not yet."""

@final
class Listener:
    acceptable: int
    """Token for `accept_nowait`."""
    @property
    def local_address(self) -> tuple[str, int]: ...
    @property
    def limitation(self) -> str | None:
        """What does not work at this socket because the system refuses options of it, and what to do about it."""
    def accept_nowait(self) -> Connection | None:
        """The next connection whose handshake is done and whose peer is proven.

        Raises EndpointClosedError once the listener is closed.
        """
    def close(self) -> None:
        """Stop accepting. Connections that were accepted live on. Idempotent."""
    def statistics(self) -> dict[str, int]:
        """handshakes_started, handshakes_failed (for whatever reason), handshakes_refused (those of
        them that this side refused), connections_accepted, connections_refused (each once, however
        many packets it took), retries_sent, resets_sent (stateless), resets_suppressed (beyond
        1 000 in a second), datagrams_received, bytes_received, datagrams_unanswerable (dropped, as
        nothing can be sent to where they say they come from), and backlog (accepted by the engine,
        not yet taken)."""

@final
class Connection:
    connected: int
    openable: int
    acceptable: int
    closed: int
    """Tokens for the verbs of the same stem."""
    @property
    def peer_id(self) -> bytes | None:
        """Multihash bytes; known once connected."""
    @property
    def public_key(self) -> bytes | None:
        """PublicKey protobuf; known once connected."""
    @property
    def is_initiator(self) -> bool: ...
    @property
    def remote_address(self) -> tuple[str, int]:
        """IPv4-mapped addresses are unmapped."""
    @property
    def local_address(self) -> tuple[str, int]: ...
    def connected_nowait(self) -> bool | None:
        """True once the handshake is done and the peer proven. Raises ConnectionLostError."""
    def open_stream_nowait(self) -> Stream | None:
        """None while the peer allows no further stream. Raises ConnectionLostError."""
    def accept_stream_nowait(self) -> Stream | None:
        """The peer's next stream. Streams that arrived before the connection ended come first.
        Raises ConnectionLostError."""
    def closed_nowait(self) -> ConnectionLostError | None:
        """Why the connection ended, *returned*, not raised; None while it lives."""
    def close(self, code: int, reason: bytes) -> None:
        """Close. What finished streams still owe the peer is delivered first, for at most
        ``linger`` seconds. Idempotent; never raises."""
    def statistics(self) -> dict[str, float]:
        """rtt (s), congestion_window, mtu, bytes_sent, bytes_received, datagrams_sent,
        datagrams_received, packets_lost, congestion_events, streams_open, handshake (s)."""

@final
class Stream:
    """Reads give up to n bytes as soon as one is there; writes take what the buffer has room for."""

    readable: int
    writable: int
    finished: int
    """Tokens for `read_nowait`, `write_nowait` and `finished_nowait`."""
    @property
    def id(self) -> int: ...
    def read_nowait(self, max_bytes: int) -> bytes | None:
        """1 to ``max_bytes`` bytes, ``b""`` at the end of the stream, None for not yet.

        Raises StreamResetError (the peer abandoned the stream), StreamClosedError (we
        stopped reading), ConnectionLostError. Bytes that this side had taken from QUIC by
        then come first; a reset may discard what it had not (RFC 9000 section 3.2).
        """
    def write_nowait(self, data: bytes, start: int = 0) -> int | None:
        """Take bytes from ``data[start:]`` and return how many; None when there is no room.

        Raises StreamStoppedError (the peer stopped reading), StreamClosedError (we finished
        or reset the stream), ConnectionLostError.
        """
    def finish(self) -> None:
        """End of our bytes. Idempotent; does nothing on a stream that is already over."""
    def reset(self, code: int) -> None:
        """Abandon our side: unsent bytes are dropped, the peer reads an error. Idempotent."""
    def stop(self, code: int) -> None:
        """Read no more and ask the peer to stop. Idempotent.

        After `finish` the peer may say its last words, which are dropped: it is asked only
        when they take more than a second, and not before it acknowledged the finish.
        """
    def finished_nowait(self) -> bool | None:
        """True when the peer acknowledged everything up to our finish. Raises like write_nowait."""
