"""`@task`: a function that can be submitted. Calling it is calling the function; submitting it makes a run."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any, Final, Generic, Literal, ParamSpec, TypeAlias, TypedDict, TypeVar, Unpack, overload

from orchestrator.calls import SubmitOptions, awaited
from orchestrator.client import current_orchestrator
from orchestrator.future_list import RunFutureList
from orchestrator.futures import RunFuture
from orchestrator.graph_nodes import nodes_in
from orchestrator.graphs import current_graph
from orchestrator.mapping import MapCall, options_of_children
from shared.cache import CacheContext, CachePolicy
from shared.runs import TaskRun
from shared.specs import (
    SUBMIT_OPTIONS,
    TaskSpec,
    check_caching,
    check_options,
    check_submit_options,
    describe,
    registry,
)
from shared.states import State
from shared.transactions import Transaction

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
Awaited: TypeAlias = RunFuture[Any] | State[Any] | Iterable[RunFuture[Any] | State[Any]]
Delays: TypeAlias = list[float] | tuple[float, ...]
Hook: TypeAlias = Callable[[TaskSpec[..., Any], TaskRun, State[Any]], Any]
"""Called with the task's spec, the run and the state that it has entered. May be a coroutine function."""
TransactionHook: TypeAlias = Callable[[Transaction], Any]
"""Called with the transaction of an attempt. May be a coroutine function."""
H = TypeVar("H", bound=Hook)
C = TypeVar("C", bound=TransactionHook)
F = TypeVar("F", bound=Callable[..., Any])

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
    cache_policy: CachePolicy | None
    cache_key_fn: Callable[[CacheContext, Mapping[str, Any]], str | None] | None
    cache_expiration: float | timedelta | None
    refresh_cache: bool | None
    result_storage_key: str | None
    on_crash: Literal["retry", "fail"] | None
    description: str | None
    version: str | None
    tags: Iterable[str] | None
    start_within: float | None
    retry_condition_fn: Hook | None
    task_run_name: str | Callable[..., str] | None
    log_prints: bool | None
    limit: int | None
    trigger: Callable[..., Any] | None
    state_handlers: Iterable[Callable[..., Any]] | None
    on_running: Iterable[Hook] | None
    on_completion: Iterable[Hook] | None
    on_failure: Iterable[Hook] | None
    on_crashed: Iterable[Hook] | None
    on_cancellation: Iterable[Hook] | None
    on_commit: Iterable[TransactionHook] | None
    on_rollback: Iterable[TransactionHook] | None


