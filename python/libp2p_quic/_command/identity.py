"""`libp2p-quic identity`: makes, shows, converts and compares host keys and peer ids."""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from contextlib import suppress
from tempfile import mkstemp

import click

from libp2p_quic._command import key_form
from libp2p_quic._command.explanation import Explanation
from libp2p_quic._command.options import bad_key, file_data, is_there, secret_type_option
from libp2p_quic._command.output import FAILED, Output, UnusableArgumentError, json_option
from libp2p_quic._command.system import keep_owner, open_new
from libp2p_quic._exception_types import HostKeyError, InvalidPeerIdError
from libp2p_quic._identity import Identity
from libp2p_quic._peer_id import PeerId

form_option = click.option(
    "--form",
    type=click.Choice(key_form.FORMS),
    default="protobuf",
    show_default=True,
    help="protobuf: go-libp2p's and rust-libp2p's files. json: js-libp2p's peer id. ipfs: Kubo's config.",
)
force_option = click.option("--force", is_flag=True, help="Replace an existing file.")


@click.group()
def identity() -> None:
    """Make, show, convert and compare host keys and peer ids.

    Keys are read in every form: libp2p's protobuf, PEM (PKCS#8, PKCS#1, SEC 1; without a password),
    base64, hex, JSON of js-libp2p and IPFS, a bare secret of 32 bytes. FILE may be - for standard input.
    """


@identity.command(epilog="\b\nExample:\n  libp2p-quic identity make node.key --type secp256k1 --form pem")
@click.argument("file", type=click.Path())
@click.option(
    "--type",
    "key_type",
    type=click.Choice(["ed25519", "secp256k1", "ecdsa"]),
    default="ed25519",
    show_default=True,
    help="Every libp2p accepts ed25519. ecdsa is on P-256.",
)
@form_option
@force_option
@json_option
def make(file: str, key_type: str, form: str, force: bool, is_json: bool) -> None:
    """Make a new key in FILE, which only its owner may read, and print its peer id."""
    output = Output(is_json)
    made = Identity.generate(key_type)
    where = _write(made, form, file, force, output)
    if file != "-":
        output.text(str(made.peer_id))
    output.event("identity", **_facts(made.public_key), form=form, **where)


@identity.command(
    epilog="""
\b
Examples:
  libp2p-quic identity show node.key
  libp2p-quic identity show --json < public.key -
"""
)
@click.argument("key", type=click.Path())
@secret_type_option
@json_option
def show(key: str, secret_type: str | None, is_json: bool) -> None:
    """Print peer id, type and public key of KEY: a file with a private or public key, or a peer id.

    The private key is never printed; `convert` does that.
    """
    output = Output(is_json)
    peer, public, form = _read(key, secret_type, output)
    facts = {"peer_id": str(peer), "cid": peer.cid()} if public is None else _facts(public)
    names = {"peer_id": "peer id", "cid": "as a CID", "key_type": "key type", "public_key": "public key"}
    output.rows([(names[name], value) for name, value in facts.items()] + [("read from", form)])
    output.event("identity", **facts, form=form)


@identity.command(
    epilog="""
\b
Examples:
  libp2p-quic identity convert node.key --form pem
  libp2p-quic identity convert peer-id.json --form protobuf -o node.key
  libp2p-quic identity convert node.key --form hex --json | jq -r .key
"""
)
@click.argument("file", type=click.Path())
@form_option
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(),
    default="-",
    metavar="FILE",
    help="Where to write. Default: standard output.",
)
@force_option
@secret_type_option
@json_option
def convert(file: str, form: str, target: str, force: bool, secret_type: str | None, is_json: bool) -> None:
    """Write the private key of FILE in another form. Its reader can act as this peer.

    With --json, a key for standard output is in the object: `key`, in base64 if `encoding` says so.
    """
    output = Output(is_json)
    try:
        read, _ = key_form.private_key(file_data(file, output), secret_type)
    except HostKeyError as error:
        raise bad_key(file, error, output) from None
    where = _write(read, form, target, force, output)
    output.event("identity", **_facts(read.public_key), form=form, **where)


