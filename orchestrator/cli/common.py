"""What several commands need: settings and a ledger from the global options, and how runs are printed."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from shared.connect import connect
from shared.ledger import RunLedger
from shared.settings import Settings
from shared.texts import CUT
from shared.transport import Exchange

SHOWN_IDS = 20
"""Ids that a text names of many; JSON names all."""


def settings_from(ctx: click.Context) -> Settings:
    """The settings, with the global options over the environment."""
    url = ctx.obj["url"]
    return Settings.load(**({"redis_url": url} if url else {}))


@contextmanager
def exchange_from(ctx: click.Context) -> Iterator[tuple[Exchange, Settings]]:
    """Connections for the length of a command, and the settings they were made of."""
    settings = settings_from(ctx)
    exchange = connect(settings, settings.socket_timeout)
    try:
        yield exchange, settings
    finally:
        exchange.close()


@contextmanager
def ledger_from(ctx: click.Context) -> Iterator[RunLedger]:
    """A ledger for the length of a command."""
    with exchange_from(ctx) as (exchange, settings):
        yield RunLedger(exchange, settings)


def line(text: str, most: int = 4096) -> str:
    """Text from elsewhere, as part of one line: what is not plainly visible is escaped, what is too long is cut.

    No control character and no mark that turns the direction of writing reaches the terminal, and no newline that would
    make of one line two.
    """
    head = text[: most + 1]
    if not head.isprintable():
        head = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in head)
    return head if len(head) <= most else head[:most] + CUT


def block(text: str, most: int = 32_768) -> str:
    """Text of many lines from elsewhere, each indented, so that none passes for one of ours; see `line`."""
    head = text if len(text) <= most else text[:most] + CUT
    return "\n".join(f"    {line(part)}" for part in head.expandtabs(4).splitlines())
