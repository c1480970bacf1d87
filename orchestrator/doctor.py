"""Examines what is in Redis: which invariants are broken, and stay broken when looked at again. Repairs nothing.

# Under load a scan finds runs half way between two places. A violation is what the first look finds and every further
# look finds again, the last one for certain: of a run that moved while a look was taken, that look says nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.invariants import CONSUMERS, COUNTERS, INVARIANTS, Violation, violations
from shared.seen import Snapshot
from shared.snapshot import take, take_again
from shared.transport import Transport

LOOKS: Final = 3
"""How often what looks wrong is looked at again."""
QUIET_COUNTS: Final = 2
"""How many counts without a transition in between must agree on what is wrong with the counters."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What an examination found; without violations all is well."""

    violations: tuple[Violation, ...]
    runs: int
    states: Mapping[str, int]
    """Runs in each state, of those that can be read."""
    queues: int
    workers: int
    compared_counters: bool
    """False if no moment was quiet enough to compare the counters with a recount."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What an examination found, one violation for each run and fault, and the look that it began with."""

    violations: frozenset[Violation]
    first: Snapshot
    compared_counters: bool


def examine(transport: Transport, pause: Callable[[], object]) -> Diagnosis:
    """Look at everything, and up to three times again at what looks wrong, with a pause before each.

    Raises:
        RedisUnavailable: no answer, or this user may not scan.
    """
    return diagnosed(find(transport, pause))


def find(transport: Transport, pause: Callable[[], object]) -> Findings:
    """As `examine`, with each violation by itself.

    Raises:
        RedisUnavailable: as for `examine`.
    """
    first = take(transport)
    suspects = set(violations(first))
    counting = not _is_quiet(first) or bool(_of(suspects, COUNTERS))
    suspects -= _of(suspects, COUNTERS)
    moved: frozenset[str] = frozenset()
    counts: list[set[Violation]] = []
    for _ in range(LOOKS):
        if not (suspects or counting):
            break
        pause()
        look = take_again(transport, _names(suspects), count=counting, needs=bool(_of(suspects, CONSUMERS)))
        found = set(violations(look))
        suspects &= found
        moved = look.moved
        if counting and _is_quiet(look):
            counts.append(_of(found, COUNTERS))
            counting = bool(counts[-1])
    agreed = set.intersection(*counts) if len(counts) >= QUIET_COUNTS else set()
    certain = {violation for violation in suspects if moved.isdisjoint((*violation.ids, *violation.witnesses))}
    return Findings(frozenset(certain | agreed), first, not counting or len(counts) >= QUIET_COUNTS)


def _is_quiet(snapshot: Snapshot) -> bool:
    return snapshot.census is not None and snapshot.census.quiet


def _of(found: Iterable[Violation], invariant: str) -> set[Violation]:
    return {violation for violation in found if violation.invariant == invariant}


def _names(found: Iterable[Violation]) -> set[str]:
    return {name for violation in found for name in (*violation.ids, *violation.witnesses)}


def diagnosed(findings: Findings) -> Diagnosis:
    """What was found, for people."""
    first = findings.first
    runs = sum(run.is_ours for run in first.runs.values())
    states = first.census.states if first.census else {}
    found = merged(findings.violations)
    return Diagnosis(found, runs, states, len(first.queues), len(first.leases), findings.compared_counters)


def merged(found: Iterable[Violation]) -> tuple[Violation, ...]:
    """The violations in the order of the invariants; those that differ in their ids alone become one."""
    ids: dict[tuple[str, str, str], set[str]] = {}
    for one in found:
        ids.setdefault((one.invariant, one.what, one.repair), set()).update(one.ids)
    order = [invariant.name for invariant in INVARIANTS]
    whole = [Violation(name, tuple(sorted(members)), what, repair) for (name, what, repair), members in ids.items()]
    return tuple(sorted(whole, key=lambda one: (order.index(one.invariant), one.what, one.repair)))
