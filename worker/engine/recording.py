"""Where the transitions of inline runs are kept: the protocol, and the one of a call that nobody else is to see.

An inline run is executed by the process that called it. With an Orchestrator its record lies in Redis; without one in
this process, for as long as the call lasts, and no server is needed.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from shared.clock import now
from shared.errors import InvalidValue, RunGone, TransitionRefused
from shared.ledger import RunLedger
from shared.rules import Facts, Verdict, decide
from shared.rules_facts import changed
from shared.rules_transforms import RunRecord, record_of, transformed
from shared.runs import TaskRun
from shared.settings import Settings
from shared.specs import TaskSpec
from shared.state_types import IN_BODY
from shared.states import State
from worker.caching import Caching, private_caching
from worker.inputs import Named
from worker.notes import Notes


class Moved(NamedTuple):
    """What became of a proposal: the run as it is now, what the rules said, and the token of its present attempt."""

    run: TaskRun
    verdict: Verdict
    token: int


class Recorder(Protocol):
    """Keeps inline runs. Errors of a server come out as they are."""

    @property
    def blocks(self) -> bool:
        """True if its methods wait for a server: an event loop calls them in another thread."""
        ...

    @property
    def longest_wait(self) -> float | None:
        """So many seconds a run waits in its process; one that is due later is left to others. None: any number."""
        ...

    def find(self, run_id: str) -> TaskRun | None:
        """The run of this id, or None if there is none."""
        ...

    def take(self, run: TaskRun, spec: TaskSpec[..., Any], inputs: Named) -> TaskRun:
        """Hold this run in this process, and record it first, with its inputs, if its `seq` is 0; as it is now.

        A run that has ended stays as it is.

        Raises:
            TransitionRefused: another process holds it.
        """
        ...

    def move(self, run_id: str, proposed: State[Any], facts: Facts, cached: bytes = b"") -> Moved:
        """Ask the rules, and record what they answer, with what is said of the cache.

        Raises:
            Fenced: the run is another's now.
        """
        ...

    @property
    def caching(self) -> Caching:
        """Where results of its runs are cached. No I/O."""
        ...

    def note_rollback(self, run_id: str, token: int) -> None:
        """Have a run's record say that its attempt with this token was rolled back; held or not. No I/O."""
        ...

    def force(self, run_id: str, state: State[Any]) -> TaskRun:
        """Write a state without asking the rules, if nobody has moved the run since; the run as it is now.

        Raises:
            Fenced: somebody has.
            InvalidValue: only a process can be in that state.
        """
        ...

    @property
    def ledger(self) -> RunLedger | None:
        """Where it keeps them, if others can ask there."""
        ...

    @property
    def notes(self) -> Notes | None:
        """Takes what bodies say, if it is kept."""
        ...

    def rename(self, run_id: str, name: str) -> TaskRun:
        """Call a run by this name; the run as it is now."""
        ...

    def release(self, run_id: str) -> None:
        """Hold the run no more, whatever state it is in."""
        ...

    def is_cancelled(self, run_id: str) -> bool:
        """True if somebody wants the end of a run that is held. No I/O."""
        ...

    def guard(self, run_id: str) -> AbstractContextManager[None]:
        """Put around the body of a run that is held; may end it by TerminationSignal. No I/O."""
        ...