class CallOptions(TaskOptions, total=False):
    """The options of `Task.with_options`: besides a task's those of one submit."""

    delay: float | datetime | None
    at_front: bool | None
    idempotency_key: str | None
    unique: Literal["until_started", "until_final"] | None


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
        """The function itself: nothing is tracked. Where a graph is drawn a node of it: nothing is called."""
        graph = current_graph()
        if graph is not None:
            return graph.draw(self, self.spec.binding.bind(args, kwargs))  # type: ignore[return-value] # what it will be
        return self.spec.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Task({self.spec.key!r})"

    # No function's own parameters are called `return_state` or `wait_for`, which a type checker cannot know.
    @overload
    def submit(  # type: ignore[overload-overlap]
        self, *args: Any, return_state: Literal[True], wait_for: Awaited = (), **kwargs: Any
    ) -> State[Any]: ...
    @overload
    def submit(self: "Task[P, Coroutine[Any, Any, T]]", *args: P.args, **kwargs: P.kwargs) -> RunFuture[T]: ...
    @overload
    def submit(
        self: "Task[P, Iterator[T] | AsyncIterator[T]]", *args: P.args, **kwargs: P.kwargs
    ) -> RunFuture[list[T]]: ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> RunFuture[R_co]: ...
    @overload
    def submit(
        self: "Task[P, Coroutine[Any, Any, T]]", *args: Any, wait_for: Awaited, **kwargs: Any
    ) -> RunFuture[T]: ...
    @overload
    def submit(self, *args: Any, wait_for: Awaited, **kwargs: Any) -> RunFuture[R_co]: ...
    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Submit one run to the fleet, in one round trip. It waits, in Redis, for the runs among its arguments.

        Futures, and states that name their run, may stand anywhere in the arguments: the function gets what those runs
        returned. A run that did not complete ends this one as FAILED `TriggerFailed`, unless `allow_failure` is around
        it. `wait_for` names runs that have to end before; with `return_state=True` the call waits, and returns the
        final state.

        Raises:
            ParameterBindError: the arguments do not fit the signature.
            InvalidCall, LimitExceeded: an argument cannot be sent; nothing was submitted.
            WouldDeadlock: it would wait for the run that submits it.
            QueueFull, IdempotencyConflict: as their names say.
            SubmitError: Redis did not accept it, or cannot be reached.
            ConfigError: no Orchestrator is open, and the environment names no Redis.
        """
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        parameters = self.spec.binding.bind(args, kwargs)
        future = current_orchestrator().submit_call(self.spec, parameters, self.options, awaited(wait_for))
        return future.wait() if return_state else future

    @overload
    async def asubmit(  # type: ignore[overload-overlap]
        self, *args: Any, return_state: Literal[True], wait_for: Awaited = (), **kwargs: Any
    ) -> State[Any]: ...
    @overload
    async def asubmit(self: "Task[P, Coroutine[Any, Any, T]]", *args: P.args, **kwargs: P.kwargs) -> RunFuture[T]: ...
    @overload
    async def asubmit(
        self: "Task[P, Iterator[T] | AsyncIterator[T]]", *args: P.args, **kwargs: P.kwargs
    ) -> RunFuture[list[T]]: ...
    @overload
    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> RunFuture[R_co]: ...
    @overload
    async def asubmit(
        self: "Task[P, Coroutine[Any, Any, T]]", *args: Any, wait_for: Awaited, **kwargs: Any
    ) -> RunFuture[T]: ...
    @overload
    async def asubmit(self, *args: Any, wait_for: Awaited, **kwargs: Any) -> RunFuture[R_co]: ...
    async def asubmit(self, *args: Any, **kwargs: Any) -> Any:
        """The same as `submit`, without blocking the event loop. Cancelled on its way, the run may be accepted or not.

        A call that is wrong raises before anything is sent.
        """
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        parameters = self.spec.binding.bind(args, kwargs)
        future = await current_orchestrator().asubmit_call(self.spec, parameters, self.options, awaited(wait_for))
        return await future.wait_async() if return_state else future

    @overload
    def map(
        self, *args: Any, return_state: Literal[True], wait_for: Awaited = (), **kwargs: Any
    ) -> list[State[Any]]: ...
    @overload
    def map(
        self: "Task[P, Coroutine[Any, Any, T]]", *args: Any, wait_for: Awaited = (), **kwargs: Any
    ) -> RunFutureList[T]: ...
    @overload
    def map(
        self: "Task[P, Iterator[T] | AsyncIterator[T]]", *args: Any, wait_for: Awaited = (), **kwargs: Any
    ) -> RunFutureList[list[T]]: ...
    @overload
    def map(self, *args: Any, wait_for: Awaited = (), **kwargs: Any) -> RunFutureList[R_co]: ...
    def map(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a run for each element of the iterable arguments, 500 a round trip; all others are the same for each.

        Texts, mappings, models and what is `unmapped` are one value, and so is a default that is not replaced. Of
        several iterables, which must be of one length, child i gets the elements i. A list of futures is mapped without
        waiting: child i needs run i. A single future is waited for, and what it gives is mapped over. `allow_failure`,
        `quote` and `opaque` hold for each element. An `idempotency_key` becomes `key[i]` for child i.

        Raises:
            MappingMissingIterable, MappingLengthMismatch, LimitExceeded: there is nothing to be mapped over, elements
                do not fit together, or are more than 100,000; nothing was submitted.
            UpstreamTaskError: a run whose result was to be mapped over did not complete.
            As `submit`; a SubmitError half way leaves earlier children accepted, and its `.answers` tells which.
        """
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        graph = current_graph()
        if graph is not None:
            return graph.draw(self, self.spec.binding.bind(args, kwargs), is_mapped=True).wait_for(*nodes_in(wait_for))
        call = MapCall(self.spec.binding, args, kwargs)
        children = call.children({future: future.wait() for future in call.awaits()})
        options = options_of_children(self.options, len(children))
        futures = current_orchestrator().submit_calls(self.spec, children, options, awaited(wait_for))
        if return_state:
            futures.wait()
        return futures.get_states() if return_state else futures

    @overload
    async def amap(
        self, *args: Any, return_state: Literal[True], wait_for: Awaited = (), **kwargs: Any
    ) -> list[State[Any]]: ...
    @overload
    async def amap(
        self: "Task[P, Coroutine[Any, Any, T]]", *args: Any, wait_for: Awaited = (), **kwargs: Any
    ) -> RunFutureList[T]: ...
    @overload
    async def amap(
        self: "Task[P, Iterator[T] | AsyncIterator[T]]", *args: Any, wait_for: Awaited = (), **kwargs: Any
    ) -> RunFutureList[list[T]]: ...
    @overload
    async def amap(self, *args: Any, wait_for: Awaited = (), **kwargs: Any) -> RunFutureList[R_co]: ...
    async def amap(self, *args: Any, **kwargs: Any) -> Any:
        """The same as `map`, without blocking the event loop. Cancelled on its way, it may go on."""
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        call = MapCall(self.spec.binding, args, kwargs)
        children = call.children({future: await future.wait_async() for future in call.awaits()})
        options = options_of_children(self.options, len(children))
        orchestrator = current_orchestrator()
        futures = await asyncio.to_thread(orchestrator.submit_calls, self.spec, children, options, awaited(wait_for))
        if return_state:
            await futures.wait_async()
        return await futures.aget_states() if return_state else futures

    def on_running(self, hook: H) -> H:
        """Have this function called when a run begins, and when it begins again."""
        return self._hooked("on_running", hook)

    def on_completion(self, hook: H) -> H:
        """Have this function called when a run has COMPLETED."""
        return self._hooked("on_completion", hook)

    def on_failure(self, hook: H) -> H:
        """Have this function called when a run has FAILED for good."""
        return self._hooked("on_failure", hook)

    def on_crashed(self, hook: H) -> H:
        """Have this function called when a run has CRASHED."""
        return self._hooked("on_crashed", hook)

    def on_cancellation(self, hook: H) -> H:
        """Have this function called when a run was CANCELLED."""
        return self._hooked("on_cancellation", hook)

    def on_commit(self, hook: C) -> C:
        """Have this function called with the transaction of an attempt that succeeded, before its result is kept."""
        return self._hooked("on_commit", hook)

    def on_rollback(self, hook: C) -> C:
        """Have this function called, with its transaction, to undo an attempt that had succeeded."""
        return self._hooked("on_rollback", hook)

    def _hooked(self, option: str, hook: F) -> F:
        """Add a hook after those that are there; tasks that were made of this one before keep theirs."""
        before = self.spec
        hooks: dict[str, Any] = {option: (*getattr(before, option), *check_options({option: [hook]})[option])}
        self.spec = replace(before, **hooks)
        if registry.get(before.key) is before:
            registry.add(self.spec)
        return hook

    def with_options(self, **options: Unpack[CallOptions]) -> "Task[P, R_co]":
        """The same function with other options; what is not given is kept, what is None gets its default.

        Besides those of `@task`: `delay` (seconds before the run may begin, or the time until which it waits),
        `at_front`, `idempotency_key`, and `unique` (that key is the run's own "until_started" or "until_final", instead
        of for 24 h after its end).
        Functions do not travel: a task that was given others than the decorator's runs where it is called, by
        `run_task`, and cannot be submitted.

        Raises:
            InvalidCall, InvalidValue: an option is unknown or wrong.
        """
        once = {name: value for name, value in options.items() if name in SUBMIT_OPTIONS}
        lasting = {name: value for name, value in options.items() if name not in SUBMIT_OPTIONS}
        checked = check_options(lasting, retries=self.spec.retries)
        unset = [_FIELDS.get(name, name) for name, value in lasting.items() if value is None]
        usual = describe(self.spec.fn) if unset else self.spec
        spec = replace(self.spec, **{name: getattr(usual, name) for name in unset}, **checked)
        check_caching(spec, checked)
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
            60), `cache_policy` (one of `shared.cache`, such as INPUTS: with the same key a task's result is taken from
            an earlier run), `cache_key_fn` (given CacheContext and parameters, gives the key or None),
            `cache_expiration` (seconds or timedelta; None is for ever), `refresh_cache` (execute, and replace what is
            cached), `result_storage_key` (the key as text with `{parameters[name]}` and `{run.id}` in it), `on_crash`
            ("fail": a lost attempt ends the run, so the body starts at most once), `description`,
            `version`, `tags` (texts to find its runs by, each also the limit `tag:<tag>` if that is set),
            `start_within` (seconds in which a run has to begin, else it is CANCELLED, named `Expired`),
            `retry_condition_fn` (asked with spec, run and FAILED state whether a failure is to be tried again; a body
            that had to be killed for its time limit is not, since its fleet cannot ask),
            `task_run_name` (text with the parameters in braces, or a function that gives it), `log_prints` (what the
            body prints goes to the run's log), `limit` (so many of its runs at the same time: the limit `task:<key>`,
            which set by hand stays until the code says another number), `trigger` (of `worker.triggers`, or a function:
            asked with `{Edge: State}` when all runs that it waits for have ended), `state_handlers` (called with spec,
            old and new state before a state is proposed; what they return is), and the hooks `on_running`,
            `on_completion`, `on_failure`, `on_crashed` and `on_cancellation` (called with spec, run and state after a
            run has entered such a state), `on_commit` and `on_rollback` (called with the Transaction of an attempt that
            succeeded: when it is recorded, together with all others around it, and to undo it).

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
