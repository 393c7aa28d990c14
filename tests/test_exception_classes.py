"""One handler serves both parts: py-libp2p's classes of this package are also the asyncio part's."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

import libp2p_quic.asyncio
from libp2p_quic import exceptions
from libp2p_quic._engine import __version__

SHARED = sorted(
    name
    for name in libp2p_quic.asyncio.__all__
    if name in libp2p_quic.__all__ and isinstance(getattr(libp2p_quic.asyncio, name), type)
    if issubclass(getattr(libp2p_quic.asyncio, name), Exception)
)


RAISED = sorted(
    {
        found
        for module in (libp2p_quic, libp2p_quic.asyncio, exceptions)
        for name in module.__all__
        if isinstance(found := getattr(module, name), type)
        and issubclass(found, Exception)
        and not issubclass(found, Warning)
        and found.__module__.startswith("libp2p_quic")
    },
    key=lambda each: (each.__module__, each.__qualname__),
)


@pytest.mark.parametrize("name", SHARED)
def test_class_of_py_libp2p_is_one_of_the_asyncio_part(name: str) -> None:
    theirs, ours = getattr(libp2p_quic, name), getattr(libp2p_quic.asyncio, name)
    assert issubclass(theirs, ours)
    assert theirs is getattr(exceptions, name)
    made = theirs("what happened")
    assert (str(made), made.error_code) == ("what happened", None)


def test_every_pair_is_found() -> None:
    assert len(SHARED) == 12
    assert libp2p_quic.__version__ == libp2p_quic.asyncio.__version__ == __version__


def test_attributes_of_both_families_are_set() -> None:
    failed = exceptions.StreamReset("reset", "7", 5, reset_by_peer=True)
    assert (failed.stream_id, failed.error_code, failed.reset_by_peer) == ("7", 5, True)
    assert exceptions.DialError("refused", 2).error_code == 2


@pytest.mark.parametrize("raised", RAISED)
def test_a_traceback_names_the_public_module(raised: type[Exception]) -> None:
    (line,) = traceback.format_exception_only(raised, raised("what happened"))
    assert line == f"{raised.__module__}.{raised.__qualname__}: what happened\n"
    assert raised.__module__ in ("libp2p_quic.asyncio", "libp2p_quic.exceptions")


@pytest.mark.parametrize("raised", RAISED)
def test_an_exception_can_be_pickled_and_copied(raised: type[Exception]) -> None:
    made = raised("what happened")
    vars(made)["error_code"] = 5
    for again in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert type(again) is raised
        assert (str(again), vars(again)) == (str(made), vars(made))


def test_classes_that_are_values_can_be_pickled() -> None:
    peer = libp2p_quic.asyncio.Identity.generate().peer_id
    assert pickle.loads(pickle.dumps(peer)) == copy.copy(peer) == peer
