"""What a call of a task becomes when it is submitted: a NewRun with the options that a worker cannot know. No I/O."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared import codec, retries
from shared.clock import to_epoch
from shared.codec_walk import is_plain
from shared.commands import NewRun
from shared.errors import HashError, InvalidCall, InvalidValue, LimitExceeded, WouldDeadlock
from shared.ids import new_id
from shared.naming import default_name, limits_of, own_limit
from shared.references import WAIT_FOR, refer, references_in
from shared.runs import BaseRunFuture
from shared.settings import Settings
from shared.specs import DEFAULTS, HOOKS, TRANSACTION_HOOKS, FlowSpec, TaskSpec, registry
from shared.states import State
from shared.transport import Argument
from worker.context import current_context, current_tags, inherited

MOST_UPSTREAMS: Final = 10_000
_CODE: Final = (
    *HOOKS,
    *TRANSACTION_HOOKS,
    "retry_condition_fn",
    "task_run_name",
    "log_prints",
    "trigger",
    "state_handlers",
    "cache_policy",
    "cache_key_fn",
)
"""Options that a worker takes from its own registry alone."""
Check = Callable[[Any], None]
"""Called with each future and state among the arguments; may refuse it."""


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """Options that belong to one submit, not to a task. `delay` is in seconds, or the time until which it waits."""

    delay: float | datetime | None = None
    at_front: bool = False
    idempotency_key: str | None = None
    unique: str | None = None


_USUAL: Final = SubmitOptions()


def options_of(task: object) -> SubmitOptions:
    """Those that `with_options` gave a task, and nothing special for anything else that is submitted."""
    options = getattr(task, "options", None)
    return options if isinstance(options, SubmitOptions) else _USUAL


def awaited(wait_for: Any) -> list[Any]:
    """What `wait_for` was given, as a list."""
    if wait_for is None:
        return []
    return [wait_for] if isinstance(wait_for, BaseRunFuture | State) else list(wait_for)


def new_run(
    key: str,
    queue: str,
    parameters: Mapping[str, Any],
    settings: Settings,
    *,
    options: SubmitOptions,
    spec: TaskSpec[..., Any] | None,
    wait_for: Iterable[Any] = (),
    check: Check,
) -> NewRun:
    """A run to be accepted. What it needs of other runs is sent as references to them.

    Raises:
        InvalidCall: an argument cannot be sent; names its path.
        InvalidValue: `unique` without a key.
        LimitExceeded: the arguments are too large, or name too many runs.
        WouldDeadlock: it would wait for the run that submits it.
    """
    sent: dict[str, Any] = dict(parameters)
    upstreams: list[str] = []
    others = list(wait_for)
    if others or not is_plain(sent, settings.max_parameters):
        sent = {name: refer(value, check) for name, value in sent.items()}
        if others:
            sent[WAIT_FOR] = references_in(refer(others, check))
        upstreams = list(dict.fromkeys(reference.run_id for reference in references_in(sent)))
    envelope = codec.encode(sent, limit=settings.max_parameters, where="parameters")
    handed_down = inherited()
    if handed_down.get("parent") in upstreams:
        raise WouldDeadlock("Discovered a task depending on itself. Raising to avoid a deadlock.")
    if len(upstreams) > MOST_UPSTREAMS:
        raise LimitExceeded(f"the arguments name {len(upstreams)} runs, at most {MOST_UPSTREAMS} are possible")
    fields = fields_of(spec) if spec is not None else {}
    fields |= handed_down
    run_id = new_id()
    if "flow" in handed_down:
        fields["name"] = default_name(spec.name if spec is not None else key.rpartition(".")[2], run_id, in_flow=True)
    tags = (spec.tags if spec is not None else ()) + current_tags()
    own = own_limit(key) if spec is not None and spec.limit is not None else None
    if tags or own:
        tags = tuple(dict.fromkeys(tags))
        fields["limits"], fields["ties"] = limits_of(tags, own), "1"
    ups: list[tuple[str, Argument]] = [("up", run_id) for run_id in upstreams]
    at = to_epoch(options.delay) if isinstance(options.delay, datetime) else None
    return NewRun(
        run_id,
        key,
        queue,
        envelope,
        None if isinstance(options.delay, datetime) else options.delay,
        options.at_front,
        fields,
        [*ups, *(("tag", tag) for tag in tags), *_other_ties(key, sent, spec, options)],
        at,
    )


def _other_ties(
    key: str, sent: Mapping[str, Any], spec: TaskSpec[..., Any] | None, options: SubmitOptions
) -> list[tuple[str, Argument]]:
    ties: list[tuple[str, Argument]] = []
    if spec is not None and spec.start_within is not None:
        ties.append(("within", f"{spec.start_within:g}"))
    if spec is not None and spec.limit is not None:
        ties.append(("slots", spec.limit))
    if options.idempotency_key is not None:
        ties.append(("idem", options.idempotency_key))
        ties.append(("digest", codec.digest([key, dict(sent)], where="parameters")))
        if options.unique is not None:
            ties.append(("unique", options.unique))
    elif options.unique is not None:
        raise InvalidValue("'unique' says how long an idempotency_key belongs to one run: give that too")
    else:
        ties += _again(key, sent)
    return ties


def _again(key: str, sent: Mapping[str, Any]) -> list[tuple[str, Argument]]:
    """What lets a flow that runs again find the run that it submitted by the same call before."""
    context = current_context()
    if context is None or context.calls is None:
        return []
    try:
        digest = codec.digest([key, dict(sent)], where="parameters")
    except HashError:
        return []
    return [("idem", context.calls.key(digest)), ("digest", digest), ("again", "1")]


_TOLD: Final[Mapping[str, Callable[[TaskSpec[..., Any]], Argument | None]]] = {
    "retry_delays": lambda spec: retries.to_text(spec.retry_delays) or "0",
    "retry_jitter_factor": lambda spec: spec.retry_jitter_factor or 0,
    "timeout_seconds": lambda spec: spec.timeout_seconds or 0,
    "persist_result": lambda spec: int(spec.persist_result),
    "result_ttl": lambda spec: spec.result_ttl,
    # Here 0 and '' stand for None, which the run has to tell as well.
    "cache_expiration": lambda spec: spec.cache_expiration or 0,
    "refresh_cache": lambda spec: "" if spec.refresh_cache is None else int(spec.refresh_cache),
    "result_storage_key": lambda spec: spec.result_storage_key or "",
}
"""Options that a run tells where they differ from those of its task, as fields of its hash; None is not told."""
_TIED: Final = frozenset({"cache_expiration", "refresh_cache", "result_storage_key"})
"""Those that scripts look for only where a run is marked."""


def fields_of(spec: TaskSpec[..., Any]) -> dict[str, Argument]:
    """What of a task's options the run itself must tell.

    `on_crash` and a run's name are read by scripts and people; the others only where they differ from what a worker
    finds in its own registry, that is where `with_options` changed them.

    Raises:
        InvalidCall: it has functions that do not travel, and that the task has not where it is registered.
    """
    usual = registry.get(spec.key)
    if usual is not spec:
        _refuse_code(spec, usual)
    return told_of(spec)


def told_of(spec: TaskSpec[..., Any]) -> dict[str, Argument]:
    """The same of a run that is executed here, with whatever functions it has."""
    usual = registry.get(spec.key)
    fields: dict[str, Argument] = {}
    if spec.name != spec.key.rpartition(".")[2]:
        fields["name"] = spec.name
    if spec.on_crash != "retry":
        fields["on_crash"] = spec.on_crash
    if spec.kind == "flow":
        fields |= {"kind": "flow", "ties": "1"}
    if spec.retries or (usual and usual.retries != spec.retries):
        fields["max_retries"] = spec.retries
    if usual is spec:
        return fields
    for name, told in _TOLD.items():
        if usual is None or getattr(usual, name) != getattr(spec, name):
            value = told(spec)
            if value is not None:
                fields[name] = value
    if not _TIED.isdisjoint(fields):
        fields["ties"] = "1"
    return fields


def _refuse_code(spec: TaskSpec[..., Any], usual: TaskSpec[..., Any] | None) -> None:
    for name in _CODE:
        if getattr(spec, name) != (getattr(usual, name) if usual else DEFAULTS[name]):
            raise InvalidCall(
                f"'{name}' is not that of the task '{spec.key}' as workers know it, since functions do not travel: "
                "give it to the decorator, add hooks before with_options, or run the task here with run_task"
            )
    if isinstance(spec, FlowSpec):
        for name in ("validate_parameters", "unfinished"):
            if getattr(spec, name) != getattr(usual, name, None):
                raise InvalidCall(
                    f"'{name}' of the flow '{spec.key}' is what its decorator says, wherever it is executed"
                )
