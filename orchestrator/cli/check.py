"""`baton check`: is this Redis fit for Baton? One line for each condition. Leaves Redis as it is."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal

import click

from orchestrator.cli import output
from orchestrator.cli.cells import ALARM, Cell, Column
from orchestrator.cli.common import EXIT_CONFIG, EXIT_UNAVAILABLE, exchange_from, json_option
from shared import keys
from shared.errors import RedisUnavailable
from shared.ledger import RunLedger
from shared.on_server import OLDEST_REDIS
from shared.version import LAYOUT
from shared.views.reading import whole
from shared.views.server import Server, server

Verdict = Literal["ok", "warning", "failed"]
LEAST_COMPACT: Final = 512
"""Bytes of one field of a run's hash below which Redis should keep its compact encoding."""

_STYLES: Final[Mapping[Verdict, str]] = {"ok": "green", "warning": "yellow", "failed": ALARM}
_COLUMNS: Final = (Column("check"), Column("verdict"), Column("why"))


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one check. `exit_code` is that of a failure."""

    check: str
    verdict: Verdict
    why: str
    exit_code: int = 0


@click.command(name="check")
@json_option()
@click.pass_context
def check(ctx: click.Context, *, as_json: bool) -> int:
    """Ask whether this Redis is fit for Baton.

    Exit code 0: it is, perhaps with warnings. 69: it cannot be reached or written to. 78: it is set up in a way that
    Baton cannot work with.
    """
    with exchange_from(ctx) as (exchange, settings):
        try:
            told = server(exchange)
        except RedisUnavailable as error:
            findings = [Finding("reach", "failed", str(error), EXIT_UNAVAILABLE)]
        else:
            findings = [
                Finding("reach", "ok", f"Redis {told.info.get('redis_version', '?')} at {exchange.address}"),
                *_conditions(told, RunLedger(exchange, settings)),
            ]
    code = max((finding.exit_code for finding in findings), default=0)
    if as_json:
        output.document({"fit": code == 0, "checks": [_document(finding) for finding in findings]})
    else:
        output.table(_COLUMNS, [(one.check, Cell(one.verdict, _STYLES[one.verdict]), one.why) for one in findings])
    return code


def _document(finding: Finding) -> dict[str, object]:
    return {name: value for name, value in asdict(finding).items() if name != "exit_code"}


def _conditions(told: Server, ledger: RunLedger) -> Iterator[Finding]:
    yield _write(told, ledger)
    if told.info:
        yield _server(told.info)
        yield _policy(told.info)
        yield _persistence(told.info)
    else:
        yield Finding("server", "warning", f"it does not tell about itself: {told.info_refused}")
    yield _layout(told)
    yield _compact(told)


def _write(told: Server, ledger: RunLedger) -> Finding:
    most, used = whole(told.info.get("maxmemory")) or 0, whole(told.info.get("used_memory")) or 0
    if 0 < most <= used:
        return _unwritable(f"out of memory: {used:,} bytes are used, maxmemory is {most:,}")
    try:
        ledger.beat([])  # for no worker at all: what it writes changes nothing, and is refused where writes are
    except RedisUnavailable as error:
        return _unwritable(str(error))
    return Finding("write", "ok", "it takes writes")


def _unwritable(why: str) -> Finding:
    return Finding("write", "failed", why, EXIT_UNAVAILABLE)


def _server(info: Mapping[str, str]) -> Finding:
    version, mode = info.get("redis_version", ""), info.get("redis_mode", "standalone")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST_REDIS:
        return Finding("server", "failed", f"Redis {version or '?'} is too old: 6.2 is needed, or newer", EXIT_CONFIG)
    if mode == "cluster":
        return Finding("server", "failed", "Redis Cluster: a single primary is needed", EXIT_CONFIG)
    return Finding("server", "ok", f"{mode}, {info.get('role', '?')}")


def _policy(info: Mapping[str, str]) -> Finding:
    policy = info.get("maxmemory_policy", "?")
    if policy == "noeviction":
        return Finding("policy", "ok", "noeviction")
    return Finding(
        "policy", "failed", f"{policy}: full, it would drop runs; set maxmemory-policy noeviction", EXIT_CONFIG
    )


def _persistence(info: Mapping[str, str]) -> Finding:
    if info.get("aof_enabled") == "1":
        is_well = info.get("aof_last_write_status", "ok") == "ok"
        return Finding(
            "persistence",
            "ok" if is_well else "warning",
            "append only file" + ("" if is_well else ", but its last write failed"),
        )
    return Finding("persistence", "warning", "no append only file: a restart loses runs; set appendonly yes")


def _layout(told: Server) -> Finding:
    if told.layout_refused is not None:
        return Finding("layout", "failed", f"{keys.META} cannot be read: {told.layout_refused}", EXIT_CONFIG)
    if told.layout is None:
        return Finding("layout", "ok", "none yet: Baton has written nothing here")
    if not told.layout.isdecimal() or int(told.layout) > LAYOUT:
        why = f"{told.layout}, this Baton knows {LAYOUT}: install the version that wrote it"
        return Finding("layout", "failed", why, EXIT_CONFIG)
    return Finding("layout", "ok", told.layout)


def _compact(told: Server) -> Finding:
    """The option has had two names; a server that has both gives them the same value."""
    name = min(told.compact, default="hash-max-listpack-value")
    value = whole(told.compact.get(name))
    if value is None:
        return Finding("memory", "warning", f"{name} cannot be read: {told.compact_refused or 'no such option'}")
    if value < LEAST_COMPACT:
        return Finding(
            "memory", "warning", f"{name} is {value}: with {LEAST_COMPACT} a run takes a third of the memory"
        )
    return Finding("memory", "ok", f"{name} is {value}")
