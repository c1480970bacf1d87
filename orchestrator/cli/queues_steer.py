"""`baton queues pause`, `resume`, `cap`, `purge` and `move`: steer queues. The last two show that first, and ask."""

from typing import Any

import click

from orchestrator.cli import complete, output
from orchestrator.cli.common import checked_exchange_from, json_option, say
from orchestrator.cli.consent import agreed, yes_option
from orchestrator.operations import Operations
from shared.errors import InvalidValue
from shared.specs import queue_name
from shared.transport import Transport
from shared.views.queues import Queue, queues

NO_CAP = "none"
MOST_DIGITS = 12
queue_argument = click.argument("name", metavar="QUEUE", shell_complete=complete.queues)


class Cap(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """How many runs may wait: a whole number, or none."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number that a text means, -1 for none."""
        text = str(value)
        if text.lower() == NO_CAP:
            return -1
        if not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
            self.fail(f"{text!r} is no cap: write a whole number, or {NO_CAP}.", param, ctx)
        return int(text)


@click.command(name="pause")
@queue_argument
@json_option()
@click.pass_context
def pause(ctx: click.Context, name: str, *, as_json: bool) -> None:
    """Begin nothing of a queue any more.

    What runs goes on, and submits are accepted. Exit code 0 also if it was paused already.
    """
    _set(ctx, name, Operations.pause_queue, "paused", as_json=as_json)


@click.command(name="resume")
@queue_argument
@json_option()
@click.pass_context
def resume(ctx: click.Context, name: str, *, as_json: bool) -> None:
    """Begin the runs of a queue again.

    Exit code 0 also if it was not paused.
    """
    _set(ctx, name, Operations.resume_queue, "not paused", as_json=as_json)


@click.command(name="cap")
@queue_argument
@click.argument("number", type=Cap(), metavar="NUMBER|none")
@json_option()
@click.pass_context
def cap(ctx: click.Context, name: str, number: int, *, as_json: bool) -> None:
    """Let a queue hold so many waiting runs, or any number.

    A submit to a full queue is refused with QueueFull. What waits already stays, also above the cap.
    """
    most = None if number < 0 else number

    def change(operations: Operations, queue: str) -> bool:
        return operations.set_queue_cap(queue, most)

    _set(ctx, name, change, "without a cap" if most is None else f"capped at {most}", as_json=as_json)


def _set(ctx: click.Context, name: str, change: Any, told: str, *, as_json: bool) -> None:
    queue_name("QUEUE", name)
    with checked_exchange_from(ctx, steers=True) as (exchange, settings):
        is_new = not queues(exchange, [name]).rows
        changed = change(Operations(exchange, settings), name)
        (queue,) = queues(exchange, [name]).rows
    if is_new:
        say(ctx, f"Nothing was ever submitted to a queue called {name}: it is there from now on.")
    if as_json:
        settings_now = {"paused": queue.paused is not None, "cap": queue.cap, "waiting": queue.waiting}
        output.document({"name": name, "changed": changed, **settings_now})
        return
    click.echo(f"{name} is {told}{'' if changed else ', as it was'}; {_many(queue.waiting)} waiting")


@click.command(name="purge")
@queue_argument
@click.option("--message", default="", help="A text for the runs' histories.")
@yes_option()
@json_option()
@click.pass_context
def purge(ctx: click.Context, name: str, message: str, *, yes: bool, as_json: bool) -> int:
    """Cancel what waits in a queue for a worker.

    Each run is CANCELLED, with history; nothing is deleted. Also what was passed on since nobody knew its task; what
    runs, is due later, or waits for other runs or for a slot is left alone. Exit code 1: nothing waits there, or the
    answer was no.
    """
    queue_name("QUEUE", name)
    with checked_exchange_from(ctx, steers=True) as (exchange, settings):
        queue = _known(ctx, exchange, name)
        if queue is None:
            return 1
        stays = f"what is due later ({_many(queue.scheduled)}) or waits for others ({_many(queue.deferred)}) stays"
        if not yes:
            told = f"would cancel what waits in {name}: {_many(queue.waiting)} in its list; {stays}"
            _show({"name": name, "waiting": queue.waiting}, told, as_json)
        if not agreed(ctx, f"Purge {name}?", yes=yes, as_json=as_json):
            return 1
        number = Operations(exchange, settings).purge_queue(name, message)
    return _tell(name, "cancelled", number, as_json=as_json)


@click.command(name="move")
@queue_argument
@click.argument("target", metavar="TO", shell_complete=complete.queues)
@yes_option()
@json_option()
@click.pass_context
def move(ctx: click.Context, name: str, target: str, *, yes: bool, as_json: bool) -> int:
    """Put what waits in a queue into another one.

    It comes behind what waits there. Also what is due later or waits for other runs is moved; what runs, is paused or
    waits for a slot stays, and comes back to its own queue. A cap refuses nothing here. Exit code 1: nothing waits
    there, or the answer was no.
    """
    queue_name("QUEUE", name)
    queue_name("TO", target)
    if name == target:
        raise InvalidValue(f"queue {name} cannot be moved to itself")
    with checked_exchange_from(ctx, steers=True) as (exchange, settings):
        queue = _known(ctx, exchange, name)
        if queue is None:
            return 1
        there = {"waiting": queue.waiting, "scheduled": queue.scheduled, "deferred": queue.deferred}
        if not yes:
            parts = ", ".join(f"{_many(number)} {word}" for word, number in there.items())
            _show(
                {"name": name, "to": target, **there}, f"would move what lies in {name} to {target}: {parts}", as_json
            )
        if not agreed(ctx, f"Move {name} to {target}?", yes=yes, as_json=as_json):
            return 1
        number = Operations(exchange, settings).move_queue(name, target)
    return _tell(name, "moved", number, as_json=as_json)


def _known(ctx: click.Context, exchange: Transport, name: str) -> Queue | None:
    look = queues(exchange, [name])
    if not look.rows:
        say(ctx, f"No queue is called {name}: nothing was ever submitted to it.")
        return None
    return look.rows[0]


def _show(plan: dict[str, Any], told: str, as_json: bool) -> None:
    if as_json:
        output.document({"done": False, **plan})
    else:
        click.echo(told)


def _tell(name: str, word: str, number: int, *, as_json: bool) -> int:
    if as_json:
        output.document({"done": True, "name": name, word: number})
    else:
        click.echo(f"{word} {_runs(number)}")
    return 0 if number else 1


def _many(number: int | None) -> str:
    return "?" if number is None else str(number)


def _runs(number: int | None) -> str:
    return f"{_many(number)} run{'' if number == 1 else 's'}"
