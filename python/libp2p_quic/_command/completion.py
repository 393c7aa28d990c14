"""`libp2p-quic completion`: the script with which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from libp2p_quic._command.output import Output, json_option


@click.command(
    epilog="""
\b
Examples:
  eval "$(libp2p-quic completion bash)"
  libp2p-quic completion zsh > "${fpath[1]}/_libp2p-quic"
  libp2p-quic completion fish > ~/.config/fish/completions/libp2p-quic.fish
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
@click.pass_context
def completion(context: click.Context, shell: str, is_json: bool) -> None:
    """Print the script that completes commands and options in SHELL."""
    output = Output(is_json)
    made = get_completion_class(shell)
    assert made is not None
    script = made(context.find_root().command, {}, "libp2p-quic", "_LIBP2P_QUIC_COMPLETE").source()
    output.text(script)
    output.event("completion", shell=shell, script=script)
