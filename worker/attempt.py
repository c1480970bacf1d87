"""One attempt on the fleet: from the claim that a cycle brought to the report that the next cycle takes.

Reads top to bottom: task and parameters, engine, proposals, report.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from shared import codec, retries
from shared.cache import KEY_ERROR
from shared.clock import now, parse_iso
from shared.commands import Claim, Report
from shared.errors import BadEnvelope, BatonError, Fenced, TaskNotRegistered, TransitionRefused
from shared.naming import tags_in
from shared.references import DEPENDENCIES
from shared.reporting import delay_of, outcome_of
from shared.rules import Facts, Kind, LastEnd, OnCrash, decide
from shared.rules_tasks import upstreams_done
from shared.runs import TaskRun
from shared.settings import Settings
from shared.specs import TaskSpec, registry
from shared.state_types import StateType
from shared.states import Cancelled, Failed, Running, Scheduled, State
from shared.texts import printable
from worker.caching import Caching
from worker.context import NO_PARAMETERS, Around, RunContext
from worker.engine.base import INTERRUPTS
from worker.engine.drivers import SyncTaskRunEngine
from worker.graph_end import BUILT_IN
from worker.hand import Hand
from worker.inputs import Found, Inputs, resolved, upstreams_in
from worker.interrupts import Interrupts
from worker.page import Page
from worker.triggers import end_before_begin, own_trigger

log = logging.getLogger("baton.worker")
LOOK_AGAIN = 1.0
"""Seconds after which a run is looked at again that was to begin, but whose upstreams have not ended after all."""
_OWN = Facts("attempt", held=True)


def execute(claim: Claim, hand: Hand, page: Page, interrupts: Interrupts, settings: Settings) -> Report | None:
    """Execute an attempt; what to report, or None if that was done or is for another process that owns the run now."""
    page.start(claim.run_id)
    try:
        return _execute(claim, hand, interrupts, settings)
    except Fenced as error:
        log.warning("run %s: %s", claim.run_id, error)
        return None
    finally:
        hand.notes.ended(claim.run_id)


def _execute(claim: Claim, hand: Hand, interrupts: Interrupts, settings: Settings) -> Report | None:
    ready = prepared(claim, hand, interrupts, settings)
    if isinstance(ready, Report):
        return ready
    given, attempt, outcome = ready
    engine: SyncTaskRunEngine[..., Any] = SyncTaskRunEngine(*given)
    try:
        if outcome is None:
            engine.run()
        else:
            engine.end(outcome)
    except INTERRUPTS as error:
        tell_of_interrupt(claim, error)
    return attempt.report


def prepared(
    claim: Claim, hand: Hand, interrupts: Interrupts, settings: Settings
) -> "Report | tuple[tuple[Any, ...], Attempt, State[Any] | None]":
    """What an engine is given for this attempt, and what the run is to end with where its body cannot be called.

    Or the report, where nothing of it can be executed here.
    """
    try:
        spec = BUILT_IN.get(claim.task) or registry.find(claim.task)
    except TaskNotRegistered as error:
        state = Failed(name="UnknownTask", message=str(error), data=error)
        return Report(claim.run_id, claim.token, outcome_of(state, settings))
    spec = _with_told(spec, claim)
    attempt = Attempt(claim, spec, hand, interrupts, settings)
    seconds = claim.timeout if claim.timeout is not None else spec.timeout_seconds
    if claim.state == StateType.CANCELLING:
        return (spec, {}, seconds, attempt), attempt, Cancelled(message="Cancelled while running.")
    try:
        parameters = codec.decode_parameters(claim.parameters or b"", limit=settings.max_parameters)
    except BadEnvelope as error:
        message = printable(f"Parameters could not be read: {type(error).__name__}: {error}")
        return (spec, {}, seconds, attempt), attempt, Failed(message=message, data=error)
    parameters.pop(DEPENDENCIES, None)
    inputs = Inputs(parameters, {}) if claim.state == StateType.PENDING else None
    return (spec, parameters, seconds, attempt, inputs), attempt, None


def tell_of_interrupt(claim: Claim, error: BaseException) -> None:
    """Log the interrupt that came out of an engine: one in the body is its outcome, this is of a hook of the end."""
    log.error("run %s: a hook of its end was interrupted", claim.run_id, exc_info=error)


def _with_told(spec: TaskSpec[..., Any], claim: Claim) -> TaskSpec[..., Any]:
    """The task with what the run tells of its caching: 0 and '' stand for None."""
    changes: dict[str, Any] = {}
    if claim.cache_expiration is not None:
        changes["cache_expiration"] = claim.cache_expiration or None
    if claim.refresh_cache is not None:
        changes["refresh_cache"] = claim.refresh_cache == "1" if claim.refresh_cache else None
    if claim.result_storage_key is not None:
        changes["result_storage_key"] = claim.result_storage_key or None
    if claim.persist_result is not None and (changes or spec.transacts):
        changes["persist_result"] = claim.persist_result
    if not changes:
        return spec
    try:
        return replace(spec, **changes)
    except BatonError:
        # Of another version of the task: as with any other key that cannot be made.
        log.exception("run %s: %s", claim.run_id, KEY_ERROR)
        return replace(spec, cache_policy=None, cache_key_fn=None, result_storage_key=None)


class Attempt:
    """A run's attempts in this process, before the rules: takes what the engine proposes, says what now holds."""

    # What the rules ask of any run, and what of a running task is always the same.
    last_end: LastEnd = ""
    outlives_flow = False
    pause_keys = ()
    blocks = True
    watched = False

    def __init__(
        self, claim: Claim, spec: TaskSpec[..., Any], hand: Hand, interrupts: Interrupts, settings: Settings
    ) -> None:
        self.kind: Kind = spec.kind
        self.state: State[Any] | None = None
        self.attempt = claim.attempt
        self.run_count = claim.run_count
        self.crashes = claim.crashes
        self.retries = claim.max_retries if claim.max_retries is not None else spec.retries
        self.crash_budget = settings.crash_budget
        self.on_crash: OnCrash = spec.on_crash
        self.flow = claim.flow
        self.report: Report | None = None
        self.cached = b""
        self._name: str | None = None
        self._claim = claim
        self._token = claim.token
        self._spec = spec
        self._hand = hand
        self._interrupts = interrupts
        self._settings = settings

    def taken(self, inputs: Inputs, _found: Found) -> dict[str, Any] | State[Any]:
        """The parameters with what other runs returned in its places; or the state of a run that cannot begin."""
        self.state = self._claimed(StateType.PENDING)
        trigger = own_trigger(self._spec.trigger)
        upstreams = upstreams_in(inputs.parameters, self._states_of, lenient=trigger is not None)
        at = now()
        refused = upstreams_done(self, Running(), Facts("attempt", held=True, upstreams=upstreams), at)
        if refused is not None:
            # One that had ended waits again since, because somebody had it retried.
            again = at + timedelta(seconds=LOOK_AGAIN)
            return refused.state or Scheduled(scheduled_time=again, message=refused.reason)
        ended = end_before_begin(trigger, self._claim.run_id, inputs.parameters, upstreams, self._was_paused)
        return ended or resolved(inputs.parameters, upstreams)

    def propose(self, state: State[Any], retriable: bool | None = None) -> State[Any]:
        """The state that holds after this proposal. What ends the attempt is left as its report.

        Raises:
            Fenced: the run is another's now.
        """
        if self.state is None:
            # The cycle that brought this run recorded its state in the step that took it from its queue.
            if state.is_running():
                self.state = State.trusted(StateType.RUNNING, "Running", parse_iso(self._claim.started))
                return self.state
            self.state = self._claimed(StateType(self._claim.state))
        elif state.is_running():
            self.state = self._restart(state)
            if self.state is None:
                raise Fenced("it is being cancelled")
            return self.state
        at = now()
        is_failed = state.is_failed()
        facts = Facts("attempt", held=True, delay=self._delay(), retriable=retriable) if is_failed else _OWN
        verdict = decide(self, state, facts, at)
        if verdict.kind == "ABORT" and not state.is_failed():
            return self.propose(Failed(message=verdict.reason), retriable=False)  # a handler's wish
        if verdict.state is None:
            raise AssertionError(f"{state!r} was proposed for a running attempt: {verdict.reason}")
        if verdict.state.is_running():
            self.state = self._restart(verdict.state) or self._end(state, at)
        else:
            self.state = self._end(verdict.state, at)
        return self.state

    @property
    def ledger(self) -> None:
        """None: the connection is the worker's own."""
        return

    def force(self, state: State[Any]) -> State[Any]:
        """Not from within a worker.

        Raises:
            TransitionRefused: always.
        """
        raise TransitionRefused(f"a worker does not force its own run to be {state.type}: `Orchestrator.force` does")

    def note_end(self, state: State[Any]) -> None:
        """Nothing: what is kept of the run here has no times of its end."""

    def settled(self) -> State[Any]:
        """The state that holds, once it is recorded.

        Raises:
            Fenced: it was not recorded, the run is another's now.
        """
        if self.state is None:
            raise AssertionError("this run has no state to be recorded")
        if self.report is not None:
            report, self.report = self.report, None
            verdict = self._hand.report(report)
            self._interrupts.rest()
            if verdict == "CANCELLED":
                self.state = State.trusted(StateType.CANCELLED, "Cancelled", now())
            elif verdict != "OK":
                raise Fenced(f"its outcome {report.outcome.state_name} was not recorded: {verdict}")
        return self.state

    def task_run(self) -> TaskRun:
        """The run's record; where it cannot be read, what the claim tells of it."""
        claim, state = self._claim, self.state or self._claimed(StateType(self._claim.state))
        run = self._hand.look_up([claim.run_id])[claim.run_id]
        if isinstance(run, TaskRun):
            if run.state.type is state.type and state.data is None:
                self.state = state = run.state  # names and messages that scripts gave it
            return replace(run, state=state, name=self._name or run.name)
        return self.known_run()

    def known_run(self) -> TaskRun:
        """What the claim tells of the run."""
        claim, state = self._claim, self.state or self._claimed(StateType(self._claim.state))
        return TaskRun(
            id=claim.run_id,
            task=claim.task,
            name=self._name or claim.name or self._spec.name,
            queue=self._spec.queue,
            state=state,
            attempt=self.attempt,
            run_count=self.run_count,
            crashes=self.crashes,
            max_retries=self.retries,
            parent=claim.parent,
            flow=claim.flow,
            tags=tags_in(claim.limits or ""),
            correlation=claim.correlation,
            traceparent=claim.traceparent,
        )

    @property
    def caching(self) -> Caching:
        """Where results are cached: in the worker's Redis."""
        return self._hand.caching

    def note_rollback(self) -> None:
        """Have the run's record say that it was rolled back."""
        self._hand.notes.rolled_back(self._claim.run_id, int(self._token))

    def rename(self, name: str) -> None:
        """Call the run by this name."""
        self._name = name
        self._hand.notes.name(self._claim.run_id, int(self._token), name)

    def wakes_at(self, _state: State[Any]) -> datetime | None:
        """None: a run that waits has left this process."""
        return None

    def is_cancelled(self) -> bool:
        """True if somebody wants the end of this attempt."""
        return self._interrupts.is_cancelled(int(self._token))

    def guard(self, token: int, seconds: float | None) -> AbstractContextManager[None]:
        """Put around the body of the attempt: lets it be ended, and tells the supervisor its time limit."""
        return self._interrupts.around(token, seconds)

    def around_hook(self) -> AbstractContextManager[None]:
        """Put around a hook or a condition: ends it in time, and tells the supervisor that it runs."""
        return self._interrupts.around_hook(self._settings.hook_timeout)

    def struck_by(self, strike: Callable[[], object]) -> AbstractContextManager[None]:
        """Where the body shares its thread with others: call this when somebody wants the end of this attempt."""
        return self._interrupts.struck_by(strike)

    def context(self, parameters: Mapping[str, Any] = NO_PARAMETERS) -> RunContext:
        """What the body of the present attempt, called with these parameters, may ask."""
        token, claim = int(self._token), self._claim
        look = partial(self._interrupts.is_cancelled, token)
        around = Around(
            self._spec,
            parameters,
            claim.limits or "",
            claim.flow,
            claim.correlation,
            claim.traceparent,
            self._hand.notes,
        )
        return RunContext(claim.run_id, claim.task, self.attempt, token, look, self._hand.seat, around)

    def _claimed(self, kind: StateType) -> State[Any]:
        return State.trusted(kind, kind.capitalize(), parse_iso(self._claim.started))

    def _was_paused(self) -> bool:
        """True if the run was paused before: that it is here shows that somebody has resumed it."""
        return any(state.is_paused() for state in self._hand.history(self._claim.run_id))

    def _states_of(self, run_ids: Sequence[str]) -> Found:
        runs = self._hand.look_up(run_ids)
        return {run_id: run.state if isinstance(run, TaskRun) else None for run_id, run in runs.items()}

    def _delay(self) -> float:
        claim, spec = self._claim, self._spec
        delays = spec.retry_delays if claim.retry_delays is None else retries.from_text(claim.retry_delays)
        jitter = spec.retry_jitter_factor if claim.retry_jitter_factor is None else claim.retry_jitter_factor
        return retries.next_delay(delays, self.run_count, self.crashes, jitter)

    def _end(self, state: State[Any], at: datetime) -> State[Any]:
        claim, spec = self._claim, self._spec
        delay = delay_of(state, at)
        ttl = claim.result_ttl if claim.result_ttl is not None else spec.result_ttl
        persists = claim.persist_result if claim.persist_result is not None else spec.persist_result
        outcome = outcome_of(state, self._settings, persist_result=persists, result_ttl=ttl, delay=delay)
        if self.cached:
            outcome = outcome._replace(cached=self.cached)
        self.report = Report(claim.run_id, self._token, outcome)
        if outcome.state_type != state.type:  # its value cannot be stored
            return Failed(message=outcome.message)
        return state

    def _restart(self, state: State[Any]) -> State[Any] | None:
        """The state of the next attempt, or None where there is none: the run is being cancelled."""
        outcome = outcome_of(state, self._settings)
        recorded = self._hand.restart(self._claim.run_id, self._token, outcome)
        if recorded.tag == "CANCELLING":
            return None
        if recorded.tag != "OK":
            why = "it waits for a slot" if recorded.tag == "FULL" else f"its attempt was not begun: {recorded.tag}"
            raise Fenced(why)
        self._token, self.attempt, self.run_count = recorded.token, recorded.attempt, recorded.run_count
        return State.trusted(StateType.RUNNING, recorded.state_name, parse_iso(recorded.state_time), state.message)
