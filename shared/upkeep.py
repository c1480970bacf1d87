"""The commands of fleets and housekeeping as data, that any process may send at any time; see `commands.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from shared import keys
from shared.commands import AT_ONCE, NewRun, Request, submit, text, texts
from shared.scripts import SCRIPTS
from shared.seen import Needed, Stray
from shared.settings import Settings
from shared.transport import Argument
from shared.version import LAYOUT, __version__
from shared.walks import bytes_of

# --- processes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a fleet says of one of its workers with each beat. `fields` are those of RQ's registration and ours."""

    worker: str
    queues: Sequence[str]
    fields: Mapping[str, Argument]
    is_new: bool = False


class Ended(NamedTuple):
    """A run that a worker holds and has to end, since it was cancelled."""

    worker: str
    run_id: str
    token: str


class Beaten(NamedTuple):
    """What a beat answered: workers whose lease was taken away, and runs that have to end.

    `draining` workers are to finish and end; with `drains_all` so is the whole fleet.
    """

    buried: list[str]
    to_cancel: list[Ended]
    draining: Sequence[str] = ()
    drains_all: bool = False


def beat(pulses: Sequence[Pulse], settings: Settings, lifetime: int = 480) -> Request[Beaten]:
    """Renew leases."""
    arguments: list[Argument] = [settings.lease, lifetime, settings.cancel_patience, len(pulses)]
    for pulse in pulses:
        fields = {"lease": settings.lease, **pulse.fields}
        arguments += (pulse.worker, "new" if pulse.is_new else "", len(pulse.queues), *pulse.queues, len(fields))
        for pair in fields.items():
            arguments += pair
    return Request(SCRIPTS["beat"], [keys.LEASES, keys.WORKERS], arguments, _beaten)


def _beaten(answer: Any) -> Beaten:
    buried, flat, draining, drains_all = answer
    ended = texts(flat)
    to_cancel = [Ended(*ended[i : i + 3]) for i in range(0, len(ended), 3)]
    return Beaten(texts(buried), to_cancel, tuple(texts(draining)), bool(drains_all))


class Death(NamedTuple):
    """A worker that is over. `why` completes "Attempt 2 was lost: "; '' is a planned stop.

    `in_body` are the runs that it had started: ids with spaces between them, '' for none, '*' where nobody knows (then
    all that it held count as lost).
    """

    worker: str
    why: str
    in_body: str = "*"


class Buried(NamedTuple):
    """What became of the runs of a worker that is over: `lost` and `uncounted` ones are queued again."""

    worker: str
    lost: int
    ended: int
    uncounted: int


def reap(deaths: Sequence[Death], settings: Settings) -> Request[list[Buried]]:
    """Bury these workers; without names, those whose lease is over."""
    arguments: list[Argument] = [
        settings.crash_budget,
        settings.retention_failed,
        settings.retention_cancelled,
        len(deaths),
    ]
    for death in deaths:
        arguments += death
    if not deaths:
        arguments.append(settings.lease)
    key_names = [keys.LEASES, keys.RUNNING, keys.COUNTS, keys.WORKERS, keys.QUARANTINE]
    return Request(SCRIPTS["reap"], key_names, arguments, _buried)


def _buried(answer: Any) -> list[Buried]:
    return [Buried(answer[i].decode(), *answer[i + 1 : i + 4]) for i in range(0, len(answer), 4)]


def greet() -> Request[str]:
    """Mark a Redis that is new to Baton; the answer is the layout of its data."""
    return Request(SCRIPTS["greet"], [keys.META], [LAYOUT, __version__], lambda answer: answer.decode(errors="replace"))


# --- hooks of ends that scripts made ----------------------------------------------------------------------------------


class HooksDue(NamedTuple):
    """An end whose hooks a worker has to call, as the row of the run's history with this number.

    `tag`: OK, or BURIED. `entry` is what to confirm; '' if nothing is due.
    """

    tag: str
    entry: str

    @property
    def run_id(self) -> str:
        """The run that ended."""
        return self.entry.split()[0]

    @property
    def seq(self) -> int:
        """The number of the end in the run's history."""
        return int(self.entry.split()[1])


def announce(hooked: Sequence[str]) -> Request[int]:
    """Say for which ends tasks have hooks, as texts of a state type and a task's key."""
    return Request(SCRIPTS["announce"], [keys.HOOKED], list(hooked), int)


def next_hooks(worker: str, queues: Sequence[str]) -> Request[HooksDue]:
    """Take the hooks of an end that are due on these queues."""
    key_names = [keys.LEASES, keys.worker(worker), keys.hooks_taken(worker), *map(keys.hooks, queues)]
    return Request(SCRIPTS["hooks"], key_names, [worker, "", ""], lambda answer: HooksDue(*texts(answer)))


