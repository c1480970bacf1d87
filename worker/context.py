"""What the code inside a run can ask about that run. Set around each attempt's body."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass, field, replace
from itertools import count
from traceback import format_exception
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from shared.errors import InvalidCall, MissingContextError
from shared.naming import tags_in
from shared.options import check_options
from shared.specs import FlowSpec, TaskSpec
from worker.notes import Notes

T = TypeVar("T")
NO_PARAMETERS: Final[Mapping[str, Any]] = MappingProxyType({})


class Around(NamedTuple):
    """What a run hands down to those that it submits, and what it was called with. `limits` are those of its record."""

    spec: TaskSpec[..., Any] | None = None
    parameters: Mapping[str, Any] = NO_PARAMETERS
    limits: str = ""
    flow: str | None = None
    correlation: str | None = None
    traceparent: str | None = None
    notes: Notes | None = None


_NOTHING: Final = Around()


class Calls:
    """How often an attempt of a flow's body has submitted each call. For any number of threads, without a lock."""

    def __init__(self, flow_run_id: str) -> None:
        self._prefix = f"flow:{flow_run_id.replace('-', '')}"
        self._counts: dict[str, count[int]] = {}

    def key(self, digest: str) -> str:
        """The idempotency key of the next call with this digest: the same in each attempt that comes this far.

        At most 64 characters, which a run's hash keeps compact.
        """
        number = next(self._counts.setdefault(digest, count(1)))
        return f"{self._prefix}:{digest[:16]}:{number}"


@dataclass(frozen=True, slots=True)
class RunContext:
    """The run around the calling code. `task` is the key of its task.

    `attempt` counts from 1. `fence` grows with every attempt: other systems can refuse by it what an earlier attempt of
    the run still sends.
    """

    run_id: str
    task: str
    attempt: int
    fence: int
    look: Callable[[], bool] = field(default=lambda: False, compare=False, repr=False)
    seat: tuple[str, str] | None = field(default=None, compare=False, repr=False)
    """The worker that it runs in, and the address of the Redis in which that has its lease."""
    around: Around = field(default=_NOTHING, compare=False, repr=False)
    calls: Calls | None = field(default=None, compare=False, repr=False)
    """Counts what the body of a flow submits; None everywhere else."""
    task_loop_count: int = field(default=1, compare=False, repr=False)
    """Which call of the function in its loop this is, from 1; see `worker.signals.LOOP`."""
    task_loop_result: Any = field(default=None, compare=False, repr=False)
    """What the last LOOP gave as its result."""

    @property
    def spec(self) -> TaskSpec[..., Any] | None:
        """The description of the task, with the options that this run has."""
        return self.around.spec

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The arguments by name, defaults among them, with the results of other runs in their places."""
        spec, given = self.around.spec, self.around.parameters
        return given if spec is None else spec.binding.complete(given)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the run."""
        return tags_in(self.around.limits)

    @property
    def flow(self) -> str | None:
        """The id of the flow run that it belongs to."""
        return self.around.flow

    @property
    def correlation(self) -> str:
        """What tells that runs belong together: by default the id of the first of them, handed down to all others."""
        return self.around.correlation or self.run_id

    @property
    def traceparent(self) -> str | None:
        """The trace that the run is part of, handed down to those that it submits."""
        return self.around.traceparent

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of the run."""
        return self.run_id

    @property
    def cancelled(self) -> bool:
        """True if this attempt is to end: for bodies that look for themselves, as in threads they have to."""
        return self.look()


_current: ContextVar[RunContext] = ContextVar("baton_run")
_tags: ContextVar[tuple[str, ...]] = ContextVar("baton_tags", default=())
_log = logging.getLogger("baton.runs")


def get_run_context() -> RunContext:
    """The run that this code runs in.

    Raises:
        MissingContextError: it runs in none.
    """
    try:
        return _current.get()
    except LookupError:
        raise MissingContextError from None


def current_context() -> RunContext | None:
    """The run that this code runs in, or None."""
    return _current.get(None)


def current_run_id() -> str | None:
    """The id of the run that this code runs in, or None."""
    context = _current.get(None)
    return context.run_id if context is not None else None


def inherited() -> dict[str, str]:
    """What a run that is submitted here has from the run around it, as fields of its record."""
    context = _current.get(None)
    if context is None:
        return {}
    fields = {"parent": context.run_id, "correlation": context.correlation}
    spec = context.spec
    if isinstance(spec, FlowSpec):
        fields |= {"flow": context.run_id, "ties": "1"}
        if spec.unfinished == "leave":
            fields["outlives_flow"] = "1"
    elif context.flow is not None:
        fields |= {"flow": context.flow, "ties": "1"}
    if context.traceparent is not None:
        fields["traceparent"] = context.traceparent
    return fields


def in_no_run(make: Callable[[], T]) -> T:
    """What this makes where no run is around it, so that nothing is inherited; the tags in force stay."""
    apart = Context()
    apart.run(_tags.set, current_tags())
    return apart.run(make)


def in_body(context: RunContext) -> RunContext:
    """The context of a body: that of a flow counts what it submits."""
    return replace(context, calls=Calls(context.run_id)) if isinstance(context.spec, FlowSpec) else context


@contextmanager
def run_context(context: RunContext) -> Iterator[None]:
    """Make this the run of the code in the block."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def get_run_logger() -> "RunLog":
    """The log of the run that this code runs in: the logger `baton.runs`, whose records say which run they are of.

    What is of level INFO or above is stored with the run: `baton runs logs` shows it.

    Raises:
        MissingContextError: it runs in none.
    """
    return RunLog(get_run_context())


