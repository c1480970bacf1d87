"""Words of Redis that a shell may complete: names, keys, ids. Quick or silent; never an error.

# A shell waits for this after each press of a key. So each step has a fraction of the 300 ms that it may take in all.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

import click
from click.shell_completion import CompletionItem

from shared.connect import connect
from shared.settings import Settings
from shared.transport import Transport
from shared.views.limits import limit_names
from shared.views.quarantine import entries as newest_entries
from shared.views.queues import queue_names
from shared.views.runs import Wanted, newest, tag_names
from shared.views.schedules import schedules as all_schedules
from shared.views.tasks import known_tasks
from shared.views.workers import workers

STEP_SECONDS: Final = 0.07
MOST: Final = 20
_PAGE: Final = 50
# What a shell takes as one word, and as nothing else.
_WORD: Final = re.compile(r"[\w.:@+/-]{1,255}")


def queues(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of queues."""
    return _asked(ctx, incomplete, lambda transport: [(name, "") for name in queue_names(transport)[1]])


def task_keys(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Keys of tasks that workers announce or that were submitted."""

    def ask(transport: Transport) -> Iterable[tuple[str, str]]:
        known = known_tasks(transport)
        return [(key, "") for key in sorted(known.submitted | known.announced)]

    return _asked(ctx, incomplete, ask)


def tags(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Tags of runs."""
    return _asked(ctx, incomplete, lambda transport: [(tag, "") for tag in tag_names(transport)])


def limits(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of limits."""
    return _asked(ctx, incomplete, lambda transport: [(name, "") for name in limit_names(transport)])


def schedules(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of schedules."""
    return _asked(
        ctx,
        incomplete,
        lambda transport: [(row.id, row.fields.get("task", "")) for row in all_schedules(transport).rows],
    )


def entries(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the newest entries of the quarantine."""
    return _asked(
        ctx, incomplete, lambda transport: [(row.id, row.reason) for row in newest_entries(transport, MOST)[1]]
    )


def run_ids(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the newest runs."""

    def ask(transport: Transport) -> Iterable[tuple[str, str]]:
        rows = newest(transport, Wanted(), MOST, _PAGE).rows
        return [(row.id, f"{row.state_type} {row.task}") for row in rows]

    return _asked(ctx, incomplete, ask)


def fleets_and_workers(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of live fleets and workers."""

    def ask(transport: Transport) -> Iterable[tuple[str, str]]:
        living = [row for row in workers(transport).rows if row.is_live]
        fleets = sorted({row.fleet for row in living if row.fleet})
        return [*((name, "fleet") for name in fleets), *((row.name, "") for row in living)]

    return _asked(ctx, incomplete, ask)


def _asked(
    ctx: click.Context, incomplete: str, ask: Callable[[Transport], Iterable[tuple[str, str]]]
) -> list[CompletionItem]:
    try:
        settings = Settings.load(redis_url=ctx.find_root().params.get("url"))
        quick = settings.model_copy(update={"socket_timeout": STEP_SECONDS, "connect_timeout": STEP_SECONDS})
        exchange = connect(quick, budget=0)
        try:
            words = list(ask(exchange))
        finally:
            exchange.close()
    except Exception:  # noqa: BLE001 - a shell that completes has no place for an error
        return []
    fitting = [(word, told) for word, told in words if word.startswith(incomplete) and _WORD.fullmatch(word)]
    return [CompletionItem(word, help=told if told.isprintable() else None) for word, told in fitting]
