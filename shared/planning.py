"""The commands of schedules as data, and what a schedule submits; see `commands.py`. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from shared import codec, keys
from shared.commands import NewRun, Request, text
from shared.errors import BadEnvelope
from shared.scripts import SCRIPTS
from shared.transport import Argument

PlanChange = Literal["set", "pause", "resume", "delete", "skip"]
LARGEST_CALL: Final = 1_100_000
"""Bytes: the parameters at their largest, and what else belongs to a call."""
_OF_ITS_KEY: Final = frozenset({"idem", "digest", "unique", "again"})
_OF_ITS_PLACE: Final = frozenset({"parent", "flow", "outlives_flow", "correlation", "traceparent"})


def plan(
    what: PlanChange,
    schedule_id: str,
    *,
    due: str = "",
    next_due: str = "",
    call: bytes = b"",
    fields: Mapping[str, Argument] | None = None,
) -> Request[str]:
    """Make or change a schedule; see `plan.lua` for the answer. Times are seconds since 1970 as text."""
    given = fields or {}
    arguments: list[Argument] = [what, schedule_id, due, next_due, call, len(given)]
    for pair in given.items():
        arguments += pair
    key_names = [keys.SCHEDULES, keys.schedule(schedule_id), keys.schedule_call(schedule_id)]
    return Request(SCRIPTS["plan"], key_names, arguments, text)


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """What a schedule submits: a run without the id, the queue and the time of an occurrence."""

    task: str
    parameters: bytes
    fields: Mapping[str, Argument]
    ties: tuple[tuple[str, Argument], ...]

    @classmethod
    def of(cls, run: NewRun) -> "PlannedCall":
        """What this run is made of, for those that are to be made like it: by nobody, wherever the schedule was made.

        They would else end with the flow whose body made it. A name that a run has in a flow tells its own id.
        """
        ties = tuple((kind, value) for kind, value in run.ties if kind not in _OF_ITS_KEY)
        own = _OF_ITS_PLACE | {"name"} if "flow" in run.fields else _OF_ITS_PLACE
        return cls(run.task, run.parameters, {name: told for name, told in run.fields.items() if name not in own}, ties)

    def encoded(self) -> bytes:
        """As it is stored."""
        told = [self.task, self.parameters, dict(self.fields), [list(tie) for tie in self.ties]]
        return codec.encode(told, limit=LARGEST_CALL, where="schedule")


def planned_call(data: bytes) -> PlannedCall:
    """The inverse of `PlannedCall.encoded`.

    Raises:
        BadEnvelope: it cannot be read.
    """
    told: Any = codec.decode(data, limit=LARGEST_CALL)
    try:
        task, parameters, fields, ties = told
        read = PlannedCall(task, parameters, fields, tuple((kind, value) for kind, value in ties))
    except (TypeError, ValueError) as error:
        raise BadEnvelope(f"what a schedule submits cannot be read: {error}") from None
    if not (isinstance(task, str) and isinstance(parameters, bytes) and isinstance(fields, dict)):
        raise BadEnvelope("what a schedule submits cannot be read: it is no call")
    return read