def hooks_called(worker: str, entry: str, *, is_for_others: bool) -> Request[str]:
    """What was taken is done, or is left to other workers; the answer is OK or BURIED."""
    key_names = [keys.LEASES, keys.worker(worker), keys.hooks_taken(worker)]
    arguments = [worker, entry, "back" if is_for_others else ""]
    return Request(SCRIPTS["hooks"], key_names, arguments, lambda answer: texts(answer)[0])


# --- upkeep -----------------------------------------------------------------------------------------------------------


class Promoted(NamedTuple):
    """How many due runs were queued, and in how many seconds the next run or deadline is due (None: none is).

    `continuations` wait for `go_on`; `is_over`: there is a deadline for `expire`; on the queues `hooked` hooks are due.
    """

    moved: int
    next_due: float | None
    continuations: int = 0
    is_over: bool = False
    hooked: tuple[str, ...] = ()


def promote(most: int = 100) -> Request[Promoted]:
    """Queue what is due, at most so many runs per queue, and wake workers where ids lie unnoticed."""
    key_names = [keys.QUEUES, keys.COUNTS, keys.SUSPENDED, keys.WAKE_DUE]
    return Request(SCRIPTS["promote"], key_names, [most], _promoted)


def _promoted(answer: Any) -> Promoted:
    moved, next_due, continuations, is_over, hooked = answer
    return Promoted(moved, float(next_due) if next_due else None, continuations, bool(is_over), tuple(texts(hooked)))


def sweep(most: int = AT_ONCE) -> Request[int]:
    """Remove runs whose retention is over; the answer is how many, or `most` where there may be more to do."""
    return Request(SCRIPTS["sweep"], [keys.QUEUES, keys.TAGS], [most], int)


def expire(settings: Settings, most: int = 100) -> Request[int]:
    """End what has waited too long; the answer is how many rows were looked at."""
    arguments = [most, settings.retention_cancelled, settings.retention_failed]
    return Request(SCRIPTS["expire"], [keys.DEADLINES, keys.PAUSED], arguments, int)


def go_on(settings: Settings, most: int = 1) -> Request[int]:
    """Go on with so many continuations; the answer is how many are left."""
    key_names = [keys.CONTINUE, keys.RUNNING, keys.DEADLINES]
    arguments: list[Argument] = [most, settings.retention_cancelled, settings.cancel_patience]
    return Request(SCRIPTS["continue"], key_names, arguments, int)


def reconcile(run_ids: Sequence[str], settings: Settings) -> Request[list[str]]:
    """Adopt or clean what was done to these runs by RQ's tools or by hand; what was done to each, in words, or ''."""
    arguments: list[Argument] = [
        settings.retention_cancelled,
        settings.retention_failed,
        settings.cancel_patience,
        len(run_ids),
        *map(bytes_of, run_ids),
    ]
    return Request(SCRIPTS["reconcile"], [keys.QUEUES, keys.RUNNING, keys.LEASES], arguments, texts)


def fire(
    schedule_id: str, due: str, next_due: str, fields: Mapping[str, Argument], run: NewRun, settings: Settings
) -> Request[str]:
    """Submit the run of a schedule's occurrence, if it is due at this time still; see `fire.lua` for the answer.

    Times are seconds since 1970 as text; `next_due` is '' after the last occurrence; `fields` are the schedule's.
    """
    accepted = submit([run], settings)
    arguments: list[Argument] = [schedule_id, due, next_due, len(fields)]
    for pair in fields.items():
        arguments += pair
    key_names = [keys.SCHEDULES, keys.schedule(schedule_id), *accepted.key_names]
    return Request(SCRIPTS["fire"], key_names, [*arguments, *accepted.arguments], text)


def strike(strays: Sequence[Stray]) -> Request[list[bool]]:
    """Take rows out of indexes in which their runs do not belong; whether each was taken out."""
    arguments: list[Argument] = [len(strays)]
    for stray in strays:
        arguments += (bytes_of(stray.run_id), stray.kind, bytes_of(stray.key), bytes_of(stray.member))
    return Request(SCRIPTS["strike"], [keys.QUEUES, keys.LEASES], arguments, lambda answer: list(map(bool, answer)))


def write_needs(needs: Sequence[Needed]) -> Request[list[bool]]:
    """Write how many runs need the results of these, where that is as it was seen; whether each was written."""
    arguments: list[Argument] = [len(needs)]
    for needed in needs:
        arguments += (bytes_of(needed.run_id), bytes_of(needed.counted), needed.found)
    return Request(SCRIPTS["needs"], [keys.QUEUES], arguments, lambda answer: list(map(bool, answer)))


class Recount(NamedTuple):
    """A counter of runs as a scan saw it ('' where it was missing), and how many runs the scan found."""

    state: str
    counted: str
    found: int


def recount(counters: Sequence[Recount]) -> Request[bool]:
    """Write the counters as they were found, if none has moved since; whether they were written."""
    arguments: list[Argument] = [len(counters)]
    for counter in counters:
        arguments += counter
    return Request(SCRIPTS["recount"], [keys.COUNTS], arguments, bool)
