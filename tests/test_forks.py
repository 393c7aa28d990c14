"""A fork with open connections: in the child every method raises at once that the connection belongs to the
parent, the child exits cleanly, and the parent continues undisturbed.

A fork copies the handles but not the I/O thread, and locks that this thread holds stay locked. So a child
that used the handles could hang, or take its parent's wakeups.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from multiaddr import Multiaddr

from libp2p_quic import process_statistics
from libp2p_quic._driver._epoll import watch
from libp2p_quic._engine import Config, Endpoint, ReadyQueue
from libp2p_quic._engine_errors import ConnectionLostError, EndpointClosedError
from testkit.census import collected
from testkit.engine import identity, pair
from testkit.fork import in_a_child
from testkit.linked import linked
from testkit.near import near_transport
from testkit.payload import payload

# Python 3.12 and later warn of forks where threads run, which these tests do on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

ROOT = Path(__file__).parent.parent
LIMIT = 20.0
CLOSED = "closed, it belongs to the process that this one was forked from"


def outcome(method: Callable[[], object]) -> str:
    """The outcome of a method, as text."""
    try:
        result = method()
    except ConnectionLostError as error:
        return f"lost {error.by} {error.kind}"
    except EndpointClosedError as error:
        return f"closed, {error}"
    return "None" if result is None else type(result).__name__


def test_every_method_in_the_child_fails_at_once_and_the_parent_continues() -> None:
    with pair() as two:
        near, far = two.connected()
        ours, theirs = two.streams(near, far)
        methods: dict[str, Callable[[], object]] = {
            "listen": lambda: two.near.listen("127.0.0.1", 0),
            "connect": lambda: two.near.connect("127.0.0.1", 9, None),
            "accept": two.listener.accept_nowait,
            "statistics of a listener": two.listener.statistics,
            "connected": near.connected_nowait,
            "open": near.open_stream_nowait,
            "accept a stream": far.accept_stream_nowait,
            "statistics": near.statistics,
            "remote address": lambda: near.remote_address,
            "local address": lambda: near.local_address,
            "peer id": lambda: near.peer_id,
            "read": lambda: ours.read_nowait(1),
            "write": lambda: ours.write_nowait(b"x"),
            "finished": ours.finished_nowait,
            "ended": near.closed_nowait,
            "ready_queue": two.ready_queue.fileno,
            "another endpoint at this ready_queue": lambda: Endpoint(identity(), Config(), two.ready_queue),
        }
        silent: dict[str, Callable[[], object]] = {
            "finish": ours.finish,
            "reset": lambda: theirs.reset(7),
            "stop": lambda: theirs.stop(7),
            "close": lambda: near.close(7, b""),
            "close a listener": two.listener.close,
            "flush": two.near.flush,
            "close an endpoint": lambda: two.near.close(7, b""),
        }

        def all_of_them() -> dict[str, str]:
            answer = {name: outcome(method) for name, method in (methods | silent).items()}
            assert two.ready_queue.drain() == []
            # Waiting for a close of the parent's endpoint returns at once.
            assert two.near.closed_nowait() is True
            return answer

        answer = in_a_child(all_of_them)
        assert isinstance(answer, dict)
        lost = "lost local forked"
        for name in ("connected", "open", "accept a stream", "statistics", "read", "write", "finished"):
            assert answer[name] == lost, (name, answer[name])
        for name in ("remote address", "local address", "peer id"):
            assert answer[name] == lost, (name, answer[name])
        for name in ("listen", "connect", "accept", "statistics of a listener", "ready_queue"):
            assert answer[name] == CLOSED, (name, answer[name])
        assert answer["another endpoint at this ready_queue"] == CLOSED
        # Returned, not raised.
        assert answer["ended"] == "ConnectionLostError"
        assert {answer[name] for name in silent} == {"None"}
        # The parent has lost no connection and no wakeup.
        assert near.closed_nowait() is None
        two.write(ours, b"after")
        assert two.read(theirs, 10) == b"after"
        two.connected()


def test_a_child_can_use_the_engine_anew() -> None:
    with pair() as two:
        ours, theirs = two.streams(*two.connected())

        def talk() -> str:
            with pair() as again:
                mine, yours = again.streams(*again.connected())
                again.write(mine, b"in the child")
                return again.read(yours, 100).decode()

        assert in_a_child(talk) == "in the child"
        two.write(ours, b"in the parent")
        assert two.read(theirs, 100) == b"in the parent"


def test_a_childs_child_gets_the_error_too() -> None:
    with pair() as two:
        near, _ = two.connected()
        assert in_a_child(lambda: in_a_child(lambda: outcome(near.statistics))) == "lost local forked"


@pytest.mark.slow
def test_forks_at_any_moment_of_a_transfer() -> None:
    """The I/O thread holds locks at times; no child may wait for one that was locked at the fork."""
    with pair() as two:
        ours, theirs = two.streams(*two.connected())
        data = payload(1, 1 << 20)
        for number in range(40):
            sent = got = 0
            children = 0
            while got < len(data):
                two.flush()
                sent += ours.write_nowait(data, sent) or 0 if sent < len(data) else 0
                got += len(theirs.read_nowait(1 << 20) or b"")
                if children == 0 and got > number * 20_000:
                    children += 1

                    def outcomes() -> list[str]:
                        ours.stop(1)
                        del two.near, two.far
                        return [outcome(lambda: ours.write_nowait(b"x")), outcome(ReadyQueue)]

                    assert in_a_child(outcomes) == ["lost local forked", "ReadyQueue"]


async def test_multiprocessing_in_the_middle_of_a_run() -> None:
    async with linked() as link:
        ours, theirs = await link.stream()
        context = multiprocessing.get_context("fork")
        pipe, far_end = context.Pipe()
        engine = link.dialed._engine

        def child() -> None:
            far_end.send(outcome(engine.open_stream_nowait))

        process = context.Process(target=child)
        process.start()
        assert await trio.to_thread.run_sync(pipe.poll, LIMIT), "the child hangs"
        assert pipe.recv() == "lost local forked"
        await trio.to_thread.run_sync(process.join, LIMIT)
        assert process.exitcode == 0
        process.close()
        pipe.close()
        far_end.close()
        await ours.write(b"after")
        assert await theirs.read(10) == b"after"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no epoll")
async def test_a_child_does_not_end_the_watch_of_its_parents_run() -> None:
    queue = ReadyQueue()
    end = watch(queue.fileno())
    assert end is not None
    in_a_child(end)
    # A second watch fails while the descriptor is in trio's epoll set, which a fork shares.
    assert watch(queue.fileno()) is None
    end()
    again = watch(queue.fileno())
    assert again is not None
    again()


def test_a_transport_from_before_the_fork_dials_in_the_child() -> None:
    """Connections stay with the parent; a run of the child's own has an endpoint of its own."""
    with pair() as outside:
        host, port = outside.listener.local_address
        address = Multiaddr(f"/ip4/{host}/udp/{port}/quic-v1")
        transport = near_transport()

        async def dial() -> str:
            connection = await transport.dial(address)
            await connection.close()
            return str(connection.peer_id)

        before = trio.run(dial)
        assert in_a_child(lambda: trio.run(dial)) == before
        assert trio.run(dial) == before


