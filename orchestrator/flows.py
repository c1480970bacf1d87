"""`@flow`: a function that submits runs. Calling it runs it here, tracked; submitting it runs it on the fleet."""

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar, Unpack, overload

from orchestrator.calls import SubmitOptions
from orchestrator.graph_nodes import nodes_in
from orchestrator.graphs import current_graph
from orchestrator.tasks import Awaited, Delays, Hook, Task
from shared.specs import (
    SUBMIT_OPTIONS,
    FlowSpec,
    check_flow_options,
    check_submit_options,
    describe_flow,
    registry,
)
from shared.states import State
from worker.engine.entry_points import run_task

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
_FIELDS = {"retry_delay_seconds": "retry_delays", "flow_run_name": "task_run_name"}
"""Options whose field of a spec has another name."""


class FlowOptions(TypedDict, total=False):
    """The options of `@flow`, as its docstring tells them. None stands for an option's default."""

    name: str | None
    key: str | None
    queue: str | None
    retries: int | None
    retry_delay_seconds: float | Delays | Callable[[int], Delays] | None
    retry_jitter_factor: float | None
    timeout_seconds: float | None
    validate_parameters: bool | None
    persist_result: bool | None
    result_ttl: int | None
    on_crash: Literal["retry", "fail"] | None
    description: str | None
    version: str | None
    tags: Iterable[str] | None
    start_within: float | None
    retry_condition_fn: Hook | None
    flow_run_name: str | Callable[..., str] | None
    log_prints: bool | None
    limit: int | None
    unfinished: Literal["wait", "cancel", "leave"] | None
    state_handlers: Iterable[Callable[..., Any]] | None
    on_running: Iterable[Hook] | None
    on_completion: Iterable[Hook] | None
    on_failure: Iterable[Hook] | None
    on_crashed: Iterable[Hook] | None
    on_cancellation: Iterable[Hook] | None


class FlowCallOptions(FlowOptions, total=False):
    """The options of `Flow.with_options`: besides a flow's those of one submit."""

    delay: float | datetime | None
    at_front: bool | None
    idempotency_key: str | None
    unique: Literal["until_started", "until_final"] | None


class Flow(Task[P, R_co]):
    """A function whose calls are runs themselves, parents of those that it submits. Made by `@flow`.

    It is submitted, mapped and given hooks as a task is.
    """

    spec: FlowSpec[P, R_co]

    # As of `submit`: no function's own parameters are called `return_state` or `wait_for`.
    @overload
    def __call__(
        self: "Flow[P, Coroutine[Any, Any, T]]",
        *args: Any,
        return_state: Literal[True],
        wait_for: Awaited = (),
        **kwargs: Any,
    ) -> Coroutine[Any, Any, State[T]]: ...
    @overload
    def __call__(
        self, *args: Any, return_state: Literal[True], wait_for: Awaited = (), **kwargs: Any
    ) -> State[R_co]: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, *args: Any, wait_for: Awaited, **kwargs: Any) -> R_co: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it here, tracked, and give what it returns; with `return_state=True` its last state.

        Where a graph is drawn a node of it: nothing is run.

        Where an Orchestrator is open or the environment names a Redis, the run is recorded there. In the body of
        another run it is its child. What it submits goes to the fleet.

        Raises:
            ParameterBindError: the arguments do not fit the signature or its annotations; there is no run.
            As `run_task`.
        """
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        parameters = self.spec.binding.bind(args, kwargs)
        graph = current_graph()
        if graph is not None:
            return graph.draw(self, parameters).wait_for(*nodes_in(wait_for))
        return run_task(
            self.spec,
            parameters=parameters,
            wait_for=wait_for,
            return_type="state" if return_state else "result",
        )

    def __repr__(self) -> str:
        return f"Flow({self.spec.key!r})"

    def with_options(self, **options: Unpack[FlowCallOptions]) -> "Flow[P, R_co]":  # type: ignore[override]
        """The same flow with other options; what is not given is kept, what is None gets its default.

        Raises:
            InvalidCall, InvalidValue: an option is unknown or wrong.
        """
        once = {name: value for name, value in options.items() if name in SUBMIT_OPTIONS}
        lasting = {name: value for name, value in options.items() if name not in SUBMIT_OPTIONS}
        checked = check_flow_options(lasting, retries=self.spec.retries)
        unset = [_FIELDS.get(name, name) for name, value in lasting.items() if value is None]
        usual = describe_flow(self.spec.fn) if unset else self.spec
        spec = replace(self.spec, **{name: getattr(usual, name) for name in unset}, **checked)
        kept = {name: value for name, value in asdict(self.options).items() if name not in once}
        return Flow(spec, SubmitOptions(**kept, **check_submit_options(once)))


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(**options: Unpack[FlowOptions]) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a flow.

    Args:
        fn: the function, where the decorator stands without options.
        options: those of `@task`, but for its trigger and those about caching, and with `flow_run_name` for
            `task_run_name`; `validate_parameters` (True: arguments are checked and converted by their annotations), and
            `unfinished`, which says what becomes of runs that the body has submitted and that have not ended when it
            has: "wait" for them ("cancel" them after an exception), "cancel", or "leave".

    Raises:
        InvalidCall: not a function, or an option that is unknown or of a wrong type.
        InvalidValue: an option out of its range.
        ConfigError: another function has this key.
    """

    def decorate(function: Callable[..., Any]) -> Flow[..., Any]:
        spec = describe_flow(function, **options)
        registry.add(spec)
        return Flow(spec)

    return decorate if fn is None else decorate(fn)