class RunLog(logging.LoggerAdapter[logging.Logger]):
    """The log of one run: what is of level INFO or above, or wanted by its logger, is stored with the run as well."""

    def __init__(self, context: RunContext) -> None:
        super().__init__(_log, {"run_id": context.run_id, "task": context.task, "attempt": context.attempt})
        self._context = context

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        """True if somebody takes records of this level."""
        return self.is_told(level) or (level >= logging.INFO and self._context.around.notes is not None)

    def is_told(self, level: int) -> bool:
        """True if records of this level go to the logger's handlers."""
        return self.logger.isEnabledFor(level)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Tell it to the logger, and keep it for the run."""
        if self.is_told(level):
            super().log(level, msg, *args, **kwargs)
        notes = self._context.around.notes
        if notes is not None and self.isEnabledFor(level):
            notes.log(self._context.run_id, self._context.fence, self._context.attempt, level, _text(msg, args, kwargs))


def _text(msg: object, args: tuple[object, ...], kwargs: Mapping[str, Any]) -> str:
    try:
        text = str(msg) % args if args else str(msg)
    except (TypeError, ValueError):
        text = f"{msg} {args}"  # as wrong as it was given: its logger says so
    error = sys.exc_info()[1] if kwargs.get("exc_info") is True else kwargs.get("exc_info")
    return f"{text}\n{''.join(format_exception(error))}" if isinstance(error, BaseException) else text


def set_progress(value: float, text: str = "") -> None:
    """Say how far the run has come in which this code runs: a number, and words for people. Stored within a second.

    Raises:
        MissingContextError: it runs in none.
        InvalidCall: `value` is no number.
    """
    context = get_run_context()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidCall(f"'value' must be a number, got {type(value).__name__}")
    if context.around.notes is not None:
        context.around.notes.progress(context.run_id, context.fence, f"{value:g} {text}".rstrip())


@contextmanager
def tags(*names: str) -> Iterator[tuple[str, ...]]:
    """Give these tags to the runs that are submitted in this block, besides those of their tasks and of outer blocks.

    Gives all the tags that are in force.

    Raises:
        InvalidCall, InvalidValue: one of them is no tag.
    """
    token = _tags.set(tuple(dict.fromkeys((*_tags.get(), *check_options({"tags": names})["tags"]))))
    try:
        yield _tags.get()
    finally:
        _tags.reset(token)


def current_tags() -> tuple[str, ...]:
    """The tags that blocks around this code, and those around the submit of the run that it is in, give to its runs.

    Not those of the run's task: under the limit of such a tag a run would wait for the one that waits for it.
    """
    context = _current.get(None)
    if context is None or not context.around.limits:
        return _tags.get()
    own = context.spec.tags if context.spec is not None else ()
    return tuple(dict.fromkeys((*(tag for tag in context.tags if tag not in own), *_tags.get())))
