"""One run as it is stored, whole and not decoded, and the ids that a prefix may mean. For people; judges nothing.

Unlike `RunLedger.get` this shows a damaged run too: what Redis does not read is noted, what is odd is passed on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared import keys
from shared.ids import is_id
from shared.pages import key_names, stored_parts
from shared.run_fields import row_of
from shared.settings import Settings
from shared.transport import Transport
from shared.walks import bytes_of, fields_of, text_of

_TRIES: Final = 5
_ROOM: Final = 64
"""Bytes above a limit that are read too, so that what is too long is seen to be."""
_TRACEBACK_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Details:
    """What is stored of a run. Parts that are not there are None, or empty."""

    id: str
    fields: Mapping[str, str]
    lifetime: int | None
    """Seconds left, None for no end."""
    history: tuple[str, ...]
    parameters: bytes | None
    result: bytes | None
    traceback: str | None
    unreadable: Mapping[str, str]
    """Parts that Redis does not read as what they should be, with what it says."""


def ids_like(transport: Transport, prefix: str, most: int) -> list[str]:
    """Ids of runs that begin so, sorted, `most` of them at most. The prefix holds only what ids hold.

    Raises:
        RedisUnavailable: no answer, or this user may not scan.
    """
    found: set[str] = set()
    for key in key_names(transport, f"{keys.JOB}{prefix}*"):
        run_id = key[len(keys.JOB) :]
        if is_id(run_id):
            found.add(run_id)
            if len(found) == most:
                break
    return sorted(found)


def details(transport: Transport, run_id: str, settings: Settings) -> Details | None:
    """What is stored of a run, None if nothing is.

    Raises:
        RedisUnavailable: no answer.
    """
    for _ in range(_TRIES):
        found = _read(transport, run_id, settings)
        if found is None or _is_of_one_moment(found):
            break
    return found


def _is_of_one_moment(found: Details) -> bool:
    """False if the run changed between two of the answers, or is damaged."""
    last = row_of(bytes_of(found.history[-1])) if found.history else ""
    return not isinstance(last, str) and str(last.seq) == found.fields.get("seq")


def _read(transport: Transport, run_id: str, settings: Settings) -> Details | None:
    most = {"parameters": settings.max_parameters, "result": settings.max_result, "traceback": _TRACEBACK_BYTES}
    answers = stored_parts(transport, run_id, {part: size + _ROOM for part, size in most.items()})
    unreadable = {name: str(answer) for name, answer in answers.items() if isinstance(answer, Exception)}
    answers.update(dict.fromkeys(unreadable))
    if not (answers["record"] or answers["history"] or answers["parameters"] or unreadable):
        return None
    lifetime, traceback = answers["lifetime"], answers["traceback"]
    return Details(
        id=run_id,
        fields=fields_of(answers["record"] or ()),
        lifetime=lifetime if lifetime is not None and lifetime >= 0 else None,
        history=tuple(map(text_of, answers["history"] or ())),
        parameters=answers["parameters"] or None,
        result=answers["result"] or None,
        traceback=text_of(traceback) if traceback else None,
        unreadable=unreadable,
    )
