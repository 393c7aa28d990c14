"""The Rust engine. Its methods never block.

A method that cannot complete yet returns ``None`` ("not yet") and registers its token. When
calling it again may succeed, `ReadyQueue.drain` returns the token. The token is registered
*before* ``None`` is returned, so no wake-up is lost. A caller that stops waiting leaves nothing
behind: no byte, no stream, no Python object.

Times are in seconds, sizes in bytes, codes are integers below 2**62. All classes may be used from
any thread.
"""

from os import PathLike
from typing import Any, final

from libp2p_quic._engine_errors import ConnectionLostError

__all__ = [
    "Config",
    "Connection",
    "Endpoint",
    "Identity",
    "Inbound",
    "Listener",
    "LogQueue",
    "ReadyQueue",
    "Stream",
    "__version__",
    "ed25519_private_key",
    "generate_private_key",
    "process_statistics",
    "time_bounds",
]

__version__: str

def generate_private_key(key_type: str, /) -> bytes:
    """A new host key as libp2p's PrivateKey protobuf. ``key_type`` is "ed25519", "secp256k1" or
    "ecdsa" (on P-256). Raises ValueError."""

def ed25519_private_key(seed: bytes, /) -> bytes:
    """The PrivateKey protobuf of an Ed25519 seed of 32 bytes. Raises ValueError."""

def process_statistics() -> dict[str, Any]:
    """The sums of all endpoints of the process, those that have ended included, with the keys of
    `Endpoint.statistics`; and buffers_kept (bytes of buffers that are kept until there was no traffic
    for 0.1 s) and waits (how often the I/O thread waited for something to do)."""

def time_bounds() -> list[float]:
    """The upper bounds of all buckets but the last in which `Endpoint.statistics` counts times, in seconds."""

@final
class ReadyQueue:
    """The tokens that became ready, for one event loop.

    Its descriptor becomes readable when the first token is added to an empty queue. If it ``receives``,
    the engine may lend it a socket for two milliseconds after each drain: the descriptor is then readable
    for a datagram, too, and a drain receives (Linux; see docs/dev/hybrid-driving.md).
    """

    def __new__(cls, receives: bool = False) -> ReadyQueue: ...
    @property
    def is_receiver(self) -> bool:
        """Whether a socket is lent to this queue now."""
    def fileno(self) -> int:
        """The descriptor to watch. It stays owned by this object."""
    def drain(self, in_pass: bool = False) -> list[int]:
        """Take all ready tokens and make the descriptor unreadable. Tokens may occur twice. Cheap
        if empty. ``in_pass``: tokens do not make it readable again before `before_wait`, as the loop
        drains in each pass."""
    def before_wait(self) -> None:
        """The loop is about to wait: tokens make the descriptor readable from now on, and at once if some
        have come since the last drain. Needed after a drain ``in_pass`` only."""

@final
class LogQueue:
    """Events of all endpoints of the process that wait to be logged.

    The engine never waits for it: at most 1024 events are kept, and further ones are counted.
    """

    def __new__(cls, ready_queue: ReadyQueue) -> LogQueue: ...
    @staticmethod
    def set_level(level: int) -> None:
        """Queue events of this `logging` level and above. Others cost almost nothing."""
    arrived: int
    """Token for `drain_nowait`."""
    def drain_nowait(self) -> tuple[list[tuple[float, int, str, str, int]], int] | None:
        """The queued events, and the number lost since the last call. Each event has its time
        (seconds since the epoch), `logging` level, message, source file and line."""
    def close(self) -> None:
        """Stop waking the event loop. Idempotent."""

