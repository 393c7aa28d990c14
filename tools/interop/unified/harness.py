"""The interface of libp2p's unified-testing to a program: its variables, and what the programs of a test
tell each other in Redis.

Environment variables configure a program, the listener's address goes through Redis, logs go to standard
error; standard output is for the results only. Does not use libp2p.
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
# Seconds, the same as unified-testing's limit of a transport test.
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
  DEBUG              true: everything py-libp2p logs, on standard error
for hole-punch also:
  IS_RELAY           true: the relay. So is a program that has RELAY_IP and no IS_DIALER
  RELAY_IP           the IP address the relay binds
  DIALER_IP          the IP address the dialer binds
  WAN_SUBNET         the network of the relay and the routers' outer addresses
  WAN_ROUTER_IP      the router through which a home reaches it"""


class HarnessError(Exception):
    """A variable is invalid, or the other program did not connect in time. The message says which."""


@dataclass(frozen=True)
class Harness:
    """The variables of one run, and its own key in Redis."""

    is_dialer: bool
    is_relay: bool
    client: redis.Redis
    """Blocks, which is acceptable because these commands are answered at once."""
    test_key: str
    listener_ip: str
    patience: int
    """How long the dialer waits for the listener's address. Seconds."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Harness:
        """Raises HarnessError, which names the variable."""
        if environment.get("TRANSPORT") != _TRANSPORT:
            raise HarnessError(f"TRANSPORT must be {_TRANSPORT}: this program supports no other")
        # The harness does not set IS_RELAY for each relay: what tells it apart is the address.
        is_relay = environment.get("IS_RELAY") == "true" or (
            "RELAY_IP" in environment and "IS_DIALER" not in environment
        )
        if not is_relay and environment.get("IS_DIALER") not in ("true", "false"):
            raise HarnessError("IS_DIALER must be true or false")
        host, _, port = environment.get("REDIS_ADDR", "").rpartition(":")
        if not host or not port.isdecimal():
            raise HarnessError("REDIS_ADDR must be host:port")
        if not environment.get("TEST_KEY"):
            raise HarnessError("TEST_KEY must be set")
        return cls(
            is_dialer=environment.get("IS_DIALER") == "true",
            is_relay=is_relay,
            client=redis.Redis(host, int(port), decode_responses=True),
            test_key=environment["TEST_KEY"],
            listener_ip=environment.get("LISTENER_IP") or "0.0.0.0",
            patience=positive(environment, "TEST_TIMEOUT_SECS", _PATIENCE),
        )

    # The harness's documents tell the programs of both suites to set a value and to poll for it.
    # The programs of the perf suite do; those of the transport suite still use a list, as in test-plans.
    # Redis refuses one operation on a key of the other type.

    @property
    def _address_key(self) -> str:
        return f"{self.test_key}_listener_multiaddr"

    def push_address(self, address: str) -> None:
        """Publish the listener's address as the transport suite does."""
        self.client.rpush(self._address_key, address)

    async def pop_address(self) -> str:
        """The address that a listener pushed. Raises HarnessError if none comes."""
        return await self._awaited(lambda: self.client.lpop(self._address_key), self._address_key)

    def set_address(self, address: str) -> None:
        """Publish the listener's address as the perf suite does."""
        self.client.set(self._address_key, address)

    async def get_address(self) -> str:
        """The address that a listener set. Raises HarnessError if none comes."""
        return await self.get_fact("listener_multiaddr")

    def set_fact(self, name: str, value: str) -> None:
        """Publish what the others of this test wait for, as the hole-punch suite does."""
        self.client.set(f"{self.test_key}_{name}", value)

    async def get_fact(self, name: str) -> str:
        """What another program set under ``name``. Raises HarnessError if none does."""
        key = f"{self.test_key}_{name}"
        return await self._awaited(lambda: self.client.get(key), key)

    async def _awaited(self, look: Callable[[], object], key: str) -> str:
        whose = "relay" if key.endswith("_relay_multiaddr") else "listener"
        with trio.move_on_after(self.patience):
            while True:
                address = look()
                if address:
                    return str(address)
                await trio.sleep(_POLL_EVERY)
        raise HarnessError(f"no {whose} wrote {key} into Redis within {self.patience} s")


def positive(environment: Mapping[str, str], name: str, default: int) -> int:
    """The variable as a number above 0. Raises HarnessError."""
    text = environment.get(name, "")
    # The harness writes "null" for settings that it does not have.
    if text in ("", "null"):
        return default
    if not text.isdecimal() or int(text) == 0:
        raise HarnessError(f"{name} must be a number above 0, not {text!r}")
    return int(text)


def run(
    about: str,
    listen: Callable[[Harness], Awaitable[None]],
    dial: Callable[[Harness], Awaitable[None]],
    relay: Callable[[Harness], Awaitable[None]] | None = None,
) -> int:
    """Run the listener, the dialer or the relay, as the environment says; returns the exit status. A
    listener and a relay run until they are killed."""
    parser = argparse.ArgumentParser(
        description=about, epilog=_VARIABLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    logging.basicConfig(level=logging.DEBUG if os.environ.get("DEBUG") == "true" else logging.WARNING)
    try:
        harness = Harness.from_environment(os.environ)
        if harness.is_relay and relay is None:
            raise HarnessError("IS_DIALER must be true or false")
        role = relay if harness.is_relay else dial if harness.is_dialer else listen
        assert role is not None
        trio.run(role, harness)
    except (HarnessError, redis.RedisError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0
