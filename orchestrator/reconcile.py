"""Mends what the doctor finds and one call can mend: runs, rows of indexes, counters. What else is wrong stays so.

# Nothing is decided here: each step is a script that looks at the record once more, and leaves alone what is in order
# by then. A run that moved while it was looked at is no finding, so nothing is done about it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.doctor import Diagnosis, Findings, diagnosed, find
from orchestrator.invariants import COUNTERS, RECONCILE, Violation
from shared.ledger import RunLedger
from shared.seen import Census, Needed, Stray
from shared.snapshot import count_states
from shared.state_types import TERMINAL_STATES, StateType
from shared.transport import Transport
from shared.upkeep import Recount

AT_ONCE: Final = 200
"""Runs in one call, which reads their queues from one end to the other while Redis does nothing else."""
ROUNDS: Final = 3
_COUNTED: Final = frozenset(state.value for state in StateType if state not in TERMINAL_STATES)
COUNTS: Final = 5
"""How often runs are counted until two counts, with no transition in between, agree."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What can be mended of an examination's findings."""

    ids: Sequence[str]
    strays: Sequence[Stray]
    needed: Sequence[Needed]
    counters: bool

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to do."""
        return not (self.ids or self.counters)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, what was done about it to each id, in words, and what is left."""

    found: Diagnosis
    done: Mapping[str, Sequence[str]]
    counters: Sequence[Recount]
    """Counters that were written anew: what was counted, and how many runs there are."""
    left: Diagnosis


def planned(findings: Findings) -> Plan:
    """What can be mended of these."""
    mendable = [violation for violation in findings.violations if is_mendable(violation)]
    ids = sorted({run_id for violation in mendable for run_id in violation.ids})
    strays = sorted({violation.stray for violation in mendable if violation.stray})
    needed = sorted({violation.needed for violation in mendable if violation.needed})
    return Plan(ids, strays, needed, any(violation.invariant == COUNTERS for violation in mendable))


def is_mendable(violation: Violation) -> bool:
    """True if a call of `reconcile` mends at least a part of it."""
    return violation.repair.startswith(RECONCILE)


def reconcile(transport: Transport, ledger: RunLedger, pause: Callable[[], object]) -> Report:
    """Look at everything, mend what can be mended, and look again; more than once, since one fault may hide another.

    Raises:
        RedisUnavailable: no answer, or this user may not scan.
        StorageFull: Redis cannot take writes.
    """
    found, plan = _looked(transport, pause)
    left, done, counters = found, dict[str, list[str]](), list[Recount]()
    for _ in range(ROUNDS):
        mended = _mended(ledger, plan)
        written = _recounted(transport, ledger, pause) if plan.counters else []
        if not (mended or written):
            break
        for run_id, words in mended.items():
            done.setdefault(run_id, []).extend(words)
        counters += written
        left, plan = _looked(transport, pause)
    return Report(found, done, counters, left)


def _looked(transport: Transport, pause: Callable[[], object]) -> tuple[Diagnosis, Plan]:
    findings = find(transport, pause)
    return diagnosed(findings), planned(findings)  # without all that was read


def _mended(ledger: RunLedger, plan: Plan) -> dict[str, list[str]]:
    done: dict[str, list[str]] = {}
    # Before the runs: whether somebody needs a result decides about its lifetime.
    for needed, is_written in zip(plan.needed, ledger.write_needs(plan.needed), strict=True):
        if is_written:
            done[needed.run_id] = [f"needed by {needed.found}, not {needed.counted or 0}"]
    # From the last to the first: what is put back goes to the heads of queues, where the oldest shall be.
    for start in reversed(range(0, len(plan.ids), AT_ONCE)):
        page = plan.ids[start : start + AT_ONCE]
        for run_id, words in zip(page, ledger.reconcile(page), strict=True):
            if words:
                done.setdefault(run_id, []).append(words)
    # After the runs: one that a worker of RQ's took lies in its queue again before it is nowhere else.
    for stray, is_struck in zip(plan.strays, ledger.strike(plan.strays), strict=True):
        if is_struck:
            done.setdefault(stray.run_id or stray.member, []).append(f"taken out of {stray.key}")
    return done


def _recounted(transport: Transport, ledger: RunLedger, pause: Callable[[], object]) -> list[Recount]:
    """The counters that were written; none if no moment was quiet enough."""
    before: Census | None = None
    for _ in range(COUNTS):
        pause()
        census = count_states(transport)
        if census.quiet and census == before:
            counters = [_recount(name, census) for name in sorted({*census.counters, *_COUNTED})]
            wrong = [one for one in counters if (one.counted or "0") != str(one.found) or one.state not in _COUNTED]
            if not wrong or ledger.recount(counters):
                return wrong
        before = census
    return []


def _recount(name: str, census: Census) -> Recount:
    text, found = census.counters.get(name, ""), census.states.get(name, 0)
    if name not in _COUNTED:
        return Recount(name, text, 0)
    # A run that cannot be read may be in any state: within that doubt a counter is left as it is.
    doubtful = int(text) if text.removeprefix("-").isdecimal() else found
    return Recount(name, text, min(max(doubtful, found), found + census.unreadable))
