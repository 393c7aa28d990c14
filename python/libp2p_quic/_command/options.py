"""Options and arguments that several commands have."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from libp2p_quic._command import key_form
from libp2p_quic._command.explanation import Explanation, of_address
from libp2p_quic._command.output import Output, UnusableArgumentError
from libp2p_quic._exception_types import HostKeyError, InvalidAddressError
from libp2p_quic._identity import Identity
from libp2p_quic.asyncio.address import Address

F = TypeVar("F", bound=Callable[..., Any])

# No form of a key is longer: an RSA key of 8192 bits has 6 KiB in PEM. A config file of IPFS has 10 KiB.
_LONGEST_KEY_FILE = 1024 * 1024

secret_type_option = click.option(
    "--secret-type",
    type=click.Choice(key_form.SECRET_TYPES),
    help="The type of a bare secret of 32 bytes, which does not tell it.",
)
key_option = click.option(
    "--key",
    "key_file",
    type=click.Path(),
    metavar="FILE",
    help="The host key, in any form that `identity` reads. Default: a new one for each run.",
)


class Seconds(click.FloatRange):
    """A time. click's range has "nan", which no comparison finds outside of it, and "inf"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


def is_there(name: str) -> bool:
    """Whether a file has this name. True also if the system does not tell: `file_data` says why."""
    try:
        os.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def file_data(name: str, output: Output) -> bytes:
    """The contents of a file; "-" is standard input. Ends the command if it cannot be read."""
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            data = file.read(_LONGEST_KEY_FILE + 1)
    except OSError as error:
        text = f"cannot read {name}: {error.strerror or error}"
        raise UnusableArgumentError(
            Explanation("file", text, "check the path and its permissions"), output.is_json
        ) from error
    if len(data) > _LONGEST_KEY_FILE:
        text = f"{name} has more than {_LONGEST_KEY_FILE} bytes: it is no key"
        raise UnusableArgumentError(Explanation("file", text, "name the file with the key"), output.is_json)
    return data


def bad_key(name: str, error: Exception, output: Output) -> click.ClickException:
    """The error that ends the command as ``name`` is no key."""
    forms = "protobuf, PEM without a password, base64, hex, the JSON of js-libp2p, the config of IPFS"
    text = f"{name}: {error}"
    return UnusableArgumentError(
        Explanation("key", text, f"give a key in one of these forms: {forms}"), output.is_json
    )


def identity_of(key_file: str | None, output: Output, secret_type: str | None = None) -> Identity:
    """The host key of ``--key``; a new one without it. Ends the command if it cannot be read."""
    if key_file is None:
        return Identity.generate()
    try:
        return key_form.private_key(file_data(key_file, output), secret_type)[0]
    except HostKeyError as error:
        raise bad_key(key_file, error, output) from None


def address_of(text: str, is_json: bool) -> Address:
    """The address to dial. Ends the command if it is none."""
    try:
        return Address.parse(text)
    except InvalidAddressError as error:
        raise UnusableArgumentError(of_address(text, error), is_json) from None


def _parsed(context: click.Context, _: click.Parameter, value: str) -> Address:
    return address_of(value, bool(context.params.get("is_json")))


address_argument = click.argument("address", metavar="ADDR", callback=_parsed)
timeout_option = click.option(
    "--timeout",
    type=Seconds(0.1, 300),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="The time limit of the handshake.",
)
