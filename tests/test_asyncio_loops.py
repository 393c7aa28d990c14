"""What a program does to its event loop: eager tasks, computing for seconds, cancellation everywhere."""

from __future__ import annotations

import asyncio
import inspect
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest

import libp2p_quic.asyncio
from libp2p_quic._driver._asyncio import current
from libp2p_quic.asyncio import Connection, Endpoint, EndpointConfig, Identity, Stream
from testkit.asyncio_ends import LOOPBACK, ends
from testkit.loops import LOOPS, run, soon

# Longer than other work on this machine keeps a whole process from running. Seconds.
IDLE_TIMEOUT = 4.0
SECONDS = 1.5 * IDLE_TIMEOUT
IMPATIENT = EndpointConfig(idle_timeout=IDLE_TIMEOUT, keep_alive_interval=0.3)

COMPUTING = f"""
import asyncio, sys, time
from libp2p_quic.asyncio import Endpoint, EndpointConfig, Identity

async def compute(stream):
    await stream.read_exactly(1)
    end = time.monotonic() + {SECONDS}
    while time.monotonic() < end:
        sum(range(1000))
    await stream.write(b"done")

async def main():
    config = EndpointConfig(idle_timeout={IDLE_TIMEOUT}, keep_alive_interval=0.3)
    async with Endpoint(Identity.generate(), config) as endpoint:
        if sys.argv[1:]:
            await (await endpoint.connect(sys.argv[1])).serve({{"/compute": compute}})
        else:
            listener = await endpoint.listen("{LOOPBACK}")
            print(f"{{listener.address}}/p2p/{{endpoint.peer_id}}", flush=True)
            await listener.serve({{"/compute": compute}})

asyncio.run(main())
"""
"""A program whose handler computes without a pause, for longer than the idle timeout. It dials its argument,
or listens."""


async def computed(connection: Connection) -> None:
    """The other program computes, and answers on the same connection afterwards."""
    began = asyncio.get_running_loop().time()
    async with await connection.open_stream("/compute") as stream:
        await stream.write(b"x")
        assert await soon(stream.read_to_end()) == b"done"
    assert asyncio.get_running_loop().time() - began >= SECONDS
    assert not connection.is_closed


@pytest.mark.slow
@pytest.mark.parametrize("role", ["listener", "dialer"])
def test_a_program_that_computes_for_seconds_loses_no_connection(role: str) -> None:
    async def main() -> None:
        async with Endpoint(Identity.generate(), IMPATIENT) as endpoint:
            listener = await endpoint.listen(LOOPBACK)
            address = [] if role == "listener" else [f"{listener.address}/p2p/{endpoint.peer_id}"]
            program = await asyncio.create_subprocess_exec(
                sys.executable, "-c", COMPUTING, *address, stdout=PIPE
            )
            try:
                if role == "listener":
                    assert program.stdout is not None
                    said = await soon(program.stdout.readline())
                    connection = await soon(endpoint.connect(said.decode().strip()))
                else:
                    connection = await soon(listener.accept())
                await computed(connection)
            finally:
                program.kill()
                await program.wait()

    asyncio.run(main())


async def echo(stream: Stream) -> None:
    while data := await stream.read():
        await stream.write(data)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
@pytest.mark.parametrize("loop", LOOPS)
def test_eager_tasks_exchange_and_are_canceled(loop: str) -> None:
    if loop == "uvloop" and (3, 13) <= sys.version_info < (3, 13, 3):
        pytest.skip("uvloop 0.23 gives the factory an argument that it takes from Python 3.13.3 on")

    async def main() -> None:
        factory: Any = asyncio.eager_task_factory  # type: ignore[attr-defined,unused-ignore]
        asyncio.get_running_loop().set_task_factory(factory)
        async with ends() as both:
            serving = asyncio.create_task(both.listener.serve({"/echo": echo}))
            near = await soon(both.near.connect(both.address))

            async def request(number: int) -> int:
                async with await near.open_stream("/echo") as stream:
                    await stream.write(bytes(number))
                    stream.finish()
                    return len(await stream.read_to_end())

            assert await asyncio.gather(*map(request, range(100))) == [*range(100)]
            tasks = [asyncio.create_task(request(number)) for number in range(100)]
            for task in tasks[::2]:
                task.cancel()
            await asyncio.wait(tasks)
            assert [task.result() for task in tasks[1::2]] == [*range(1, 100, 2)]
            near.close()
            both.listener.close()
            await asyncio.wait_for(serving, 20)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert current()._waiting == {}

    run(loop, main(), debug=True)


def coroutines() -> list[tuple[str, Any]]:
    """The public coroutine methods of the public classes."""
    return [
        (f"{name}.{method}", function)
        for name in libp2p_quic.asyncio.__all__
        if inspect.isclass(each := getattr(libp2p_quic.asyncio, name))
        for method, function in vars(each).items()
        if inspect.iscoroutinefunction(function) and not method.startswith("_")
    ]


def test_every_coroutine_says_what_canceling_does() -> None:
    found = coroutines()
    assert {"Endpoint.connect", "Stream.read", "Listener.accept"} <= {name for name, _ in found}
    assert [name for name, function in found if "cancel" not in (function.__doc__ or "").lower()] == []