@final
class Identity:
    """A libp2p host key and the TLS certificate made for it.

    ``private_key`` is libp2p's PrivateKey protobuf: Ed25519 (64 or 96 bytes), Secp256k1,
    ECDSA on P-256, P-384 or P-521, or RSA of 2048 to 8192 bits. A bare 32-byte Ed25519 seed is
    refused, as its protobuf may be that of a public key. Raises IdentityError with the reason.
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
    """Limits and timeouts of an endpoint. Times are in seconds, sizes in bytes.

    A field that is not given has the engine's default, which `defaults` returns.
    Raises ConfigError, which names the field.
    """

    def __new__(
        cls,
        *,
        handshake_timeout: float = ...,
        idle_timeout: float = ...,
        keep_alive_interval: float | None = ...,
        linger: float = ...,
        stream_receive_window: int = ...,
        connection_receive_window: int = ...,
        receive_budget: int = ...,
        send_window: int = ...,
        send_budget: int = ...,
        read_buffer: int = ...,
        write_buffer: int = ...,
        max_incoming_streams: int = ...,
        max_accept_backlog: int = ...,
        congestion_control: str = ...,
        initial_rtt: float = ...,
        max_datagram_size: int = ...,
        segmentation_offload: bool = ...,
        max_handshakes: int = ...,
        max_handshakes_per_address: int = ...,
        retry_above: int | None = ...,
        max_connections: int | None = ...,
        max_connections_per_address: int | None = ...,
        ipv4_prefix: int = ...,
        ipv6_prefix: int = ...,
        accept_draft_29: bool = ...,
        migration: bool = ...,
        qlog_dir: str | PathLike[str] | None = ...,
        qlog_file_limit: int = ...,
    ) -> Config: ...
    @staticmethod
    def defaults() -> dict[str, float | int | str | bool | None]:
        """The default of every field. The only place that defines them is the engine's config.rs."""

@final
class Endpoint:
    """One identity with its sockets. It listens, dials, and owns its connections."""

    def __new__(cls, identity: Identity, config: Config, ready_queue: ReadyQueue) -> Endpoint: ...
    def listen(self, host: str, port: int) -> Listener:
        """Bind a UDP socket. ``host`` is a literal IPv4 or IPv6 address. Raises OSError."""
    def connect(
        self,
        host: str,
        port: int,
        peer_id: bytes | None,
        fresh_port: bool = False,
        punched_rtt: float | None = None,
        certificate_hashes: list[bytes] | None = None,
    ) -> Connection:
        """Start a handshake and return at once; `Connection.connected_nowait` reports the outcome.

        ``host`` is a literal IPv4 or IPv6 address; a link-local one needs the index of its
        interface as zone, as in "fe80::1%2". ``peer_id`` (multihash bytes) is the peer that must
        answer; None accepts any. The dial leaves from the listening socket that the system's
        routing would use, if there is one. The connection ends as "unreachable" at once if no
        answer can come from the address, and otherwise after the system or the network has refused
        datagrams twice.

        With ``fresh_port`` the dial leaves from a socket of its own, closed with the connection.
        With ``punched_rtt``, an estimate in seconds, the peer punches a hole for the dial: its first
        packets are repeated from three times that on, and it does not end as "unreachable". With
        ``certificate_hashes`` (multihashes of SHA-256) it is a session of WebTransport: the certificate
        must have one of them, and the peer must confirm them all. Raises ValueError for two of these
        together, OSError if no socket can be opened, EndpointClosedError after `close`.
        """
    def certificate_hashes(self) -> tuple[bytes, bytes]:
        """The multihashes for an address of WebTransport: of the current certificate and of the next."""
    def next_inbound(self, peer_id: bytes) -> Inbound:
        """Wait for the next inbound connection of this peer (multihash bytes), until it is closed."""
    def deny(self, addresses: list[str]) -> None:
        """Replace the deny list: refuse inbound handshakes from these addresses or prefixes.

        A prefix is written "192.0.2.0/24". Existing connections stay open, and dials are not
        affected. Raises ValueError for an invalid address and then changes nothing.
        """
    def flush(self) -> None:
        """Give the engine everything queued since the last flush. Call it once per scheduler pass."""
    def statistics(self) -> dict[str, Any]:
        """Counters since the endpoint was made, and what it has in use now. Waits for nothing; also after
        `close`. Raises EndpointClosedError in the child of a fork.

        Numbers: endpoints (1, or 0 once it has ended), and the fields of
        `libp2p_quic.EndpointStatistics` that the engine counts, dialed, accepted and refused
        connections by IP version and limit. Budgets in bytes. handshake_times,
        webtransport_handshake_times and round_trip_times are pairs of a list, of how many times are in
        each bucket of `time_bounds`, and the sum in seconds. connections_closed has the number for each
        pair of who ended a connection and how.
        """
    def census(self) -> dict[str, int]:
        """What the endpoint holds, for tests of leaks: connections, handshakes (inbound), streams,
        promised (bytes that connections may hold for readers), unacked (bytes that they may hold
        for peers), and kept (bytes of buffers that the process keeps until there was no traffic
        for 0.1 s).

        Waits for the engine, at most some milliseconds.
        """
    def close(self, code: int, reason: bytes) -> None:
        """Close every listener and connection. Idempotent.

        Sends CONNECTION_CLOSE before it returns on connections with nothing left to deliver.
        """
    closed: int
    """Token for `closed_nowait`."""
    def closed_nowait(self) -> bool | None:
        """True when every connection has ended and every socket is closed. None: not yet."""

