"""One run as a page of text and as a JSON document. No I/O; never fails, however damaged the run is."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from orchestrator.cli.cells import is_usual, state_label
from orchestrator.cli.common import WHOLE, block, line
from orchestrator.cli.output import aligned
from orchestrator.cli.spans import span
from shared import clock, codec
from shared.details import Details
from shared.errors import BadEnvelope, InvalidValue
from shared.exceptions_as_data import ExceptionData
from shared.naming import tags_in
from shared.settings import Settings
from shared.texts import cut, shown

PREVIEW_BYTES = 2048
"""The most of a value that the page shows."""
MESSAGE = 200
"""Characters of a message in the table of the history."""
HISTORY = ("seq", "state", "type", "time", "gap", "attempt", "worker", "message")
"""Columns of the table of the history."""


def page(run: Details, settings: Settings) -> Iterator[str]:
    """The run for people, line by line."""
    for name, text in _facts(run):
        if text:
            yield f"{name:<10} {line(text)}"
    for name, value in (("parameters", _parameters(run, settings)), ("result", _result(run, settings))):
        if value:
            yield f"\n{name}"
            yield block(_preview(value))
    if run.traceback:
        yield "\ntraceback"
        yield block(run.traceback)
    yield "\nhistory"
    for cells in aligned([HISTORY, *history_table(run)]):
        yield f"    {cells}"
    for part, error in run.unreadable.items():
        yield f"\n{part} cannot be read: {line(error)}"


def document(run: Details, settings: Settings) -> dict[str, Any]:
    """The run for `--json`. Times and names are as stored; what is not there is null."""
    field = run.fields.get
    return {
        "id": run.id,
        "kind": field("kind", "task"),
        "task": field("task"),
        "name": _name(run),
        "queue": field("origin"),
        "state": {
            "type": field("state_type"),
            "name": field("state_name"),
            "message": _message(run),
            "time": field("state_time"),
            "seq": _number(field("seq")),
        },
        "attempt": _number(field("attempt", "0")),
        "run_count": _number(field("run_count", "0")),
        "crashes": _number(field("crashes", "0")),
        "max_retries": _number(field("max_retries")),
        "worker": field("worker_name"),
        "parent": field("parent"),
        "flow": field("flow"),
        "correlation": field("correlation"),
        "tags": list(tags_in(field("limits", ""))),
        "progress": field("progress"),
        "created": field("created_at"),
        "expected_start": field("expected_start", field("created_at")),
        "start_time": field("start_time"),
        "end_time": field("ended_at"),
        "total_run_time": _number(field("total_run_time", "0")),
        "seconds_kept": run.lifetime,
        "parameters": _parameters(run, settings),
        "result": _result(run, settings),
        "error": field("error"),
        "traceback": run.traceback,
        "history": [history_row(text) for text in run.history],
        "fields": dict(run.fields),
        "unreadable": dict(run.unreadable),
    }


# --- facts ------------------------------------------------------------------------------------------------------------


def _facts(run: Details) -> Iterator[tuple[str, str]]:
    field = run.fields.get
    yield "run", run.id
    yield "task", field("task", "-")
    yield "name", _name(run) or "-"
    yield "queue", field("origin", "-")
    yield "state", _state(run)
    numbers = {"attempt": "attempt", "run_count": "run count", "crashes": "crashes", "max_retries": "retries"}
    yield "attempts", ", ".join(f"{word} {field(name, '0')}" for name, word in numbers.items() if name in run.fields)
    yield "worker", field("worker_name", "")
    for name in ("parent", "flow", "correlation"):
        yield name, field(name, "")
    yield "tags", " ".join(tags_in(field("limits", "")))
    yield "progress", field("progress", "")
    yield from _times(run)
    yield "kept", "" if run.lifetime is None else f"for another {span(run.lifetime)}"
    yield "error", field("error", "")


def _times(run: Details) -> Iterator[tuple[str, str]]:
    field = run.fields.get
    created, start = field("created_at", ""), field("start_time", "")
    yield "created", created
    yield "expected", _after(created, field("expected_start", ""), "created")
    yield "started", _after(created, start, "created")
    yield "ended", _after(start or created, field("ended_at", ""), "started" if start else "created")
    ran = _number(field("total_run_time"))
    yield "ran", "" if ran is None else f"{span(ran)} in all"


def _after(earlier: str, later: str, of: str) -> str:
    gap = _gap(earlier, later)
    return f"{later} ({gap} after it {'was created' if of == 'created' else 'started'})" if gap else later


def _name(run: Details) -> str | None:
    return run.fields.get("name") or run.fields.get("task", "").rpartition(".")[2] or None


def _state(run: Details) -> str:
    label, message = state_label(run.fields.get("state_type"), run.fields.get("state_name")), _message(run)
    return f"{label}: {message}" if message else label


def _message(run: Details) -> str | None:
    """The message of the present state: whole in the history, cut in the record."""
    last = history_row(run.history[-1]) if run.history else {}
    if str(last.get("seq")) == run.fields.get("seq") and "message" in last:
        return str(last["message"])
    return run.fields.get("state_message")


# --- values -----------------------------------------------------------------------------------------------------------


def _parameters(run: Details, settings: Settings) -> dict[str, Any] | None:
    return _value(run.parameters, lambda data: codec.decode_parameters(data, limit=settings.max_parameters))


def _result(run: Details, settings: Settings) -> dict[str, Any] | None:
    return _value(run.result, lambda data: codec.decode(data, limit=settings.max_result))


def _value(data: bytes | None, decode: Callable[[bytes], Any]) -> dict[str, Any] | None:
    """A stored value as text, or why it cannot be read; None if there is none."""
    if data is None:
        return None
    try:
        value = decode(data)
    except BadEnvelope as error:
        return {"bytes": len(data), "text": None, "error": str(error)}
    if isinstance(value, ExceptionData):
        return {"bytes": len(data), "text": f"{value.type_name}: {value.message}", "error": None}
    return {"bytes": len(data), "text": shown(value, WHOLE), "error": None}


def _preview(value: dict[str, Any]) -> str:
    if value["error"] is not None:
        return f"cannot be read: {value['error']} ({value['bytes']} bytes)"
    return cut(line(value["text"], PREVIEW_BYTES), PREVIEW_BYTES)


# --- history ----------------------------------------------------------------------------------------------------------


def history_row(text: str) -> dict[str, Any]:
    """A row of the history as it was written, or why it cannot be read."""
    try:
        row = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError) as error:
        return {"unreadable": f"{type(error).__name__}: {error}", "text": text}
    if isinstance(row, dict) and all(isinstance(value, str | int) for value in row.values()):
        return row
    return {"unreadable": "no JSON object of texts and whole numbers", "text": text}


def history_table(run: Details) -> Iterator[Sequence[str]]:
    """Rows of the table of the history, each transition with the time since the one before it."""
    before = run.fields.get("created_at", "")
    for text in run.history:
        row = history_row(text)
        if "unreadable" in row:
            yield ("?", "?", "", "", "", "", "", line(f"{row['unreadable']}: {text}", MESSAGE))
            continue
        name, kind, time = (str(row.get(key, "?")) for key in ("name", "type", "time"))
        cells = (row.get("seq", "?"), name, "" if is_usual(name, kind) else kind, time, _gap(before, time))
        more = (row.get("attempt", ""), row.get("worker", ""))
        yield (*(line(str(cell), 64) for cell in (*cells, *more)), line(str(row.get("message", "")), MESSAGE))
        before = time


# --- numbers and times ------------------------------------------------------------------------------------------------


def _number(text: str | None) -> float | None:
    """The number that a field holds; None if it holds none."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _gap(earlier: str, later: str) -> str:
    """`+1.5 s`; empty where one of the two is no time."""
    try:
        between: timedelta = _moment(later) - _moment(earlier)
    except InvalidValue:
        return ""
    seconds = between.total_seconds()
    return f"-{span(-seconds)}" if seconds < 0 else f"+{span(seconds)}"


def _moment(text: str) -> datetime:
    return clock.parse_iso(text)