@identity.command(
    epilog="""
\b
Examples:
  libp2p-quic identity compare node.key node.pem
  libp2p-quic identity compare node.key 12D3KooW...
"""
)
@click.argument("first", type=click.Path())
@click.argument("second", type=click.Path())
@secret_type_option
@json_option
def compare(first: str, second: str, secret_type: str | None, is_json: bool) -> None:
    """Check whether FIRST and SECOND are of the same peer. Each is a file with a key, or a peer id.

    Exit status 1 if they are not.
    """
    output = Output(is_json)
    ours, theirs = (_read(each, secret_type, output)[0] for each in (first, second))
    output.event("comparison", same=ours == theirs, first=str(ours), second=str(theirs))
    if ours == theirs:
        output.text(f"the same peer: {ours}")
        return
    output.text(f"different peers:\n  {first}: {ours}\n  {second}: {theirs}")
    sys.exit(FAILED)


def _facts(public: bytes) -> dict[str, str]:
    peer = PeerId.of_public_key(public)
    return {
        "peer_id": str(peer),
        "cid": peer.cid(),
        "key_type": key_form.description(public),
        "public_key": b64encode(public).decode(),
    }


def _read(key: str, secret_type: str | None, output: Output) -> tuple[PeerId, bytes | None, str]:
    """The peer id of a file or a text, the public key if it is known, and what was read."""
    if key != "-" and not is_there(key):
        try:
            return PeerId.parse(key.rpartition("/p2p/")[2]), None, "a peer id"
        except InvalidPeerIdError as error:
            text = f"{key!r} is neither a file nor a peer id ({error})"
            raise UnusableArgumentError(Explanation("key", text, "check the path"), output.is_json) from None
    data = file_data(key, output)
    try:
        public = key_form.public_key(data)
        return PeerId.of_public_key(public), public, f"a public key ({key_form.description(public)})"
    except ValueError:
        # A private key, or nothing that is known: the next reader tells what is wrong.
        pass
    try:
        private, form = key_form.private_key(data, secret_type)
    except HostKeyError as error:
        raise bad_key(key, error, output) from None
    return private.peer_id, private.public_key, f"a private key ({form})"


def _write(key: Identity, form: str, target: str, force: bool, output: Output) -> dict[str, str]:
    """Write a private key. Returns where it is: with --json, one for standard output is in the object."""
    try:
        data = key_form.written(key, form)
    except HostKeyError as error:
        raise UnusableArgumentError(Explanation("form", str(error), ""), output.is_json) from None
    if not output.is_json or target != "-":
        _store(data, target, force, output)
        return {"file": target}
    if form in key_form.BINARY_FORMS:
        return {"key": b64encode(data).decode(), "encoding": "base64"}
    return {"key": data.decode(), "encoding": "text"}


def _store(data: bytes, target: str, force: bool, output: Output) -> None:
    """Write a key to a file that only its owner may read."""
    if target == "-":
        if sys.stdout.isatty() and not data.isascii():
            text = "this form is binary, and standard output is a terminal"
            raise UnusableArgumentError(
                Explanation("terminal", text, "name a file: -o node.key"), output.is_json
            )
        output.data(data)
        return
    try:
        if not force:
            _write_new(open_new(target), target, data)
        elif os.path.exists(target) and not os.path.isfile(target):
            # A pipe or a device, which has no key to lose.
            with open(target, "wb") as file:
                file.write(data)
        else:
            _replace(os.path.realpath(target), data)
    except FileExistsError:
        why = Explanation("file", f"{target} exists, and is kept", "name another file, or add --force")
        raise UnusableArgumentError(why, output.is_json) from None
    except OSError as error:
        why = Explanation("file", f"cannot write {target}: {error.strerror or error}", "check the folder")
        raise UnusableArgumentError(why, output.is_json) from error


def _write_new(descriptor: int, path: str, data: bytes) -> None:
    """Write the file ``path``, which was just made. It is removed if that fails."""
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        os.unlink(path)
        raise


def _replace(path: str, data: bytes) -> None:
    """Give ``path`` a new file when that is complete: the old one may be the only copy of a key."""
    descriptor, beside = mkstemp(prefix=".libp2p-quic-", dir=os.path.dirname(path))
    # As root, the owner of a file stays the one that can read it.
    with suppress(OSError):
        keep_owner(descriptor, path)
    _write_new(descriptor, beside, data)
    try:
        os.replace(beside, path)
    except OSError:
        os.unlink(beside)
        raise
