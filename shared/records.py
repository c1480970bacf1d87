"""What is stored of a run, read: which keys to ask for, and how the answers become a TaskRun or FlowRun. No I/O.

# The answers come one after the other, so a transition may lie between two of them. What does not fit together is
# `Torn`, and is read again: nothing is ever put together from two states.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from shared import codec, keys
from shared.clock import parse_iso
from shared.codec_types import refuse_type, register_type
from shared.errors import BadEnvelope
from shared.exceptions_as_data import ExceptionData
from shared.naming import tags_in
from shared.references import bare, named_in
from shared.results import ResultRecord, ResultRecordMetadata, ResultSource
from shared.retries import from_text
from shared.runs import BaseRunFuture, FlowRun, RunInput, TaskRun
from shared.state_types import TERMINAL_STATES, StateType
from shared.states import State, StateDetails
from shared.stored_states import dump_state, load_state
from shared.transport import Command

ANSWERS = 4
"""Answers per run, to the commands of `reading`."""

register_type(State, name="baton.state", dump=dump_state, load=load_state)
refuse_type(BaseRunFuture, "a future cannot be sent: pass its result, or its run_id")


class Torn(Exception):
    """The record changed while it was read."""


def reading(run_id: str, inline_limit: int) -> list[Command]:
    """The commands that read a run whole, with its result up to `inline_limit` bytes."""
    return [
        ("LINDEX", keys.run_part(run_id, "history"), -1),
        ("HGETALL", keys.job(run_id)),
        ("GETRANGE", keys.run_part(run_id, "result"), 0, max(inline_limit - 1, 0)),
        ("GET", keys.run_part(run_id, "traceback")),
    ]


def record(
    run_id: str, answers: Sequence[Any], inline_limit: int, max_result: int, source: Callable[[str], ResultSource]
) -> TaskRun | None:
    """The run that the answers tell of, or None if there is none. `max_result` is the bytes of a value, decompressed.

    Raises:
        Torn: it changed in between; read again.
        BadEnvelope: what is stored there is no run.
    """
    for answer in answers:
        if isinstance(answer, Exception):
            raise BadEnvelope(f"run {run_id}: {answer}")
    row_text, flat, result, traceback = answers
    if not flat:
        return None
    fields = _fields(flat)
    if row_text is None:
        raise Torn(
            run_id
        )  # asked for before the run was accepted; a history that is lost stays so, and is told in the end
    row = _row(run_id, row_text)
    if str(row.get("seq")) != fields.get("seq"):
        raise Torn(run_id)
    data = _data(run_id, fields, result, traceback, inline_limit, max_result, source)
    return _run(run_id, fields, _state(run_id, fields, row, data))


def with_inputs(run: TaskRun, envelope: Any, limit: int) -> TaskRun:
    """The run with the parameters in this envelope, and with the runs that they name; None for what cannot be read."""
    try:
        sent = codec.decode_parameters(envelope if isinstance(envelope, bytes) else b"", limit=limit)
    except BadEnvelope:
        sent = None
    told = named_in(sent or {}, run.parent)
    inputs = {
        name: tuple(RunInput("flow" if run_id == run.flow else "task", run_id) for run_id in ids)
        for name, ids in told.items()
    }
    return replace(run, parameters=None if sent is None else bare(sent), task_inputs=inputs)


def state_of_row(run_id: str, text: bytes) -> State[Any]:
    """The state that a history row tells of.

    Raises:
        BadEnvelope: it is no such row.
    """
    return _state(run_id, {}, _row(run_id, text), None)


def _fields(flat: Sequence[bytes]) -> dict[str, str]:
    texts = [part.decode(errors="replace") for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _row(run_id: str, text: bytes) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise BadEnvelope(f"run {run_id}: its history holds no readable row: {error}") from None
    if not isinstance(row, dict):
        raise BadEnvelope(f"run {run_id}: its history holds no row but {row!r}")
    return row


def _state(run_id: str, fields: dict[str, str], row: dict[str, Any], data: Any) -> State[Any]:
    try:
        kind = StateType(row["type"])
        due = parse_iso(row["due"]) if "due" in row else None
        details = StateDetails.trusted(
            **{"flow_run_id" if fields.get("kind") == "flow" else "task_run_id": run_id},
            scheduled_time=due if kind in (StateType.SCHEDULED, StateType.PENDING) else None,
            pause_timeout=due if kind is StateType.PAUSED else None,
            seq=row["seq"],
            attempt=row.get("attempt"),
            worker=row.get("worker"),
            actor=row.get("actor"),
            cache_error=fields.get("cache_error"),
            cached_from=fields.get("cached_from"),
        )
        return State.trusted(
            kind, row["name"], parse_iso(row["time"]), row.get("message"), data=data, state_details=details
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadEnvelope(f"run {run_id}: a row of its history is unreadable: {error!r}") from None


def _data(
    run_id: str,
    fields: dict[str, str],
    result: bytes,
    traceback: bytes | None,
    inline_limit: int,
    max_result: int,
    source: Callable[[str], ResultSource],
) -> Any:
    size = _size(run_id, fields.get("result", "0"))
    if not size or fields.get("state_type") not in TERMINAL_STATES:
        return None
    metadata = ResultRecordMetadata(storage_key=keys.run_part(run_id, "result"), run_id=run_id)
    if size > inline_limit or not result:
        # Too long to come along, or gone before the run: whoever asks for it hears which.
        return metadata.bound_to(source(run_id))
    if len(result) != size:
        raise Torn(run_id)
    return ResultRecord(metadata, result_value(result, traceback, max(size, max_result)))


def _size(run_id: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadEnvelope(f"run {run_id}: its result has {text!r} bytes") from None


def result_value(result: bytes, traceback: bytes | None, limit: int) -> Any:
    """The value in a result's envelope; of an exception its description, with the traceback that lies beside it.

    Raises:
        BadEnvelope: the envelope is damaged.
    """
    value = codec.decode(result, limit=limit)
    if isinstance(value, ExceptionData) and traceback is not None:
        return ExceptionData(
            value.type_name, value.message, value.arguments, traceback.decode(errors="replace"), value.is_interrupt
        )
    return value


def _run(run_id: str, fields: dict[str, str], state: State[Any]) -> TaskRun:
    def moment(name: str) -> Any:
        return parse_iso(fields[name]) if fields.get(name) else None  # RQ's tools write empty ones

    kind = FlowRun if fields.get("kind") == "flow" else TaskRun
    try:
        return kind(
            id=run_id,
            task=fields["task"],
            name=fields.get("name") or fields["task"].rpartition(".")[2],
            queue=fields["origin"],
            state=state,
            seq=int(fields["seq"]),
            attempt=int(fields.get("attempt", 0)),
            run_count=int(fields.get("run_count", 0)),
            crashes=int(fields.get("crashes", 0)),
            max_retries=int(fields["max_retries"]) if "max_retries" in fields else None,
            retry_delays=from_text(fields["retry_delays"]) if "retry_delays" in fields else None,
            retry_jitter_factor=float(fields["retry_jitter_factor"]) if "retry_jitter_factor" in fields else None,
            parent=fields.get("parent"),
            flow=fields.get("flow"),
            worker=fields.get("worker_name"),
            created=moment("created_at"),
            expected_start=moment("expected_start") or moment("created_at"),
            start_time=moment("start_time"),
            end_time=moment("ended_at") if state.is_final() else None,
            total_run_time=float(fields.get("total_run_time", 0)),
            error=fields.get("error"),
            tags=tags_in(fields.get("limits", "")),
            correlation=fields.get("correlation"),
            traceparent=fields.get("traceparent"),
            progress=fields.get("progress"),
            rolled_back="rolled_back" in fields,
        )
    except (KeyError, ValueError) as error:
        raise BadEnvelope(f"run {run_id}: its record is unreadable: {error!r}") from None
