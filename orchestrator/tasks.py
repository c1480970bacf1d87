"""`@task`: a function that can be submitted. Calling it is calling the function; submitting it makes a run."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import asdict, replace
from typing import Any, Final, Generic, Literal, ParamSpec, TypeAlias, TypedDict, TypeVar, Unpack, overload

from orchestrator.calls import SubmitOptions
from orchestrator.client import current_orchestrator
from orchestrator.futures import RunFuture
from shared.specs import SUBMIT_OPTIONS, TaskSpec, check_options, check_submit_options, describe, registry

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
Delays: TypeAlias = list[float] | tuple[float, ...]

_FIELDS: Final = {"retry_delay_seconds": "retry_delays"}
"""Options whose field of a spec has another name."""


class TaskOptions(TypedDict, total=False):
    """The options of `@task`, as its docstring tells them. None stands for an option's default."""

    name: str | None
    key: str | None
    queue: str | None
    retries: int | None
    retry_delay_seconds: float | Delays | Callable[[int], Delays] | None
    retry_jitter_factor: float | None
    timeout_seconds: float | None
    persist_result: bool | None
    result_ttl: int | None
    on_crash: Literal["retry", "fail"] | None
    description: str | None
    version: str | None


class CallOptions(TaskOptions, total=False):
    """The options of `Task.with_options`: besides a task's those of one submit."""

    delay: float | None
    at_front: bool | None


class Task(Generic[P, R_co]):
    """A function and how it is to be run. Made by `@task`.

    R_co is what calling the function gives. What its run gives is that, but of an `async def` function the awaited
    value, and of a generator the list of its items.
    """

    def __init__(self, spec: TaskSpec[P, R_co], options: SubmitOptions = SubmitOptions()) -> None:  # noqa: B008 - frozen
        self.spec = spec
        self.options = options
        self.__doc__ = spec.description
        self.__name__ = spec.name
        self.__wrapped__ = spec.fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The function itself: nothing is tracked."""
        return self.spec.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Task({self.spec.key!r})"

    @overload
    def submit(self: "Task[P, Coroutine[Any, Any, T]]", *args: P.args, **kwargs: P.kwargs) -> RunFuture[T]: ...
    @overload
    def submit(
        self: "Task[P, Iterator[T] | AsyncIterator[T]]", *args: P.args, **kwargs: P.kwargs
    ) -> RunFuture[list[T]]: ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> RunFuture[R_co]: ...
    def submit(self, *args: Any, **kwargs: Any) -> RunFuture[Any]:
        """Submit one run to the fleet, in one round trip.

        Raises:
            ParameterBindError: the arguments do not fit the signature.
            InvalidCall, LimitExceeded: an argument cannot be sent; nothing was submitted.
            SubmitError: Redis did not accept it, or cannot be reached.
            ConfigError: no Orchestrator is open, and the environment names no Redis.
        """
        parameters = self.spec.binding.bind(args, kwargs)
        return current_orchestrator().submit_call(self.spec, parameters, self.options)

    @overload
    async def asubmit(self: "Task[P, Coroutine[Any, Any, T]]", *args: P.args, **kwargs: P.kwargs) -> RunFuture[T]: ...
    @overload
    async def asubmit(
        self: "Task[P, Iterator[T] | AsyncIterator[T]]", *args: P.args, **kwargs: P.kwargs
    ) -> RunFuture[list[T]]: ...
    @overload
    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> RunFuture[R_co]: ...
    async def asubmit(self, *args: Any, **kwargs: Any) -> RunFuture[Any]:
        """The same as `submit`, without blocking the event loop. Cancelled on its way, the run may be accepted or not.

        A call that is wrong raises before anything is sent.
        """
        parameters = self.spec.binding.bind(args, kwargs)
        return await current_orchestrator().asubmit_call(self.spec, parameters, self.options)

    def with_options(self, **options: Unpack[CallOptions]) -> "Task[P, R_co]":
        """The same function with other options; what is not given is kept, what is None gets its default.

        Besides those of `@task`: `delay` (seconds before the run may begin) and `at_front`.

        Raises:
            InvalidCall, InvalidValue: an option is unknown or wrong.
        """
        once = {name: value for name, value in options.items() if name in SUBMIT_OPTIONS}
        lasting = {name: value for name, value in options.items() if name not in SUBMIT_OPTIONS}
        checked = check_options(lasting, retries=self.spec.retries)
        unset = [_FIELDS.get(name, name) for name, value in lasting.items() if value is None]
        usual = describe(self.spec.fn) if unset else self.spec
        spec = replace(self.spec, **{name: getattr(usual, name) for name in unset}, **checked)
        kept = {name: value for name, value in asdict(self.options).items() if name not in once}
        return Task(spec, SubmitOptions(**kept, **check_submit_options(once)))


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(**options: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a task.

    Args:
        fn: the function, where the decorator stands without options.
        options: `name` (for people), `key` (by which workers find it; default `module.qualname`), `queue`, `retries`,
            `retry_delay_seconds` (a number, a list of up to 50, or a callable given `retries`), `retry_jitter_factor`,
            `timeout_seconds` (for one attempt's body; 0 is none), `persist_result`, `result_ttl` (seconds, at least
            60), `on_crash` ("fail": a lost attempt ends the run, so the body starts at most once), `description`,
            `version`.

    Raises:
        InvalidCall: not a function, or an option that is unknown or of a wrong type.
        InvalidValue: an option out of its range.
        ConfigError: another function has this key.
    """

    def decorate(function: Callable[..., Any]) -> Task[..., Any]:
        spec = describe(function, **options)
        registry.add(spec)
        return Task(spec)

    return decorate if fn is None else decorate(fn)
