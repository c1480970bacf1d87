"""One attempt on the fleet: from the claim that a cycle brought to the report that the next cycle takes.

Reads top to bottom: task and parameters, engine, proposals, report.
"""

import logging
from datetime import datetime
from typing import Any

from shared import codec, retries
from shared.clock import now, parse_iso
from shared.commands import Claim, Report
from shared.errors import BadEnvelope, Fenced, TaskNotRegistered
from shared.reporting import outcome_of
from shared.rules import Facts, Kind, LastEnd, OnCrash, decide
from shared.settings import Settings
from shared.specs import TaskSpec, registry
from shared.state_types import StateType
from shared.states import Failed, State
from shared.texts import printable
from worker.context import RunContext
from worker.engine.drivers import SyncTaskRunEngine
from worker.hand import Hand
from worker.page import Page

log = logging.getLogger("baton.worker")
_OWN = Facts("attempt", held=True)


def execute(claim: Claim, hand: Hand, page: Page, settings: Settings) -> Report | None:
    """Execute an attempt; what to report, or None if it has been fenced: another process owns the run now."""
    page.enter(claim.run_id)
    try:
        report = _execute(claim, hand, settings)
    except Fenced as error:
        log.warning("run %s: %s", claim.run_id, error)
        report = None
    # Not in a `finally`: a process that ends by an error in here ends in this run, and its supervisor should see that.
    page.leave()
    return report


def _execute(claim: Claim, hand: Hand, settings: Settings) -> Report | None:
    try:
        spec = registry.find(claim.task)
        parameters = codec.decode_parameters(claim.parameters or b"", limit=settings.max_parameters)
    except TaskNotRegistered as error:
        return _not_called(claim, Failed(name="UnknownTask", message=str(error), data=error), settings)
    except BadEnvelope as error:
        message = printable(f"Parameters could not be read: {type(error).__name__}: {error}")
        return _not_called(claim, Failed(message=message, data=error), settings)
    attempt = Attempt(claim, spec, hand, settings)
    seconds = claim.timeout if claim.timeout is not None else spec.timeout_seconds
    SyncTaskRunEngine(spec, parameters, seconds).run(attempt.propose, attempt.context)
    return attempt.report


def _not_called(claim: Claim, state: State[Any], settings: Settings) -> Report:
    """The report of an attempt whose body cannot be called: it ends the run, a retry would end the same way."""
    return Report(claim.run_id, claim.token, outcome_of(state, settings))


class Attempt:
    """A run's attempts in this process, before the rules: takes what the engine proposes, says what now holds."""

    # What the rules ask of any run, and what of a running task is always the same.
    kind: Kind = "task"
    last_end: LastEnd = ""
    outlives_flow = False
    pause_keys = ()

    def __init__(self, claim: Claim, spec: TaskSpec[..., Any], hand: Hand, settings: Settings) -> None:
        self.state: State[Any] | None = None
        self.attempt = claim.attempt
        self.run_count = claim.run_count
        self.crashes = claim.crashes
        self.retries = claim.max_retries if claim.max_retries is not None else spec.retries
        self.crash_budget = settings.crash_budget
        self.on_crash: OnCrash = spec.on_crash
        self.flow = claim.flow
        self.report: Report | None = None
        self._claim = claim
        self._token = claim.token
        self._spec = spec
        self._hand = hand
        self._settings = settings

    def propose(self, state: State[Any]) -> State[Any]:
        """The state that holds after this proposal. What ends the attempt is left as its report.

        Raises:
            Fenced: the run is another's now.
        """
        if self.state is None:
            # The cycle that brought this run recorded RUNNING in the step that took it from its queue.
            self.state = State.trusted(StateType.RUNNING, "Running", parse_iso(self._claim.started))
            return self.state
        at = now()
        facts = Facts("attempt", held=True, delay=self._delay()) if state.is_failed() else _OWN
        verdict = decide(self, state, facts, at)
        if verdict.state is None:
            raise AssertionError(f"{state!r} was proposed for a running attempt: {verdict.reason}")
        if verdict.state.is_running():
            self.state = self._restart(verdict.state) or self._end(state, at)
        else:
            self.state = self._end(verdict.state, at)
        return self.state

    def context(self) -> RunContext:
        """What the body of the present attempt may ask."""
        return RunContext(self._claim.run_id, self._claim.task, self.attempt, int(self._token))

    def _delay(self) -> float:
        text = self._claim.retry_delays
        delays = self._spec.retry_delays if text is None else retries.from_text(text)
        number = max(0, self.run_count - self.crashes - 1)
        return retries.retry_delay(delays, number, self._spec.retry_jitter_factor)

    def _end(self, state: State[Any], at: datetime) -> State[Any]:
        claim, spec = self._claim, self._spec
        due = state.state_details.scheduled_time if state.is_scheduled() else None
        delay = max(0.0, (due - at).total_seconds()) if due else 0.0
        ttl = claim.result_ttl if claim.result_ttl is not None else spec.result_ttl
        outcome = outcome_of(state, self._settings, persist_result=spec.persist_result, result_ttl=ttl, delay=delay)
        self.report = Report(claim.run_id, self._token, outcome)
        return state

    def _restart(self, state: State[Any]) -> State[Any] | None:
        """The state of the next attempt, or None where there is none: the run is being cancelled."""
        outcome = outcome_of(state, self._settings)
        recorded = self._hand.restart(self._claim.run_id, self._token, outcome)
        if recorded.tag == "CANCELLING":
            return None
        if recorded.tag != "OK":
            raise Fenced(f"its next attempt was not begun: {recorded.tag}")
        self._token, self.attempt, self.run_count = recorded.token, recorded.attempt, recorded.run_count
        return State.trusted(StateType.RUNNING, recorded.state_name, parse_iso(recorded.state_time), state.message)
