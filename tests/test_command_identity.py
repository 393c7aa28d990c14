"""`libp2p-quic identity` and what all commands share: the command runs in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from libp2p_quic import Identity, PeerId
from testkit.command import COMMAND, ended, events, finished, terminal

SOMEBODY = Identity.generate().peer_id
FORMS = ["protobuf", "pem", "base64", "hex", "json", "ipfs"]


@pytest.mark.parametrize(
    ("form", "key_type"), list(zip(FORMS, ["ed25519", "secp256k1", "ecdsa"] * 2, strict=True))
)
def test_made_key_converts_to_every_form_and_back(form: str, key_type: str, tmp_path: Path) -> None:
    peer = finished("identity", "make", "a.key", "--type", key_type, cwd=tmp_path).strip()
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    finished("identity", "convert", "a.key", "--form", form, "-o", "b", cwd=tmp_path)
    assert finished("identity", "compare", "b", peer, cwd=tmp_path) == f"the same peer: {peer}\n"
    finished("identity", "convert", "b", "-o", "back", cwd=tmp_path)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "a.key").read_bytes()


@pytest.mark.parametrize("key_type", ["ed25519", "secp256k1"])
def test_bare_secret_needs_its_type(key_type: str, tmp_path: Path) -> None:
    made = events(finished("identity", "make", "a.key", "--type", key_type, "--json", cwd=tmp_path))[0]
    finished("identity", "convert", "a.key", "--form", "secret", "-o", "secret", cwd=tmp_path)
    secret = (tmp_path / "secret").read_bytes()
    assert len(secret) == 32
    done = ended("identity", "show", "secret", cwd=tmp_path)
    assert done.returncode == 2
    assert b"add --secret-type ed25519 or secp256k1" in done.stderr
    hexadecimal = secret.hex().encode()
    shown = finished("identity", "show", "-", "--secret-type", key_type, "--json", given=hexadecimal)
    assert events(shown)[0]["peer_id"] == made["peer_id"]


@pytest.mark.parametrize(
    ("key", "description"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "ECDSA on P-384"),
        (ec.generate_private_key(ec.SECP521R1()), "ECDSA on P-521"),
        (rsa.generate_private_key(65537, 2048), "RSA of 2048 bits"),
    ],
)
def test_keys_of_openssl_are_shown_from_private_and_public_key(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, description: str
) -> None:
    from cryptography.hazmat.primitives.serialization import NoEncryption

    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown = finished("identity", "show", "-", given=pem)
    identity = Identity.from_pem(pem)
    assert f"key type    {description}\n" in shown
    assert f"peer id     {identity.peer_id}\n" in shown
    assert b64encode(identity.to_protobuf()).decode() not in shown
    for public in (identity.public_key, b64encode(identity.public_key)):
        again = finished("identity", "show", "-", given=public)
        assert again.splitlines()[:4] == shown.splitlines()[:4]
    refused = ended("identity", "convert", "-", "--form", "secret", given=pem)
    assert refused.returncode == 2


def test_different_peers_have_the_exit_status_1(tmp_path: Path) -> None:
    for name in ("a", "b"):
        finished("identity", "make", name, cwd=tmp_path)
    told = finished("identity", "compare", "a", "b", status=1, cwd=tmp_path)
    assert told.startswith("different peers:\n  a: 12D3KooW")
    (event,) = events(finished("identity", "compare", "a", "b", "--json", status=1, cwd=tmp_path))
    assert event["same"] is False


def test_existing_key_is_kept_unless_forced(tmp_path: Path) -> None:
    first = finished("identity", "make", "a", cwd=tmp_path)
    refused = ended("identity", "make", "a", "--json", cwd=tmp_path)
    assert refused.returncode == 2
    assert b"a exists, and is kept" in refused.stderr
    assert events(refused.stdout.decode())[0]["cause"] == "file"
    assert finished("identity", "show", "a", cwd=tmp_path).split()[2] == first.strip()
    (tmp_path / "a").chmod(0o644)
    assert finished("identity", "make", "a", "--force", cwd=tmp_path) != first
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_key_that_cannot_be_written_leaves_what_is_there(force: tuple[str, ...], tmp_path: Path) -> None:
    name = "a" if force else "b"
    finished("identity", "make", "a", cwd=tmp_path)
    before = (tmp_path / "a").read_bytes()
    limited = ["bash", "-c", 'ulimit -f 0; exec "$@"', "-", *COMMAND, "identity", "make", name, *force]
    done = subprocess.run(limited, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot write {name}: File too large".encode())
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == before


def test_forced_key_replaces_the_target_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    before = finished("identity", "make", "folder/a", cwd=tmp_path)
    (tmp_path / "link").symlink_to("folder/a")
    made = finished("identity", "make", "link", "--force", cwd=tmp_path)
    assert made != before
    assert (tmp_path / "link").is_symlink()
    assert finished("identity", "show", "folder/a", cwd=tmp_path).split()[2] == made.strip()
    assert os.listdir(tmp_path / "folder") == ["a"]


def test_forced_key_for_a_pipe_goes_into_it(tmp_path: Path) -> None:
    peer = finished("identity", "make", "a", cwd=tmp_path).strip()
    refused = ended("identity", "convert", "a", "-o", "/dev/stdout", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, b"")
    done = ended("identity", "convert", "a", "-o", "/dev/stdout", "--force", cwd=tmp_path)
    assert Identity.from_protobuf(done.stdout).peer_id == PeerId.parse(peer)


def test_name_that_the_system_does_not_take_is_explained(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in (("x" * 300, "File name too long"), ("loop", "Too many levels of symbolic links")):
        for command in (("show", name), ("compare", SOMEBODY, name)):
            done = ended("identity", *command, "--json", cwd=tmp_path)
            (error,) = events(done.stdout.decode())
            assert (done.returncode, error["cause"]) == (2, "file")
            assert error["text"] == f"cannot read {name}: {reason}"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", b"cannot read"),
        (b"\xff" * 40, b"cannot read the host key"),
        (b"{}", b'no text under "PrivKey"'),
        (b"x" * 1_100_000, b"it is no key"),
        (
            rsa.generate_private_key(65537, 2048).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
            ),
            b"encrypted: decrypt it first",
        ),
    ],
)
def test_file_that_is_no_key_is_refused_with_the_reason(data: bytes, reason: bytes) -> None:
    done = ended("identity", "show", "-", given=data)
    assert (done.returncode, done.stdout) == (2, b"")
    assert reason in done.stderr
    assert b"Traceback" not in done.stderr


def test_binary_key_is_not_written_to_a_terminal(tmp_path: Path) -> None:
    finished("identity", "make", "a", cwd=tmp_path)
    with terminal("identity", "convert", "a", cwd=tmp_path) as shown:
        shown.until("name a file: -o node.key")
        assert shown.end() == 2
    with terminal("identity", "convert", "a", "--form", "pem", cwd=tmp_path) as shown:
        shown.until("END PRIVATE KEY")
        assert shown.end() == 0


@pytest.mark.parametrize("form", [*FORMS, "secret"])
def test_converted_key_is_in_the_json_object(form: str, tmp_path: Path) -> None:
    peer = finished("identity", "make", "a", cwd=tmp_path).strip()
    (event,) = events(finished("identity", "convert", "a", "--form", form, "--json", cwd=tmp_path))
    key = event["key"].encode()
    assert event["encoding"] == ("base64" if form in ("protobuf", "secret") else "text")
    finished("identity", "convert", "a", "--form", form, "-o", "b", cwd=tmp_path)
    assert (tmp_path / "b").read_bytes() == (b64decode(key) if event["encoding"] == "base64" else key)
    assert (event["peer_id"], event["form"]) == (peer, form)


def test_key_that_is_written_to_a_file_is_not_in_the_json_object(tmp_path: Path) -> None:
    finished("identity", "make", "a", cwd=tmp_path)
    (event,) = events(
        finished("identity", "convert", "a", "--form", "pem", "-o", "b", "--json", cwd=tmp_path)
    )
    assert (event["file"], "key" in event) == ("b", False)
    (made,) = events(finished("identity", "make", "-", "--json"))
    assert Identity.from_protobuf(b64decode(made["key"])).peer_id == PeerId.parse(made["peer_id"])


def test_help_documents_exit_statuses_and_examples() -> None:
    told = finished("--help")
    assert "Exit status:" in told
    assert "libp2p-quic ping /ip4/" in told
    assert "Example" in finished("identity", "make", "--help")
    assert finished("--version").startswith("libp2p-quic 0.")
    assert ended("identity", "frobnicate").returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_printed(shell: str) -> None:
    assert "_LIBP2P_QUIC_COMPLETE" in finished("completion", shell)


def test_bash_completes_commands_and_options() -> None:
    environment = {
        "_LIBP2P_QUIC_COMPLETE": "bash_complete",
        "COMP_WORDS": "libp2p-quic identity m",
        "COMP_CWORD": "2",
    }
    assert ended(env=environment).stdout == b"plain,make\n"


def test_files_are_completed() -> None:
    environment = {
        "_LIBP2P_QUIC_COMPLETE": "bash_complete",
        "COMP_WORDS": "libp2p-quic send some",
        "COMP_CWORD": "2",
    }
    assert ended(env=environment).stdout == b"file,some\n"


def test_tab_key_completes_in_bash() -> None:
    folder = Path(sys.executable).parent
    with terminal("--norc", "--noprofile", "-i", program=["bash"]) as shell:
        shell.press(f'PATH={folder}:$PATH; eval "$(libp2p-quic completion bash)"; echo rea""dy\n')
        shell.until("ready")
        shell.press("libp2p-quic identity mak\t")
        shell.until("libp2p-quic identity make ")
        shell.press("\x03exit\n")


@pytest.mark.parametrize("missing", ["click", "rich", "segno"])
def test_one_sentence_says_what_to_install(missing: str) -> None:
    program = f"import sys\nsys.modules[{missing!r}] = None\nfrom libp2p_quic._command import main\nmain()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    what_to_do = "install the extra libp2p-quic[cli]: pip install '.[cli]' in the checkout"
    assert done.stderr == f"libp2p-quic needs {missing}: {what_to_do}\n"


def test_output_to_a_closed_pipe_is_no_traceback() -> None:
    command = f"{sys.executable} -m libp2p_quic --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
