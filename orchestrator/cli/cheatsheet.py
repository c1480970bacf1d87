"""`baton cheatsheet`: the questions that redis-cli answers, with one's own address. Asks none of them."""

import click

from orchestrator.cheatsheet import EXAMPLE, LEGEND, QUESTIONS, redis_cli
from orchestrator.cli import output
from orchestrator.cli.common import HIDDEN, hidden, json_option, line, say, settings_from


@click.command(name="cheatsheet")
@click.option("--reveal", is_flag=True, help="Show the password.")
@json_option()
@click.pass_context
def cheatsheet(ctx: click.Context, *, reveal: bool, as_json: bool) -> None:
    """Print the questions that redis-cli answers.

    Each command can be copied into a shell; a password is hidden unless --reveal is given.
    """
    url = settings_from(ctx).redis_url
    place, mark, options = url.partition("?")
    client = redis_cli(url if reveal else hidden(place) + mark + options)
    rows = [one.about(EXAMPLE) for one in QUESTIONS]
    if as_json:
        output.document(
            {
                "questions": [
                    {
                        "number": one.number,
                        "question": one.question,
                        "command": f"{client} {one.command}",
                        "answer": one.answer,
                    }
                    for one in rows
                ]
            }
        )
        return
    click.echo(LEGEND)
    for one in rows:
        click.echo(f"\n{one.number:>2}  {one.question}")
        click.echo(f"    {line(client)} {one.command}")
        click.echo(f"    -> {one.answer}")
    if HIDDEN in client:
        say(ctx, f"\n{HIDDEN} stands for the password: --reveal shows it.")
