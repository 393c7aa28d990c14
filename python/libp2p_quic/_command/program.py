"""The group of all commands, with what they share: the help, the version, and how a command ends."""

from __future__ import annotations

import errno
import shutil
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from libp2p_quic import __version__
from libp2p_quic._command.output import (
    FAILED,
    INTERRUPTED,
    USAGE,
    CommandFailedError,
    Output,
    cannot_write,
)
from libp2p_quic._command.standard_streams import unwritten

EPILOG = """
\b
Exit status:
  0  done
  1  connected, but the operation failed: rounds lost, protocol not served,
     peers or checksums differ, a transfer refused or broken off; or nobody
     reads standard output any more
  2  wrong arguments, a file or key that cannot be used, or results that
     cannot be written
  3  no connection: the dial failed, or the peer refused it; or the address
     cannot be listened on
  130  interrupted with Ctrl-C or SIGTERM before there was a result, or before
     a transfer was complete

\b
Examples:
  libp2p-quic identity make node.key
  libp2p-quic listen --key node.key
  libp2p-quic ping /ip4/192.0.2.1/udp/4001/quic-v1
  libp2p-quic receive
  libp2p-quic send backup.tar ADDR
  eval "$(libp2p-quic completion bash)"

Results are on standard output, errors and progress on standard error.
Progress appears in a terminal only. With --json every line of standard
output is one JSON object.
"""


# The columns that the help has at most, as many as the lines of examples need.
_WIDEST = 100
# What the system says of a standard stream that takes nothing.
_UNWRITABLE = {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC}
# Each is the command in the module of its name.
_COMMANDS = ("cat", "completion", "dial", "identity", "listen", "perf", "ping", "receive", "send", "trace")


class CommandGroup(click.Group):
    """Imports a command when it is used: rich and asyncio take longer than a small command."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and exit. Output that cannot be written is an error, also the help, which click
        writes."""
        # click replaces them if a pipe has no reader.
        streams = sys.stdout, sys.stderr
        try:
            return super().main(*args, **extra)
        except SystemExit as end:
            failed, status = unwritten(streams), end.code
            if failed is None:
                raise
        except OSError as error:
            # A text that is longer than the buffer is not kept there, so that nothing is left to write.
            failed, status = unwritten(streams) or (error if error.errno in _UNWRITABLE else None), 0
            if failed is None:
                raise
        if isinstance(failed, BrokenPipeError):
            sys.exit(status or FAILED)
        cannot_write(failed).show()
        sys.exit(status or USAGE)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        # click takes 50 columns for granted.
        extra.setdefault("terminal_width", min(shutil.get_terminal_size().columns, _WIDEST) - 2)
        try:
            return super().make_context(info_name, args, parent, **extra)
        except KeyboardInterrupt:
            # While it imported the commands, for the help.
            sys.exit(INTERRUPTED)
        except click.UsageError as error:
            _tell(error)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # While it read standard input; `interruption` has the other commands.
            sys.exit(INTERRUPTED)
        except click.UsageError as error:
            # Standard output of `cat` has a peer's bytes.
            _tell(error, is_beside_data=ctx.invoked_subcommand == "cat")
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        found = getattr(import_module(f"libp2p_quic._command.{cmd_name}"), cmd_name)
        assert isinstance(found, click.Command)
        return found


def _tell(error: click.UsageError, is_beside_data: bool = False) -> None:
    """Wrong arguments in JSON, beside click's text. A command whose options are wrong does not know whether
    --json is among them."""
    if "--json" in sys.argv:
        output = Output(is_json=True, is_beside_data=is_beside_data)
        with suppress(CommandFailedError):
            output.event("error", cause="usage", text=error.format_message(), next_step="see --help")


@click.group(
    cls=CommandGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="libp2p-quic %(version)s")
def program() -> None:
    """Try, measure and debug libp2p's QUIC, with any libp2p as the peer."""
