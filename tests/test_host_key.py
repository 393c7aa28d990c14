"""The host key: a transport accepts only a private key, and only its host's.

Real hosts. Verification by peers is in test_identity_and_peer_id_validation.
"""

from __future__ import annotations

from typing import Any

import pytest
from libp2p import new_host
from libp2p.crypto import ed25519, rsa, secp256k1
from libp2p.crypto.keys import KeyPair
from libp2p.peer.id import ID
from libp2p.transport.quic.exceptions import QUICInvalidConfigError, QUICSecurityError
from multiaddr import Multiaddr

from libp2p_quic import QUICTransport
from testkit.near import IP4, leaves

KINDS = [ed25519, secp256k1, rsa]
KEYS = ed25519.create_new_key_pair()


@pytest.mark.parametrize("kind", KINDS)
def test_a_public_key_is_refused(kind: Any) -> None:
    keys = kind.create_new_key_pair()
    with pytest.raises(QUICSecurityError, match=r"the public key.*key_pair\.private_key") as refused:
        QUICTransport(keys.public_key)
    assert isinstance(refused.value, TypeError)
    assert QUICTransport(keys.private_key)._peer_id == ID.from_pubkey(keys.public_key)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (KEYS, "got the KeyPair"),
        (KEYS.private_key.to_bytes(), "got a bytes"),
        (KEYS.private_key.serialize(), "got a bytes"),
        (str(ID.from_pubkey(KEYS.public_key)), "got a str"),
        (ID.from_pubkey(KEYS.public_key), "got a ID"),
        ({"private_key": KEYS.private_key}, "got a dict"),
        (type(KEYS.private_key), "got a "),
        (None, "got a NoneType"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_object_that_is_no_private_key_is_refused(key: Any, says: str) -> None:
    with pytest.raises(QUICSecurityError, match=says) as refused:
        QUICTransport(key)
    assert isinstance(refused.value, TypeError)
    assert "QUICTransport(key_pair.private_key)" in str(refused.value)
    assert KEYS.private_key.to_bytes().hex() not in str(refused.value)


@pytest.mark.parametrize("config", [{"idle_timeout": 60}, "cubic", 60, KEYS, object()])
def test_an_object_that_is_no_configuration_is_refused(config: Any) -> None:
    with pytest.raises(
        QUICInvalidConfigError, match=f"got a {type(config).__name__}.*QUICTransportConfig\\("
    ):
        QUICTransport(KEYS.private_key, config)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_transport_with_another_key_does_not_run(kind: Any) -> None:
    keys: KeyPair = kind.create_new_key_pair()
    host = new_host(key_pair=KEYS, transports=[QUICTransport(keys.private_key)])
    with pytest.raises(BaseException) as refused:  # noqa: PT011 - trio wraps it in groups
        async with host.run(listen_addrs=[Multiaddr(IP4)]):
            pytest.fail("it runs")
    (error,) = leaves(refused.value)
    assert isinstance(error, QUICSecurityError)
    assert str(ID.from_pubkey(keys.public_key)) in str(error)
    assert str(ID.from_pubkey(KEYS.public_key)) in str(error)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_transport_with_the_hosts_key_runs(kind: Any) -> None:
    keys: KeyPair = kind.create_new_key_pair()
    host = new_host(key_pair=keys, transports=[QUICTransport(keys.private_key)])
    async with host.run(listen_addrs=[Multiaddr(IP4)]):
        assert host.get_addrs()
