"""`baton completion`: the script by which a shell completes commands, options, and words of Redis. Click writes it."""

import click
from click.shell_completion import get_completion_class

from orchestrator.cli import COMPLETION

SHELLS = ("bash", "zsh", "fish")
_HOW = {
    "bash": 'eval "$(baton completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(baton completion zsh)"   in ~/.zshrc',
    "fish": "baton completion fish | source   in ~/.config/fish/config.fish",
}


@click.command(name="completion", epilog="  ".join(f"{shell}: {how}." for shell, how in _HOW.items()))
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Then the shell completes commands and options, and from Redis queues, task keys and the newest runs.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click has no completion for {shell}.")
    click.echo(kind(ctx.find_root().command, {}, "baton", COMPLETION).source())
