"""A run that is executed by the process that called it, as its engine sees it. Keeps nothing: the recorder does."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from shared import retries
from shared.clock import now
from shared.errors import TerminationSignal, TransitionRefused
from shared.ledger import RunLedger
from shared.naming import limits_of
from shared.rules import Facts, Kind, LastEnd, OnCrash, Upstream
from shared.rules_tasks import upstreams_done
from shared.runs import TaskRun
from shared.specs import TaskSpec
from shared.states import Cancelled, Cancelling, Running, State
from worker.caching import Caching
from worker.context import NO_PARAMETERS, Around, RunContext
from worker.engine.recording import Recorder
from worker.inputs import Inputs, Named, resolved, upstreams_in
from worker.triggers import end_before_begin, own_trigger

ASK_AGAIN = timedelta(seconds=1)
"""After this a run that may not begin yet asks again, where the rules do not say when."""


class Event(Protocol):
    """What tells that the run's end is wanted, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """True once it is wanted."""
        ...


class InlineRun:
    """One run, held by this process until it leaves."""

    last_end: LastEnd = ""
    outlives_flow = False
    pause_keys = ()
    crash_budget = 1

    def __init__(
        self,
        run: TaskRun,
        spec: TaskSpec[..., Any],
        recorder: Recorder,
        cancel_event: Event | None = None,
        inputs: Named | None = None,
        *,
        is_resumed: bool = False,
    ) -> None:
        self.kind: Kind = spec.kind
        self.run = recorder.take(run, spec, inputs or {})
        self.retries = run.max_retries if run.max_retries is not None else spec.retries
        self.on_crash: OnCrash = spec.on_crash
        self._spec = spec
        self._recorder = recorder
        self._cancel_event = cancel_event
        self._is_resumed = is_resumed
        self._upstreams: list[Upstream] = []
        self._token = self.run.attempt
        self._again: datetime | None = None
        self.cached = b""

    @property
    def ledger(self) -> RunLedger | None:
        """Where the run is recorded; None for one that is recorded in this process alone."""
        return self._recorder.ledger

    @property
    def blocks(self) -> bool:
        """True if a method may wait for a server."""
        return self._recorder.blocks

    @property
    def watched(self) -> bool:
        """True if somebody may want the run's end while its body runs."""
        return self._cancel_event is not None or self._recorder.blocks

    @property
    def state(self) -> State[Any]:
        """The state that holds."""
        return self.run.state

    @property
    def attempt(self) -> int:
        """The number of the attempt that was begun last."""
        return self.run.attempt

    @property
    def run_count(self) -> int:
        """Attempts that count as tries."""
        return self.run.run_count

    @property
    def crashes(self) -> int:
        """Attempts that were lost."""
        return self.run.crashes

    @property
    def flow(self) -> str | None:
        """The flow run that it belongs to."""
        return self.run.flow

    def propose(self, state: State[Any], retriable: bool | None = None) -> State[Any]:
        """Ask for a state; the one that now holds.

        Raises:
            Fenced: the run is another's now.
            TransitionRefused: the rules refuse it for good.
        """
        if self.is_cancelled() and not (self.state.is_final() or self.state.is_cancelling()):
            # Whatever was to become of it, it was to be cancelled before; one that waits is so at once.
            self._move(Cancelling(), None)
            if self.state.is_final():
                return self.state
        self._move(state, retriable)
        if self.state.is_cancelling() and not state.is_cancelling():
            self._move(Cancelled(message="Cancelled while running."), None)  # nobody else would end it
        return self.state

    def _move(self, state: State[Any], retriable: bool | None) -> State[Any]:
        delay = self._delay() if state.is_failed() else 0.0
        facts = Facts("attempt", inline=True, held=True, upstreams=self._upstreams, retriable=retriable, delay=delay)
        self.run, verdict, self._token = self._recorder.move(self.run.id, state, facts, self.cached)
        if verdict.kind == "ABORT":
            raise TransitionRefused(verdict.reason)
        seconds = verdict.seconds
        self._again = None
        if verdict.kind == "WAIT":
            self._again = now() + (ASK_AGAIN if seconds is None else timedelta(seconds=seconds))
        return self.state

    def force(self, state: State[Any]) -> State[Any]:
        """Write a state without asking the rules; the one that now holds.

        Raises:
            Fenced: the run is another's now.
            InvalidValue: only a process can be in that state.
        """
        self.run = self._recorder.force(self.run.id, state)
        return self.state

    def note_end(self, state: State[Any]) -> None:
        """Write the times of the run's end into the record in memory, if it has none yet."""
        if state.is_final() and self.run.end_time is None:
            self.run = replace(self.run, end_time=state.timestamp, total_run_time=self.run.estimated_run_time)

    def settled(self) -> State[Any]:
        """The state that holds: here every proposal is recorded at once."""
        return self.state

    def task_run(self) -> TaskRun:
        """The run's record."""
        return self.run

    def known_run(self) -> TaskRun:
        """The run's record."""
        return self.run

    @property
    def caching(self) -> Caching:
        """Where results are cached: where the run is recorded."""
        return self._recorder.caching

    def note_rollback(self) -> None:
        """Have the run's record say that it was rolled back."""
        self.run = replace(self.run, rolled_back=True)
        self._recorder.note_rollback(self.run.id, self._token)

    def rename(self, name: str) -> None:
        """Call the run by this name."""
        self.run = self._recorder.rename(self.run.id, name)

    def taken(self, inputs: Inputs, found: Mapping[str, State[Any] | None]) -> dict[str, Any] | State[Any]:
        """The parameters with the results of these upstreams; or the state that the run ends in."""
        trigger = own_trigger(self._spec.trigger)
        self._upstreams = upstreams_in(inputs.parameters, lambda _ids: found, lenient=trigger is not None)
        refused = upstreams_done(self, Running(), Facts("attempt", upstreams=self._upstreams), now())
        if refused is not None and refused.state is not None:
            return refused.state
        resumed = self._is_resumed
        ended = end_before_begin(trigger, self.run.id, inputs.parameters, self._upstreams, lambda: resumed)
        return ended or resolved(inputs.parameters, self._upstreams)

    def wakes_at(self, state: State[Any]) -> datetime | None:
        """When to ask again for RUNNING; None for a run that is paused, or due too late to be waited for."""
        due = state.state_details.scheduled_time if state.is_scheduled() else self._again
        longest = self._recorder.longest_wait
        if due is None or (longest is not None and (due - now()).total_seconds() > longest):
            return None
        return due

    def context(self, parameters: Mapping[str, Any] = NO_PARAMETERS) -> RunContext:
        """What the body of the present attempt, called with these parameters, may ask."""
        run = self.run
        around = Around(
            self._spec,
            parameters,
            limits_of(run.tags),
            run.flow,
            run.correlation,
            run.traceparent,
            self._recorder.notes,
        )
        return RunContext(run.id, self._spec.key, run.attempt, self._token, self.is_cancelled, around=around)

    @contextmanager
    def guard(self, _token: int, _seconds: float | None) -> Iterator[None]:
        """Put around the body, which does not begin if its end is wanted already.

        Raises:
            TerminationSignal: it is.
        """
        if self.is_cancelled():
            raise TerminationSignal(signal.SIGTERM)
        with self._recorder.guard(self.run.id):
            yield

    def around_hook(self) -> AbstractContextManager[None]:
        """Nothing: whoever runs it here waits for its hooks."""
        return nullcontext()

    def struck_by(self, _strike: Callable[[], object]) -> AbstractContextManager[None]:
        """Nothing: who runs it here with an event is asked, see `watched`."""
        return nullcontext()

    def is_cancelled(self) -> bool:
        """True if somebody wants the run's end."""
        if self._cancel_event is not None and self._cancel_event.is_set():
            return True
        return self._recorder.is_cancelled(self.run.id)

    def release(self) -> None:
        """Hold the run no more."""
        self._recorder.release(self.run.id)

    def _delay(self) -> float:
        number = max(0, self.run_count - self.crashes - 1)
        return retries.retry_delay(self._spec.retry_delays, number, self._spec.retry_jitter_factor)
