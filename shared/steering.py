"""The commands of clients and operators as data: what steers runs, queues and limits; see `commands.py`."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from shared import keys
from shared.commands import AT_ONCE, Outcome, Request, text, texts
from shared.scripts import SCRIPTS
from shared.settings import Settings
from shared.transport import Argument

MOST_LOOKS = 20
"""Calls for what awaited runs wait for themselves."""


class Steered(NamedTuple):
    """What came of it: OK, or why not, and the state that holds now ('' where there is no run)."""

    tag: str
    seq: int = 0
    state_type: str = ""
    state_name: str = ""


def _steered(answer: Any) -> Steered:
    tag, seq, state_type, state_name = answer
    return Steered(tag.decode(), seq, state_type.decode(), text(state_name))


def _many_steered(answer: Any) -> list[Steered]:
    return [Steered(tag.decode(), 0, kind.decode(), text(name)) for tag, kind, name in answer]


def _keys_of(run_id: str) -> list[str]:
    return [keys.job(run_id), keys.run_part(run_id, "history")]


def cancel(run_ids: Sequence[str], settings: Settings, *, actor: str, message: str) -> Request[list[Steered]]:
    """End runs that wait, and ask the processes of those that run to end them."""
    retention, patience = settings.retention_cancelled, settings.cancel_patience
    arguments: list[Argument] = [actor, message, retention, patience, len(run_ids), *run_ids]
    return Request(SCRIPTS["cancel"], [keys.RUNNING, keys.DEADLINES, keys.CONTINUE], arguments, _many_steered)


def retry(
    run_id: str, seq: int, operation: str, *, actor: str, message: str, delay: float = 0, rerun: bool = False
) -> Request[Steered]:
    """Make a run that has ended wait again, as a new attempt."""
    again = "1" if rerun else ""
    arguments: list[Argument] = [run_id, seq, operation, actor, message, f"{delay:.6f}", again]
    return Request(SCRIPTS["retry"], _keys_of(run_id), arguments, _steered)


def force(run_id: str, seq: int, operation: str, outcome: Outcome, *, actor: str) -> Request[Steered]:
    """Write a state without asking the rules; whoever held the run is fenced."""
    return Request(SCRIPTS["force"], _keys_of(run_id), [run_id, seq, operation, actor, *outcome], _steered)


def drain(workers: Sequence[str], *, whole_fleet: bool) -> Request[list[str]]:
    """Ask workers, or their fleets, to finish what runs and to end; OK or GONE for each."""
    arguments: list[Argument] = ["fleet" if whole_fleet else "worker", len(workers), *workers]
    return Request(SCRIPTS["drain"], [keys.LEASES], arguments, texts)


def resume(run_id: str, seq: int, operation: str, *, actor: str, given: bytes = b"") -> Request[Steered]:
    """Let a paused run go on, with an input (an envelope) if there is one."""
    return Request(SCRIPTS["resume"], _keys_of(run_id), [run_id, seq, operation, actor, given], _steered)


QueueChange = Literal["pause", "resume", "cap", "uncap"]


def set_queue(queue: str, what: QueueChange, value: Argument = "") -> Request[bool]:
    """Pause (by whom), resume or cap (at how many) a queue; whether anything changed."""
    key_names = [keys.QUEUES, keys.queue_settings(queue), keys.queue(queue), keys.wake(queue)]
    return Request(SCRIPTS["set_queue"], key_names, [queue, what, value], bool)


class Cleared(NamedTuple):
    """How many runs were taken out of a queue, of how many ids; fewer ids than were asked for: nothing is left."""

    runs: int
    looked_at: int


def move(queue: str, to: str, *, actor: str, most: int = AT_ONCE) -> Request[Cleared]:
    """Put runs that wait in a queue into another."""
    key_names = [keys.QUEUES, keys.queue(queue), keys.SCHEDULED + queue, keys.DEFERRED + queue]
    return Request(SCRIPTS["move"], key_names, [queue, to, most, actor], lambda answer: Cleared(*answer))


def purge(queue: str, settings: Settings, *, actor: str, message: str, most: int = AT_ONCE) -> Request[Cleared]:
    """Cancel runs that wait in a queue for a worker."""
    arguments: list[Argument] = [queue, most, actor, message, settings.retention_cancelled]
    key_names = [keys.queue(queue), keys.SCHEDULED + queue]
    return Request(SCRIPTS["purge"], key_names, arguments, lambda answer: Cleared(*answer))


def set_limit(name: str, slots: int | None, decay: float | None = None) -> Request[int]:
    """Make, change or (with None) delete a limit; how many runs wait for it still."""
    limit = keys.limit(name)
    key_names = [keys.LIMITS, limit, keys.limit_part(name, "holders"), keys.limit_part(name, "waiters")]
    arguments: list[Argument] = [name, "" if slots is None else slots, "" if decay is None else repr(decay)]
    return Request(SCRIPTS["set_limit"], key_names, arguments, int)


class Awaited(NamedTuple):
    """How many hints were left, and the runs that one call had no time for."""

    hints: int
    rest: list[str]


def wait_for(run_ids: Sequence[str]) -> Request[Awaited]:
    """Tell workers that somebody waits for these runs."""
    return Request(SCRIPTS["await"], [keys.RUNNING], [len(run_ids), *run_ids], _awaited)


def _awaited(answer: Any) -> Awaited:
    return Awaited(answer[0], texts(answer[1]))


def wait_for_all(send: Callable[[Request[Awaited]], Awaited], run_ids: Sequence[str]) -> int:
    """Tell so of these runs, and of what they wait for themselves, in as many calls as it takes; the hints in all."""
    todo, hints = list(run_ids), 0
    for _ in range(MOST_LOOKS + len(run_ids) // AT_ONCE):
        if todo:
            answer = send(wait_for(todo[:AT_ONCE]))
            hints += answer.hints
            # What is reached from these comes first: it is looked down to what waits for nobody.
            todo = [*reversed(answer.rest), *todo[AT_ONCE:]]
    return hints


def drop(entries: Sequence[str]) -> Request[int]:
    """Remove entries of the quarantine; how many were there."""
    return Request(SCRIPTS["drop"], [keys.QUARANTINE], list(entries), int)
