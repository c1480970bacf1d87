"""What came of a run, as text and as JSON: its result, or why there is none. No I/O; takes whatever is stored."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any, Final

from orchestrator.cli.common import WHOLE, clean
from shared import codec
from shared.details import Details
from shared.errors import BadEnvelope
from shared.exceptions_as_data import ExceptionData
from shared.settings import Settings
from shared.state_types import TERMINAL_STATES, StateType
from shared.texts import shown

_NOT_KEPT: Final = "its result was not kept, or is no longer stored"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended. `error` says why there is no result, None if there is one."""

    run_id: str
    state: str | None
    value: Any
    error: str | None

    @property
    def text(self) -> str:
        """The result for people: a text as it is, anything else as Python writes it."""
        return clean(self.value if isinstance(self.value, str) else shown(self.value, WHOLE), WHOLE)

    def document(self) -> dict[str, Any]:
        """The ending for `--json`."""
        value = as_json(self.value) if self.error is None else None
        return {"id": self.run_id, "state": self.state, "result": value, "error": self.error}


def ending_of(run: Details, settings: Settings) -> Ending:
    """How this run ended, or that it has not."""
    state = run.fields.get("state_type")
    if state not in TERMINAL_STATES:
        return Ending(run.id, state, None, f"run {run.id} has not ended: it is {state or 'unreadable'}")
    if run.result is None:
        why = run.unreadable.get("result") or (_NOT_KEPT if state == StateType.COMPLETED else _told(run))
        return Ending(run.id, state, None, f"{state}: {why}")
    try:
        value = codec.decode(run.result, limit=settings.max_result)
    except BadEnvelope as error:
        return Ending(run.id, state, None, f"{state}: its result cannot be read: {error}")
    if isinstance(value, ExceptionData):
        return Ending(run.id, state, None, f"{state}: {value.type_name}: {value.message}")
    return Ending(run.id, state, value, None if state == StateType.COMPLETED else f"{state}: {_told(run)}")


def _told(run: Details) -> str:
    return run.fields.get("error") or run.fields.get("state_message") or "no reason is told"


def as_json(value: Any) -> Any:
    """The value as JSON has it: times as ISO text, what JSON does not have as Python writes it."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: as_json(item) for key, item in value.items()}
    return value.isoformat() if isinstance(value, date | time) else shown(value, WHOLE)
