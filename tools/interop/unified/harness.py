"""What libp2p's unified-testing tells a program, and where its two programs find each other.

The orders come in environment variables, the listener's address goes through Redis, logs go to
standard error; standard output is for the results alone. Nothing of libp2p is done here.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import redis
import trio

_TRANSPORT = "quic-v1"
# Seconds. Unified-testing gives a whole transport test as long.
_PATIENCE = 180
_POLL_EVERY = 0.1

_VARIABLES = """\
environment, set by unified-testing:
  IS_DIALER          true or false
  TRANSPORT          quic-v1. It brings its own security and muxer: SECURE_CHANNEL
                     and MUXER are not looked at
  REDIS_ADDR         host:port of the Redis that both programs use
  TEST_KEY           what this test's key in Redis begins with
  LISTENER_IP        the IP address the listener binds (default: 0.0.0.0)
  TEST_TIMEOUT_SECS  how long the dialer waits for the listener (default: 180)
  DEBUG              true: everything py-libp2p logs, on standard error"""


class HarnessError(Exception):
    """The orders make no sense, or the other side did not come. The message says which."""


@dataclass(frozen=True)
class Harness:
    """The orders of one run, and the key in Redis that it has to itself."""

    is_dialer: bool
    client: redis.Redis
    """Knows no trio. Its commands here are answered at once, and so hold nothing up."""
    key: str
    listener_ip: str
    patience: int
    """How long the dialer waits for the listener's address. Seconds."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Harness:
        """Raises HarnessError, which names the variable."""
        if environment.get("TRANSPORT") != _TRANSPORT:
            raise HarnessError(f"TRANSPORT must be {_TRANSPORT}: this program speaks nothing else")
        if environment.get("IS_DIALER") not in ("true", "false"):
            raise HarnessError("IS_DIALER must be true or false")
        host, _, port = environment.get("REDIS_ADDR", "").rpartition(":")
        if not host or not port.isdecimal():
            raise HarnessError("REDIS_ADDR must be host:port")
        if not environment.get("TEST_KEY"):
            raise HarnessError("TEST_KEY must be set")
        return cls(
            is_dialer=environment["IS_DIALER"] == "true",
            client=redis.Redis(host, int(port), decode_responses=True),
            key=f"{environment['TEST_KEY']}_listener_multiaddr",
            listener_ip=environment.get("LISTENER_IP") or "0.0.0.0",
            patience=positive(environment, "TEST_TIMEOUT_SECS", _PATIENCE),
        )

    # The harness's documents tell the programs of both suites to set a value and to poll for it.
    # Those of the perf suite do; those of the transport suite have stayed with a list, as it was
    # in test-plans. Redis refuses the one where it holds the other.

    def push_address(self, address: str) -> None:
        """Publish the listener's address as the transport suite does."""
        self.client.rpush(self.key, address)

    async def pop_address(self) -> str:
        """The address that a listener pushed. Raises HarnessError if none comes."""
        return await self._awaited(lambda: self.client.lpop(self.key))

    def set_address(self, address: str) -> None:
        """Publish the listener's address as the perf suite does."""
        self.client.set(self.key, address)

    async def get_address(self) -> str:
        """The address that a listener set. Raises HarnessError if none comes."""
        return await self._awaited(lambda: self.client.get(self.key))

    async def _awaited(self, look: Callable[[], object]) -> str:
        with trio.move_on_after(self.patience):
            while True:
                address = look()
                if address:
                    return str(address)
                await trio.sleep(_POLL_EVERY)
        raise HarnessError(f"no listener wrote {self.key} into Redis within {self.patience} s")


def positive(environment: Mapping[str, str], name: str, default: int) -> int:
    """The variable as a number above 0. Raises HarnessError."""
    text = environment.get(name, "")
    # The harness writes "null" for what its own settings leave out.
    if text in ("", "null"):
        return default
    if not text.isdecimal() or int(text) == 0:
        raise HarnessError(f"{name} must be a number above 0, not {text!r}")
    return int(text)


def run(
    about: str,
    listen: Callable[[Harness], Awaitable[None]],
    dial: Callable[[Harness], Awaitable[None]],
) -> int:
    """Do what the environment orders; the exit status. A listener runs until it is killed."""
    parser = argparse.ArgumentParser(
        description=about, epilog=_VARIABLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    logging.basicConfig(level=logging.DEBUG if os.environ.get("DEBUG") == "true" else logging.WARNING)
    try:
        harness = Harness.from_environment(os.environ)
        trio.run(dial if harness.is_dialer else listen, harness)
    except (HarnessError, redis.RedisError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0
