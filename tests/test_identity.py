"""Host keys and peer ids without py-libp2p, compared with py-libp2p's and with cryptography's."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.rsa import create_new_key_pair as create_rsa_pair
from libp2p.crypto.secp256k1 import create_new_key_pair as create_secp256k1_pair
from libp2p.peer.id import ID

from libp2p_quic._host_key import identity_of
from libp2p_quic._pem import key_of_protobuf, pem_of_private_key
from libp2p_quic._protobuf import field, fields
from libp2p_quic.asyncio import HostKeyError, Identity, InvalidPeerIdError, PeerId

FORMATS = [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL]
# No example has a time limit, and none is kept for the next run.
EXAMPLES = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("key_type", ["ed25519", "secp256k1", "ecdsa"])
def test_generated_key_can_be_stored_and_read(key_type: str) -> None:
    made = Identity.generate(key_type)
    assert made.peer_id != Identity.generate(key_type).peer_id
    stored = made.to_protobuf()
    assert Identity.from_protobuf(stored).peer_id == made.peer_id
    assert Identity.from_base64(b64encode(stored)).peer_id == made.peer_id
    assert repr(made) == f"<Identity {made.peer_id}>"


def test_key_types_that_cannot_be_made_are_named() -> None:
    with pytest.raises(HostKeyError, match='"ed25519", "secp256k1" or "ecdsa", got "rsa"'):
        Identity.generate("rsa")
    with pytest.raises(HostKeyError, match="'x25519'"):
        Identity.from_secret("x25519", bytes(32))


def test_secrets_are_read_as_py_libp2p_reads_them() -> None:
    pair = create_new_key_pair()
    assert str(Identity.from_secret("ed25519", pair.private_key.to_bytes()).peer_id) == str(
        ID.from_pubkey(pair.public_key)
    )
    pair = create_secp256k1_pair()
    made = Identity.from_secret("secp256k1", pair.private_key.to_bytes())
    assert bytes(made.peer_id) == ID.from_pubkey(pair.public_key).to_bytes()
    assert made.public_key == pair.public_key.serialize()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1, ec.SECP256K1])
def test_pem_of_a_curve(curve: type[ec.EllipticCurve], form: PrivateFormat) -> None:
    key = ec.generate_private_key(curve())
    made = Identity.from_pem(key.private_bytes(Encoding.PEM, form, NoEncryption()))
    if curve is ec.SECP256K1:
        secret = key.private_numbers().private_value.to_bytes(32, "big")
        assert made.peer_id == Identity.from_secret("secp256k1", secret).peer_id
    assert str(made.peer_id).startswith("16Uiu2" if curve is ec.SECP256K1 else "Qm")


@pytest.mark.parametrize("form", FORMATS)
def test_pem_of_rsa(form: PrivateFormat) -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert str(Identity.from_pem(key.private_bytes(Encoding.PEM, form, NoEncryption())).peer_id)[:2] == "Qm"


def test_pem_of_ed25519() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    expected = Identity.from_secret("ed25519", key.private_bytes_raw()).peer_id
    assert Identity.from_pem(f"text before it\n{pem}").peer_id == expected


def test_encrypted_and_broken_pem_are_refused_without_the_key() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    with pytest.raises(HostKeyError, match="encrypted"):
        Identity.from_pem(encrypted)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    body = "".join(plain.splitlines()[1:-1])
    for broken in (
        "",
        plain.replace(body, body[:-8]),
        plain.replace(body, "AAAA"),
        plain.replace("M", "?", 1),
    ):
        with pytest.raises(HostKeyError) as failed:
            Identity.from_pem(broken)
        assert body[20:40] not in str(failed.value)


def test_json_of_js_and_of_ipfs() -> None:
    made = Identity.generate()
    text = b64encode(made.to_protobuf()).decode()
    js = json.dumps({"id": str(made.peer_id), "privKey": text, "pubKey": "ignored"})
    ipfs = json.dumps({"Identity": {"PeerID": str(made.peer_id), "PrivKey": text}})
    assert Identity.from_json(js).peer_id == Identity.from_json(ipfs).peer_id == made.peer_id
    for broken in ("", "[]", "{}", '{"privKey": 5}', '{"Identity": []}'):
        with pytest.raises(HostKeyError):
            Identity.from_json(broken)


def test_keys_that_the_transport_refuses_are_refused() -> None:
    seed = create_new_key_pair().private_key.serialize()
    with pytest.raises(HostKeyError, match="seed"):
        Identity.from_protobuf(seed)
    with pytest.raises(HostKeyError):
        Identity.from_protobuf(b"\x08\x09")


def test_identity_equals_that_of_the_transport(tmp_path: Path) -> None:
    pair = create_rsa_pair()
    file = tmp_path / "key"
    file.write_bytes(pair.private_key.serialize())
    assert bytes(Identity.from_protobuf(file.read_bytes()).peer_id) == identity_of(pair.private_key).peer_id


# Peer ids

# The peer-ids specification's examples of one id in two forms.
QM = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
SPEC = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe"


def test_the_specifications_examples() -> None:
    assert PeerId.parse(SPEC).cid() == SPEC
    assert str(PeerId.parse(QM)) == QM
    assert str(PeerId.parse(PeerId.parse(QM).cid())) == QM


@EXAMPLES
@given(st.binary(min_size=1, max_size=42), st.booleans())
def test_every_form_is_read(digest: bytes, is_hash: bool) -> None:
    multihash = b"\x12\x20" + (digest * 32)[:32] if is_hash else bytes([0, len(digest)]) + digest
    peer = PeerId(multihash)
    assert str(peer) == ID(multihash).to_base58()
    assert bytes(peer) == multihash
    cid = b"\x01\x72" + multihash
    number = int.from_bytes(cid, "big")
    base36 = ""
    while number:
        number, digit = divmod(number, 36)
        base36 = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + base36
    for text in (
        str(peer),
        peer.cid(),
        peer.cid().upper(),
        f"f{cid.hex()}",
        f"k{base36}",
        f"K{base36.upper()}",
    ):
        assert PeerId.parse(text) == peer, text
    assert hash(PeerId.parse(peer.cid())) == hash(peer)


@pytest.mark.parametrize(
    "text",
    ["", "Q", "0", "Qm0", QM[:-1], "z" + QM, "b" + QM, "k5", "f01", "fzz", "bafkqaaa", "1" * 500, "ø" * 9],
)
def test_what_is_no_peer_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidPeerIdError, match="peer id"):
        PeerId.parse(text)


@pytest.mark.parametrize(
    "multihash", [b"", b"\x12", b"\x12\x20", b"\x13\x20" + bytes(32), b"\0\0", b"\0\x2b" + bytes(43)]
)
def test_bytes_that_are_no_peer_id_are_refused(multihash: bytes) -> None:
    with pytest.raises(InvalidPeerIdError):
        PeerId(multihash)


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1, ec.SECP256K1])
def test_written_pem_of_a_curve_is_what_openssl_reads(curve: type[ec.EllipticCurve]) -> None:
    key = ec.generate_private_key(curve())
    made = Identity.from_pem(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    written = pem_of_private_key(made.to_protobuf())
    assert load_pem_private_key(written.encode(), None).private_numbers() == key.private_numbers()  # type: ignore[union-attr]
    assert Identity.from_pem(written).peer_id == made.peer_id


def test_written_pem_of_rsa_and_ed25519_is_what_openssl_writes() -> None:
    for key in (rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        assert pem_of_private_key(Identity.from_pem(pem).to_protobuf()) == pem


def test_message_that_is_no_key_is_refused() -> None:
    for message in (b"", b"\x08", b"\x08\x01", b"\x12\x05a", b"\x0b\x00", b"\x08" + b"\xff" * 11):
        with pytest.raises(ValueError, match=r"message|protobuf|number|wire type"):
            key_of_protobuf(message)


@EXAMPLES
@given(st.lists(st.tuples(st.integers(1, 1000), st.binary(max_size=300))))
def test_fields_are_read_as_they_were_written(written: list[tuple[int, bytes]]) -> None:
    assert list(fields(b"".join(field(*each) for each in written))) == written