class PrivateRecorder:
    """Runs of this process alone, in memory."""

    blocks = False
    longest_wait = None
    ledger = None
    notes = None

    def __init__(self, caching: Caching | None = None) -> None:
        """`caching`: instead of that of the process."""
        self._runs: dict[str, TaskRun] = {}
        self._records: dict[str, RunRecord] = {}
        self._histories: dict[str, list[State[Any]]] = {}
        self._inputs: dict[str, Named] = {}
        self._caching = caching

    def find(self, run_id: str) -> TaskRun | None:
        """The run of this id, or None if there is none."""
        return self._runs.get(run_id)

    def take(self, run: TaskRun, spec: TaskSpec[..., Any], inputs: Named) -> TaskRun:
        """Hold this run, and record it first if it is new; as it is now.

        Raises:
            TransitionRefused: an attempt has begun elsewhere and not ended.
        """
        if run.state.type in IN_BODY:
            raise TransitionRefused(f"Run {run.id} is {run.state.type}: another process holds it.")
        is_new = run.seq == 0
        self._runs[run.id] = run
        self._inputs[run.id] = inputs
        self._histories.setdefault(run.id, [])
        record = record_of(run, spec)
        self._records[run.id] = replace(record, state=None) if is_new else record
        return self.move(run.id, run.state, Facts("client")).run if is_new else run

    @property
    def caching(self) -> Caching:
        """What this process keeps of the results of such runs."""
        if self._caching is None:
            self._caching = private_caching(Settings.load())
        return self._caching

    def note_rollback(self, run_id: str, token: int) -> None:  # noqa: ARG002 - the protocol's
        """Have a run's record say that it was rolled back."""
        self._runs[run_id] = replace(self._runs[run_id], rolled_back=True)

    def move(self, run_id: str, proposed: State[Any], facts: Facts, cached: bytes = b"") -> Moved:  # noqa: ARG002 - the protocol's
        """Ask the rules, and record what they answer."""
        record, at = self._record(run_id), now()
        verdict = decide(record, proposed, facts, at)
        if verdict.state is not None:
            record = self._records[run_id] = transformed(record, verdict.state, facts, at)
            self._runs[run_id] = updated(self._runs[run_id], record)
            self._histories[run_id].append(self._runs[run_id].state)
        return Moved(self._runs[run_id], verdict, record.attempt)

    def force(self, run_id: str, state: State[Any]) -> TaskRun:
        """Write a state without asking the rules; the run as it is now.

        Raises:
            InvalidValue: only a process can be in that state.
        """
        check_may_be_forced(state)
        record = self._records[run_id] = transformed(self._record(run_id), state, Facts("client"), now())
        self._runs[run_id] = updated(self._runs[run_id], record)
        self._histories[run_id].append(self._runs[run_id].state)
        return self._runs[run_id]

    def rename(self, run_id: str, name: str) -> TaskRun:
        """Call a run by this name; the run as it is now."""
        self._runs[run_id] = replace(self._runs[run_id], name=name)
        return self._runs[run_id]

    def release(self, run_id: str) -> None:
        """Nothing: nobody else could hold it."""

    def is_cancelled(self, run_id: str) -> bool:  # noqa: ARG002 - the protocol's
        """False: nobody else knows of it."""
        return False

    def guard(self, run_id: str) -> AbstractContextManager[None]:  # noqa: ARG002 - the protocol's
        """Nothing."""
        return nullcontext()

    def history(self, run_id: str) -> list[State[Any]]:
        """Every state that the run went through here, oldest first.

        Raises:
            RunGone: it is not known here.
        """
        self._record(run_id)
        return list(self._histories[run_id])

    def inputs(self, run_id: str) -> Named:
        """What the run was said to take input from.

        Raises:
            RunGone: it is not known here.
        """
        self._record(run_id)
        return self._inputs[run_id]

    def _record(self, run_id: str) -> RunRecord:
        try:
            return self._records[run_id]
        except KeyError:
            raise RunGone(f"Run {run_id} is not known in this process.") from None


def check_may_be_forced(state: State[Any]) -> None:
    """Refuse to force a state that only a process can be in.

    Raises:
        InvalidValue: it is one.
    """
    if state.type in IN_BODY:
        raise InvalidValue(f"a run cannot be forced to be {state.type}: only a process can be in that state")


def updated(run: TaskRun, record: RunRecord) -> TaskRun:
    """The run with what the rules see of it as in this record; its state names it."""
    state = record.state or run.state
    details = state.state_details.replaced(**{f"{run.kind}_run_id": run.id})
    return replace(
        run,
        state=changed(state, state_details=details),
        seq=record.seq,
        attempt=record.attempt,
        run_count=record.run_count,
        crashes=record.crashes,
        expected_start=record.expected_start,
        start_time=record.start_time,
        end_time=record.end_time,
        total_run_time=record.total_run_time,
    )


class _Default:
    """Which recorder an inline run has: whoever opens connections to a ledger says it, by `record_with`.

    `of_worker` is that of a worker's process, for bodies in which nobody opened another one.
    """

    def __init__(self) -> None:
        self.recorder: Callable[[], Recorder | None] = lambda: None
        self.of_worker: Recorder | None = None


_default = _Default()


def record_with(recorder: Callable[[], Recorder | None]) -> Callable[[], Recorder | None]:
    """Ask this from now on where to record inline runs; where it answers None, they are recorded privately.

    Returns:
        What was asked before.
    """
    before, _default.recorder = _default.recorder, recorder
    return before


def record_in_worker(recorder: Recorder | None) -> None:
    """Record here what bodies of this worker's process run themselves, unless `record_with` knows better."""
    _default.of_worker = recorder


def current_recorder() -> Recorder:
    """Where an inline run that begins now is recorded."""
    return _default.recorder() or _default.of_worker or PrivateRecorder()
