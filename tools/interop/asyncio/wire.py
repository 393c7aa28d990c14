"""What both ends of the asyncio peer share: protocols, lines for the runner, and the pattern."""

from __future__ import annotations

import hashlib
import json

from libp2p_quic.asyncio import Stream

PING = "/ipfs/ping/1.0.0"
ECHO, SINK, SOURCE, RESET, CLOSE, WATCH, NOTE, STOP = (
    f"/libp2p-quic/{name}/1.0.0"
    for name in ("echo", "sink", "source", "reset", "close", "watch", "note", "stop")
)
BLOCK = 65_536
LISTENER_CODE, DIALER_CODE = 42, 43
_PATTERN = bytes(range(251)) * 256


def tell(**facts: object) -> None:
    """One line for the runner."""
    print(json.dumps(facts), flush=True)


async def pump(stream: Stream, size: int) -> bytes:
    """Write that much of the pattern; the SHA-256 of it."""
    digest = hashlib.sha256()
    while size:
        data = _PATTERN[:size]
        digest.update(data)
        await stream.write(data)
        size -= len(data)
    return digest.digest()
