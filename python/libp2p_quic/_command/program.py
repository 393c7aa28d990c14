"""The group of all commands, with what they share: the help, the version and the shell completion."""

from __future__ import annotations

import shutil
import sys
from importlib import import_module
from typing import Any

import click
from click.shell_completion import get_completion_class

from libp2p_quic import __version__
from libp2p_quic._command.output import INTERRUPTED, Output

EPILOG = """
\b
Exit status:
  0  done
  1  connected, but the operation failed: rounds lost, protocol not served,
     peers or checksums differ, a transfer refused or broken off
  2  wrong arguments, or a file or key that cannot be used
  3  no connection: the dial failed, or the peer refused it; or the address
     cannot be listened on
  130  interrupted with Ctrl-C before there was a result, or before a transfer
     was complete

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
# Each is the command in the module of its name.
_COMMANDS = ("cat", "dial", "identity", "listen", "perf", "ping", "receive", "send", "trace")


class CommandGroup(click.Group):
    """Imports a command when it is used: rich and asyncio take longer than a small command."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        # click takes 50 columns for granted.
        extra.setdefault("terminal_width", min(shutil.get_terminal_size().columns, _WIDEST) - 2)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # While it read standard input; `interruption` has the other commands.
            sys.exit(INTERRUPTED)
        except click.UsageError as error:
            # A command whose options are wrong does not know whether --json is among them.
            if "--json" in sys.argv:
                # Standard output of `cat` has a peer's bytes.
                output = Output(is_json=True, is_beside_data=ctx.invoked_subcommand == "cat")
                output.event("error", cause="usage", text=error.format_message(), next_step="see --help")
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_COMMANDS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        found = getattr(import_module(f"libp2p_quic._command.{cmd_name}"), cmd_name)
        assert isinstance(found, click.Command)
        return found


@click.group(
    cls=CommandGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="libp2p-quic %(version)s")
def program() -> None:
    """Try, measure and debug libp2p's QUIC, with any libp2p as the peer."""


@program.command(
    epilog="""
\b
Examples:
  eval "$(libp2p-quic completion bash)"
  libp2p-quic completion zsh > "${fpath[1]}/_libp2p-quic"
  libp2p-quic completion fish > ~/.config/fish/completions/libp2p-quic.fish
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands and options in SHELL."""
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(program, {}, "libp2p-quic", "_LIBP2P_QUIC_COMPLETE").source())