@final
class Listener:
    """One listening socket of an endpoint."""

    acceptable: int
    """Token for `accept_nowait`."""
    @property
    def local_address(self) -> tuple[str, int]: ...
    @property
    def limitation(self) -> str | None:
        """What does not work as the system refused options of this socket, and what to do."""
    def serve_webtransport(self, is_served: bool) -> None:
        """From now on accept WebTransport beside QUIC, or no longer."""
    def accept_nowait(self) -> Connection | None:
        """The next connection whose handshake is complete and whose peer is verified.

        Raises EndpointClosedError after the listener is closed.
        """
    def close(self) -> None:
        """Stop accepting. Accepted connections stay open. Idempotent."""
    def statistics(self) -> dict[str, int]:
        """Counters: handshakes_started, handshakes_failed (for any reason), handshakes_refused
        (failed ones that this side refused), connections_accepted, connections_refused (each
        connection once), retries_sent, resets_sent (stateless), resets_suppressed (beyond 1 000 in
        a second), datagrams_received, bytes_received, datagrams_unanswerable (dropped, as nothing
        can be sent to their source address), and backlog (accepted by the engine, not yet taken)."""

@final
class Inbound:
    """The wait for the next inbound connection of one peer, and the punches that let it in."""

    arrived: int
    """Token for `arrived_nowait`."""
    def arrived_nowait(self) -> tuple[str, int] | None:
        """The remote address of the peer's first connection whose handshake completed since
        `Endpoint.next_inbound`. The listener accepts the connection. Raises EndpointClosedError after the endpoint or this is closed.
        """
    def punch(self, host: str, port: int, seconds: float) -> None:
        """Send datagrams there from the socket that listens in the address's family, until the peer's
        connection arrived, `close`, or ``seconds`` (at most 5) are over.

        They have 64 bytes and are 10 to 200 ms apart at random, at most 200 a second for the whole
        endpoint. Raises ValueError for a port below 1024, an address that cannot answer or that no
        listening socket reaches, and a ninth address; EndpointClosedError.
        """
    def close(self) -> None:
        """End the wait and its punches. The connection is not affected. Idempotent."""

