"""What several commands need: settings and a ledger from the global options, and how texts from elsewhere are shown."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypedDict, TypeVar
from urllib.parse import urlsplit

import click

from shared.connect import connect
from shared.errors import ConfigError
from shared.ledger import RunLedger
from shared.roles import OPERATOR
from shared.settings import Settings
from shared.texts import CUT
from shared.transport import Exchange

EXIT_NO: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 69
EXIT_INTERNAL: Final = 70
EXIT_CONFIG: Final = 78
EXIT_INTERRUPTED: Final = 130
SHOWN_IDS: Final = 20
"""Ids that a text names of many; JSON names all."""
MOST_CHARACTERS: Final = 32_768
WHOLE: Final = 1 << 30
HIDDEN: Final = "***"

F = TypeVar("F", bound=Callable[..., Any])


class Options(TypedDict):
    """The global options, in the context of every command."""

    url: str | None
    timeout: float | None
    quiet: bool
    verbose: bool
    debug: bool


def json_option(told: str = "One JSON document; nothing in it is cut.") -> Callable[[F], F]:
    """The option `--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=told)


# --- Redis ------------------------------------------------------------------------------------------------------------


def settings_from(ctx: click.Context) -> Settings:
    """The settings, with `--url` over the environment.

    Raises:
        ConfigError: one is wrong, or the URL names no place.
    """
    settings = Settings.load(redis_url=ctx.obj["url"])
    _check_place(settings.redis_url)
    return settings


def client_settings_from(ctx: click.Context) -> Settings:
    """The settings of a command that asks Redis and ends: with `--timeout` it does not try longer than that.

    Raises:
        ConfigError: as `settings_from`.
    """
    settings, seconds = settings_from(ctx), ctx.obj["timeout"]
    if seconds is None:
        return settings
    changes = {
        "socket_timeout": min(settings.socket_timeout, seconds),
        "connect_timeout": min(settings.connect_timeout, seconds),
        "producer_budget": seconds,
    }
    return settings.model_copy(update=changes)


@contextmanager
def exchange_from(ctx: click.Context) -> Iterator[tuple[Exchange, Settings]]:
    """Connections for the length of a command, and the settings they were made of."""
    settings = client_settings_from(ctx)
    exchange = connect(settings, ctx.obj["timeout"] or settings.socket_timeout)
    detail(ctx, f"Redis at {exchange.address}")
    try:
        yield exchange, settings
    finally:
        exchange.close()


@contextmanager
def checked_exchange_from(ctx: click.Context, *, steers: bool = False) -> Iterator[tuple[Exchange, Settings]]:
    """As `exchange_from`, to a Redis whose data this Baton understands; `steers`: where this user may steer, too."""
    with exchange_from(ctx) as (exchange, settings):
        RunLedger(exchange, settings).check(OPERATOR if steers else None)
        yield exchange, settings


def _check_place(url: str) -> None:
    """Refuse what the client library would silently take for another place.

    Raises:
        ConfigError: it cannot be taken apart, no host, port 0, or a database that is no number.
    """
    if wrong := _wrong_with(url):
        raise ConfigError(f"{hidden(url)} is no address of a Redis: {wrong}; write redis://host:port/db")


def _wrong_with(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        # A password with a raw / or # in it is taken for a port, which the error would show.
        return "its password must be percent-encoded" if "@" in url else str(error)
    if parts.scheme not in ("redis", "rediss"):
        return ""
    if not host:
        return "it names no host"
    if port == 0:
        return "port 0 is none"
    if parts.fragment or "@" in parts.path + parts.query:
        return "its password must be percent-encoded"
    database = parts.path.strip("/")
    return "" if not database or database.isdecimal() else "its database is no number"


def hidden(url: str) -> str:
    """The URL without its password and options, also where it is so wrong that it cannot be taken apart."""
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    shown = f"{user}:{HIDDEN}" if colon else HIDDEN if credentials else ""
    return f"{scheme}{separator}{shown}{at}{place.partition('?')[0]}"


# --- talk -------------------------------------------------------------------------------------------------------------


def say(ctx: click.Context, text: str) -> None:
    """Talk: what is no part of the answer."""
    if not ctx.obj["quiet"]:
        click.echo(clean(text), err=True)


def detail(ctx: click.Context, text: str) -> None:
    """Talk for those who ask for more of it."""
    if ctx.obj["verbose"]:
        click.echo(clean(text), err=True)


def line(text: str, most: int = 4096) -> str:
    """Text from elsewhere, as part of one line: what is not plainly visible is escaped, what is too long is cut.

    No control character and no mark that turns the direction of writing reaches the terminal, and no newline that would
    make of one line two.
    """
    head = text[: most + 1]
    if not head.isprintable():
        head = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in head)
    return head if len(head) <= most else head[:most] + CUT


def clean(text: str, most: int = MOST_CHARACTERS) -> str:
    """Text of many lines from elsewhere, each as `line` has it."""
    head = text if len(text) <= most else text[:most] + CUT
    return "\n".join(line(part, most) for part in head.expandtabs(4).splitlines())


def block(text: str) -> str:
    """Text of many lines from elsewhere, each indented, so that none passes for one of ours; see `line`."""
    return "\n".join(f"    {part}" for part in clean(text).split("\n"))
