"""`@task`: a function that can be submitted. Calling it is calling the function; submitting it makes a run."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from orchestrator.calls import SubmitOptions
from orchestrator.client import current_orchestrator
from orchestrator.futures import RunFuture
from shared.specs import DEFAULTS, SUBMIT_OPTIONS, TaskSpec, check_options, check_submit_options, describe, registry

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """A function and how it is to be run. Made by `@task`."""

    def __init__(self, spec: TaskSpec[P, R], options: SubmitOptions = SubmitOptions()) -> None:  # noqa: B008 - frozen
        self.spec = spec
        self._options = options
        self.__doc__ = spec.description
        self.__name__ = spec.name
        self.__wrapped__ = spec.fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function itself: nothing is tracked."""
        return self.spec.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Task({self.spec.key!r})"

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> RunFuture[R]:
        """Submit one run to the fleet, in one round trip.

        Raises:
            ParameterBindError: the arguments do not fit the signature.
            InvalidCall, LimitExceeded: an argument cannot be sent; nothing was submitted.
            SubmitError: Redis did not accept it, or cannot be reached.
        """
        parameters = self.spec.binding.bind(args, kwargs)
        return current_orchestrator().submit_call(self.spec, parameters, self._options)

    def with_options(self, **options: Any) -> "Task[P, R]":
        """The same function with other options; what is not given is kept, what is None gets its default.

        Besides those of `@task`: `delay` (seconds before the run may begin) and `at_front`.

        Raises:
            InvalidCall, InvalidValue: an option is unknown or wrong.
        """
        once = {name: value for name, value in options.items() if name in SUBMIT_OPTIONS}
        lasting = {name: value for name, value in options.items() if name not in SUBMIT_OPTIONS}
        checked = check_options(lasting, retries=self.spec.retries)
        names = {"retry_delay_seconds": "retry_delays"}
        defaults = {name: DEFAULTS[name] for name in (names.get(name, name) for name in lasting) if name in DEFAULTS}
        spec = replace(self.spec, **{**defaults, **checked})
        return Task(spec, replace(self._options, **check_submit_options(once)))


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    key: str | None = None,
    queue: str = "default",
    retries: int | None = None,
    retry_delay_seconds: float | list[float] | Callable[[int], list[float]] = 0,
    retry_jitter_factor: float | None = None,
    timeout_seconds: float | None = None,
    persist_result: bool = True,
    result_ttl: int | None = None,
    on_crash: Literal["retry", "fail"] = "retry",
    description: str | None = None,
    version: str | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
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