@final
class Connection:
    """One connection, dialed or accepted."""

    connected: int
    openable: int
    acceptable: int
    closed: int
    """Tokens for `connected_nowait`, `open_stream_nowait`, `accept_stream_nowait` and `closed_nowait`.
    `closed` also becomes ready when `remote_address` changes."""
    @property
    def peer_id(self) -> bytes | None:
        """Multihash bytes; known once connected."""
    @property
    def public_key(self) -> bytes | None:
        """PublicKey protobuf; known once connected."""
    @property
    def tls(self) -> tuple[str, str, str] | None:
        """The fields of `libp2p_quic.TLSParameters`; known once connected."""
    @property
    def certificate(self) -> tuple[int, int, bytes, str] | None:
        """The peer's certificate: the first and the last second in which it is valid (Unix time), its
        serial number without leading zeros (RFC 5280 section 4.1.2), and the type of its key: "Ed25519",
        "ECDSA on P-256", "RSA of 2048 bits". Known once connected; None of a browser, which shows none."""
    @property
    def is_webtransport(self) -> bool:
        """Whether it is a session of WebTransport; False until it is connected."""
    @property
    def is_initiator(self) -> bool: ...
    @property
    def is_port_unreachable(self) -> bool:
        """ICMP reported the port of an unanswered dial as unreachable: nothing listens there, or a
        firewall or router rejects UDP. The dial continues.
        The token `connected` becomes ready when this turns true."""
    @property
    def remote_address(self) -> tuple[str, int]:
        """The peer's IP literal and port. An IPv4-mapped address is given as IPv4."""
    @property
    def local_address(self) -> tuple[str, int]: ...
    def connected_nowait(self) -> bool | None:
        """True once the handshake is complete and the peer verified. Raises ConnectionLostError."""
    def unconnected(self) -> ConnectionLostError | None:
        """Why a dial is not connected: the error that ended it, else the one that a handshake timeout
        would give now, for a program that gives the dial up. It is *returned*, not raised. None once
        connected."""
    def open_stream_nowait(self) -> Stream | None:
        """None while the peer allows no further stream. Raises ConnectionLostError."""
    def want_streams(self, tasks: int) -> None:
        """Tell how many tasks wait for a stream, after `open_stream_nowait` returned None: the next flush
        opens that many together, as far as the peer allows."""
    def accept_stream_nowait(self) -> Stream | None:
        """The peer's next stream. Streams that arrived before the connection ended come first.
        Raises ConnectionLostError."""
    def closed_nowait(self) -> ConnectionLostError | None:
        """Why the connection ended. The error is *returned*, not raised. None while it is open."""
    def close(self, code: int, reason: bytes) -> None:
        """Close. Data of finished streams is delivered first, for at most ``linger`` seconds.
        Idempotent; raises nothing."""
    def statistics(self) -> dict[str, Any]:
        """The fields of `libp2p_quic.ConnectionStatistics`, as they were at most 10 ms ago while data
        moves, and after the end as they were last. Waits for nothing."""

@final
class Stream:
    """A bidirectional stream. A read returns bytes as soon as there is one; a write takes as many
    as the buffer has room for."""

    readable: int
    writable: int
    finished: int
    """Tokens for `read_nowait`, `write_nowait` and `finished_nowait`."""
    @property
    def id(self) -> int: ...
    def read_nowait(self, max_bytes: int, registers: bool = True) -> bytes | None:
        """1 to ``max_bytes`` bytes, ``b""`` at the end of the stream, None for not yet. Unless it
        ``registers``, the token does not become ready after None.

        Raises StreamResetError (the peer reset the stream), StreamClosedError (this program stopped
        reading), ConnectionLostError. Bytes that were taken from QUIC before come first; a reset
        may discard the others (RFC 9000 section 3.2).
        """
    def write_nowait(self, data: bytes, start: int = 0) -> int | None:
        """Take bytes from ``data[start:]`` and return how many; None if there is no room.

        Raises StreamStoppedError (the peer stopped reading), StreamClosedError (this program
        finished or reset the stream), ConnectionLostError.
        """
    def finish(self) -> None:
        """Finish our direction (FIN). Idempotent; no effect on a stream that is already over."""
    def reset(self, code: int) -> None:
        """Reset our direction (RESET_STREAM): unsent bytes are dropped, and the peer's read fails.
        Idempotent."""
    def stop(self, code: int) -> None:
        """Stop reading, and ask the peer to stop (STOP_SENDING). Idempotent.

        After `finish` the bytes that the peer still sends are dropped. STOP_SENDING is then sent
        only if the peer takes more than a second, and not before it acknowledged the finish.
        """
    def finished_nowait(self) -> bool | None:
        """True when the peer acknowledged everything up to the finish. Raises as `write_nowait`."""
