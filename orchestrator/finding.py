"""Finding runs: what a caller asks for as the views take it, and the answer as records. Changes none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.clock import now, to_epoch
from shared.errors import BadEnvelope, InvalidValue
from shared.ledger import RunLedger
from shared.runs import TaskRun
from shared.specs import queue_name
from shared.state_types import StateType
from shared.transport import Transport
from shared.views.runs import Wanted, newest

States = StateType | str | Iterable[StateType | str]
Since = datetime | timedelta
MOST = 1000
"""Runs in one page at most."""


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some of the runs that were asked for, newest first."""

    runs: tuple[TaskRun, ...]
    cursor: str | None
    """For the page that follows; None where there is none. There may be one also after a page that is not full."""
    gaps: Mapping[str, str]
    """Where more may lie that was not looked at, and runs whose record cannot be read: by key or id, why."""


def wanted_from(
    state: States | None, task: str | None, tag: str | None, queue: str | None, flow: str | None, since: Since | None
) -> Wanted:
    """The question as the views take it.

    Raises:
        InvalidValue: there is no such state, no queue can be called so, or a time without a zone.
    """
    return Wanted(
        states=_states(state),
        task=task,
        queue=None if queue is None else queue_name("queue", queue),
        since=None if since is None else _moment(since),
        tag=tag,
        flow=flow,
    )


def find(transport: Transport, ledger: RunLedger, wanted: Wanted, limit: int, cursor: str | None) -> RunPage:
    """One page of these runs.

    Raises:
        InvalidValue: a limit that is not in 1 to `MOST`, or what is no cursor of this question.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
        raise InvalidValue(f"'limit' must be a whole number from 1 to {MOST}, got {limit!r}")
    page = newest(transport, wanted, limit, after=cursor)
    gaps, runs = dict(page.gaps), []
    for run_id, found in ledger.get_many(row.id for row in page.rows).items():
        if isinstance(found, TaskRun):
            runs.append(found)
        elif isinstance(found, BadEnvelope):
            gaps[run_id] = str(found)
    return RunPage(tuple(runs), page.cursor, gaps)


def _states(state: States | None) -> frozenset[StateType]:
    if state is None:
        return frozenset()
    try:
        return frozenset(StateType(one.upper()) for one in ([state] if isinstance(state, str) else state))
    except (AttributeError, TypeError, ValueError):
        known = ", ".join(kind.value for kind in StateType)
        raise InvalidValue(f"'state' has {state!r}: the types of states are {known}") from None


def _moment(since: Since) -> float:
    if isinstance(since, timedelta):
        return to_epoch(now() - since)
    if since.tzinfo is None:
        raise InvalidValue(f"'since' is {since}: nobody can tell of which time zone, so give it one")
    return to_epoch(since)
