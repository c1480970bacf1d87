"""The Orchestrator: a producer's hold on one Redis, and the current default. Submits runs and looks them up."""

import asyncio
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from orchestrator.calls import SubmitOptions, fields_of, new_run, options_of
from orchestrator.embedded import Embedded, InMemory, open_embedded
from orchestrator.future_list import RunFutureList
from orchestrator.futures import RunFuture
from orchestrator.watch import Watch
from shared.commands import ACCEPTED, NewRun
from shared.connect import connect
from shared.errors import Closed, ConfigError, RedisUnavailable, SubmitError
from shared.ledger import RunLedger
from shared.runs import TaskRun
from shared.settings import Settings, names_a_redis
from shared.specs import TaskLike, TaskSpec, check_submit_options, queue_name, registry
from shared.states import State

Call = tuple[TaskLike[..., Any] | str, Mapping[str, Any]]


class Orchestrator:
    """Submits runs to one Redis and hears of their ends. Any number of threads may use it; also after a fork.

    Args:
        url: `redis://host:port/db`, `rediss://` or `unix://`; without one `$BATON_REDIS_URL`, else 127.0.0.1:6379.
            `embedded:` brings workers along and, without `$BATON_REDIS_URL`, a private Redis too; `memory:` has both in
            this process, for tests.
        settings: all settings, instead of those of the environment.

    Raises:
        ConfigError: the URL or a setting is wrong. No connection is made before the first call.
    """

    def __init__(self, url: str | None = None, *, settings: Settings | None = None) -> None:
        self._embedded = _embedded(url, settings)
        self.settings = self._embedded.settings if self._embedded else settings or Settings.load(redis_url=url)
        self._exchange = connect(self.settings)
        self._ledger = RunLedger(self._exchange, self.settings)
        self._watch = Watch(self._ledger, self._exchange, self.settings)
        self._closed = False
        self._checked = False
        _default.open(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection. Whoever waits for a future of this Orchestrator gets `Closed`."""
        self._closed = True
        _default.forget(self)
        self._watch.close()
        self._exchange.close()
        if self._embedded is not None:
            self._embedded.close()

    def submit(
        self,
        task: TaskLike[..., Any] | str,
        parameters: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        delay: float | None = None,
        at_front: bool | None = None,
    ) -> RunFuture[Any]:
        """Submit one run of a task, named by itself or by its key; with a key the worker's code need not be here.

        Args:
            task: a `@task`, or its key such as `"shop.mail.send"`.
            parameters: arguments by name.
            queue: where it waits; by default the task's own queue, for a key that is not known here `default`.
            delay: seconds before it may begin; unless given what `with_options` of the task says.
            at_front: begin before those that wait already; unless given likewise.

        Raises:
            ParameterBindError: the arguments do not fit the task's signature.
            InvalidCall, InvalidValue: an argument cannot be sent, or an option is wrong; nothing was submitted.
            SubmitError: Redis did not accept it, or cannot be reached.
        """
        return self._submit([self._run_of(task, parameters or {}, queue, delay=delay, at_front=at_front)])[0]

    async def asubmit(
        self,
        task: TaskLike[..., Any] | str,
        parameters: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        delay: float | None = None,
        at_front: bool | None = None,
    ) -> RunFuture[Any]:
        """The same as `submit`, without blocking the event loop. Cancelled on its way, the run may be accepted or not.

        A call that is wrong raises before anything is sent.
        """
        run = self._run_of(task, parameters or {}, queue, delay=delay, at_front=at_front)
        return (await asyncio.to_thread(self._submit, [run]))[0]

    def submit_many(self, calls: Iterable[Call], *, queue: str | None = None) -> RunFutureList[Any]:
        """Submit many runs, 500 a round trip: pairs of a task (or key) and its arguments by name.

        All calls are checked before the first is sent.

        Raises:
            As `submit`; a SubmitError half way leaves earlier runs accepted.
        """
        return self._submit([self._run_of(task, parameters, queue) for task, parameters in calls])

    async def asubmit_many(self, calls: Iterable[Call], *, queue: str | None = None) -> RunFutureList[Any]:
        """The same as `submit_many`, without blocking the event loop while Redis is asked. Cancelled, it may go on."""
        runs = [self._run_of(task, parameters, queue) for task, parameters in calls]
        return await asyncio.to_thread(self._submit, runs)

    def future(self, run_id: str) -> RunFuture[Any]:
        """A future of a run that was submitted elsewhere. No I/O."""
        return RunFuture(run_id, self._ledger, self._watch)

    def get_run(self, run_id: str) -> TaskRun:
        """The run's record as it is now.

        Raises:
            RunGone: there is no such run, or no longer.
        """
        return self._ledger.get(run_id)

    def history(self, run_id: str) -> list[State[Any]]:
        """Every state the run went through, oldest first.

        Raises:
            RunGone: there is no such run, or no longer.
        """
        return self._ledger.history(run_id)

    def submit_call(
        self, spec: TaskSpec[..., Any], parameters: Mapping[str, Any], options: SubmitOptions
    ) -> RunFuture[Any]:
        """Submit a call whose arguments were bound already."""
        return self._submit([self._run_of_call(spec, parameters, options)])[0]

    async def asubmit_call(
        self, spec: TaskSpec[..., Any], parameters: Mapping[str, Any], options: SubmitOptions
    ) -> RunFuture[Any]:
        """The same as `submit_call`, without blocking the event loop."""
        return (await asyncio.to_thread(self._submit, [self._run_of_call(spec, parameters, options)]))[0]

    def _run_of_call(
        self, spec: TaskSpec[..., Any], parameters: Mapping[str, Any], options: SubmitOptions, queue: str | None = None
    ) -> NewRun:
        name = queue or spec.queue
        return new_run(spec.key, name, parameters, self.settings, options=options, fields=fields_of(spec))

    def _run_of(
        self, task: TaskLike[..., Any] | str, parameters: Mapping[str, Any], queue: str | None, **once: float | None
    ) -> NewRun:
        options = replace(options_of(task), **check_submit_options(once)) if once else options_of(task)
        spec = registry.get(task) if isinstance(task, str) else task.spec
        name = queue_name("queue", queue or (spec.queue if spec else "default"))
        if spec is None:
            return new_run(str(task), name, parameters, self.settings, options=options, fields={})
        args, kwargs = spec.binding.unbind(parameters)
        return self._run_of_call(spec, spec.binding.bind(args, kwargs), options, name)

    def _submit(self, runs: Sequence[NewRun]) -> RunFutureList[Any]:
        if self._closed:
            raise Closed
        try:
            if not self._checked:
                self._ledger.check()
                self._checked = True
            if self._embedded is not None:
                self._embedded.serve()
            tags = self._ledger.submit(runs)
        except RedisUnavailable as error:
            raise SubmitError(f"not submitted: {error}") from error
        for run, tag in zip(runs, tags, strict=True):
            if tag not in ACCEPTED:
                raise SubmitError(f"run {run.id} of {run.task} was not accepted: {tag}")
        return RunFutureList(RunFuture(run.id, self._ledger, self._watch, _name(run)) for run in runs)


def _embedded(url: str | None, settings: Settings | None) -> Embedded | None:
    if url == "memory:":
        return InMemory(settings or Settings.load())
    return open_embedded(settings or Settings.load()) if url == "embedded:" else None


def _name(run: NewRun) -> str:
    return str(run.fields.get("name") or run.task.rpartition(".")[2])


class _Default:
    """The Orchestrator that `task.submit` uses: the one opened last in this process, else one of the environment."""

    def __init__(self) -> None:
        self._open: list[Orchestrator] = []
        self._lock = threading.Lock()

    def open(self, orchestrator: Orchestrator) -> None:
        with self._lock:
            self._open.append(orchestrator)

    def forget(self, orchestrator: Orchestrator) -> None:
        with self._lock:
            self._open = [one for one in self._open if one is not orchestrator]

    def current(self) -> Orchestrator:
        with self._lock:
            if self._open:
                return self._open[-1]
        if not names_a_redis():
            raise ConfigError("no Orchestrator is open and BATON_REDIS_URL is not set: say which Redis to submit to")
        return Orchestrator()


_default = _Default()


def current_orchestrator() -> Orchestrator:
    """The Orchestrator that `task.submit` uses here.

    Raises:
        ConfigError: none is open, and the environment names no Redis.
    """
    return _default.current()