@pytest.mark.slow
def test_the_interpreter_of_a_child_ends_cleanly() -> None:
    """A normal exit, which drops handles, ready queues and endpoints."""
    program = """
        import os, sys
        from testkit.engine import pair

        with pair() as two:
            near, far = two.connected()
            ours, theirs = two.streams(near, far)
            for _ in range(3):
                child = os.fork()
                if child == 0:
                    sys.exit(0)
                _, status = os.waitpid(child, 0)
                assert status == 0, status
                two.write(ours, b"after")
                assert two.read(theirs, 10) == b"after"
        print("whole")
    """
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("whole\n", "", 0)


def test_the_counters_of_a_child_are_its_own() -> None:
    """Also when a transport of the parent is asked in the child."""
    # Endpoints of earlier tests may be ending.
    assert collected(lambda: not process_statistics().endpoints)
    with pair() as two:
        ends = two.connected()
        assert process_statistics().connections_open == len(ends)
        transport = near_transport()

        def counted() -> list[int]:
            process = process_statistics()
            return [
                process.endpoints,
                process.connections_open,
                process.bytes_sent,
                transport.statistics().bytes_sent,
            ]

        assert in_a_child(counted) == [0, 0, 0, 0]

        async def dial() -> list[int]:
            async with linked() as link:
                return [link.dialer.statistics().dialed_ip4, process_statistics().endpoints]

        assert in_a_child(lambda: trio.run(dial)) == [1, 2]
        assert process_statistics().connections_open == len(ends)


def test_a_transport_with_connections_counts_nothing_of_them_in_a_child() -> None:
    async def ask() -> object:
        async with linked() as link:
            assert link.dialer.statistics().connections_open == 1
            return in_a_child(lambda: list(link.dialer.statistics()[:4]))

    assert trio.run(ask) == [0, 0, 0, 0]
