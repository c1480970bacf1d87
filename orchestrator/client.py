"""The Orchestrator: a producer's hold on one Redis, and the current default. Submits runs and looks them up."""

import asyncio
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Self

from orchestrator.calls import SubmitOptions, new_run, options_of, told_of
from orchestrator.children import FlowChildren
from orchestrator.embedded import Embedded, InMemory, open_embedded
from orchestrator.future_list import RunFutureList
from orchestrator.futures import RunFuture
from orchestrator.scheduling import Scheduling
from orchestrator.watch import Watch
from shared.commands import ACCEPTED, NewRun
from shared.connect import connect
from shared.errors import (
    Closed,
    ConfigError,
    IdempotencyConflict,
    InvalidValue,
    QueueFull,
    RedisUnavailable,
    SubmitError,
)
from shared.roles import PRODUCER
from shared.runs import TaskRun
from shared.settings import Settings, names_a_redis
from shared.specs import TaskLike, TaskSpec, check_submit_options, queue_name, registry
from shared.states import State
from worker.engine.gathering import children_with
from worker.engine.ledger_recorder import LedgerRecorder
from worker.engine.recording import record_with
from worker.slots import Holds

Call = tuple[TaskLike[..., Any] | str, Mapping[str, Any]]


class Orchestrator(Scheduling):
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
        used = self._embedded.settings if self._embedded else settings or Settings.load(redis_url=url)
        self._exchange = connect(used)
        super().__init__(self._exchange, used)
        self._watch = Watch(self._ledger, self._exchange, self.settings)
        self.holds = Holds(self._exchange, self._ledger, self.settings)
        self.recorder = LedgerRecorder(self._exchange, self.settings, told=told_of, holds=self.holds)
        self.children = FlowChildren(self._ledger, self.future)
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
        self.recorder.close()
        self.holds.close()
        self._exchange.close()
        if self._embedded is not None:
            self._embedded.close()

    def submit(
        self,
        task: TaskLike[..., Any] | str,
        parameters: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        delay: float | datetime | None = None,
        at_front: bool | None = None,
        idempotency_key: str | None = None,
    ) -> RunFuture[Any]:
        """Submit one run of a task, named by itself or by its key; with a key the worker's code need not be here.

        Args:
            task: a `@task`, or its key such as `"shop.mail.send"`.
            parameters: arguments by name.
            queue: where it waits; by default the task's own queue, for a key that is not known here `default`.
            delay: seconds before it may begin, or the time until which it waits; unless given what `with_options` of
                the task says.
            at_front: begin before those that wait already; unless given likewise.
            idempotency_key: the same key with the same call again gives the future of the first run, until 24 h after
                its end.

        Raises:
            ParameterBindError: the arguments do not fit the task's signature.
            InvalidCall, InvalidValue: an argument cannot be sent, or an option is wrong; nothing was submitted.
            QueueFull: the queue has as many runs as it may have.
            IdempotencyConflict: the key was used for another call.
            SubmitError: Redis did not accept it, or cannot be reached.
        """
        once = {"delay": delay, "at_front": at_front, "idempotency_key": idempotency_key}
        return self._submit([self._run_of(task, parameters or {}, queue, **once)])[0]

    async def asubmit(
        self,
        task: TaskLike[..., Any] | str,
        parameters: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        delay: float | datetime | None = None,
        at_front: bool | None = None,
        idempotency_key: str | None = None,
    ) -> RunFuture[Any]:
        """The same as `submit`, without blocking the event loop. Cancelled on its way, the run may be accepted or not.

        A call that is wrong raises before anything is sent.
        """
        once = {"delay": delay, "at_front": at_front, "idempotency_key": idempotency_key}
        run = self._run_of(task, parameters or {}, queue, **once)
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
        """The run's record as it is now, with its parameters and inputs.

        Raises:
            RunGone: there is no such run, or no longer.
        """
        return self._ledger.get_with_inputs(run_id)

    async def aget_run(self, run_id: str) -> TaskRun:
        """The same as `get_run`, without blocking the event loop."""
        return await asyncio.to_thread(self.get_run, run_id)

    def history(self, run_id: str) -> list[State[Any]]:
        """Every state the run went through, oldest first.

        Raises:
            RunGone: there is no such run, or no longer.
        """
        return self._ledger.history(run_id)

    async def ahistory(self, run_id: str) -> list[State[Any]]:
        """The same as `history`, without blocking the event loop."""
        return await asyncio.to_thread(self.history, run_id)

    def submit_call(
        self,
        spec: TaskSpec[..., Any],
        parameters: Mapping[str, Any],
        options: SubmitOptions,
        wait_for: Iterable[Any] = (),
    ) -> RunFuture[Any]:
        """Submit a call whose arguments were bound already."""
        return self._submit([self._run_of_call(spec, parameters, options, wait_for=wait_for)])[0]

    async def asubmit_call(
        self,
        spec: TaskSpec[..., Any],
        parameters: Mapping[str, Any],
        options: SubmitOptions,
        wait_for: Iterable[Any] = (),
    ) -> RunFuture[Any]:
        """The same as `submit_call`, without blocking the event loop."""
        run = self._run_of_call(spec, parameters, options, wait_for=wait_for)
        return (await asyncio.to_thread(self._submit, [run]))[0]

    def submit_calls(
        self,
        spec: TaskSpec[..., Any],
        calls: Sequence[Mapping[str, Any]],
        options: Sequence[SubmitOptions],
        wait_for: Iterable[Any] = (),
    ) -> RunFutureList[Any]:
        """Submit calls of one task whose arguments were bound already, 500 a round trip."""
        pairs = zip(calls, options, strict=True)
        return self._submit([self._run_of_call(spec, each, option, wait_for=wait_for) for each, option in pairs])

    def submit_runs(self, runs: Sequence[NewRun]) -> RunFutureList[Any]:
        """Submit runs that were made already, 500 a round trip, in their order."""
        return self._submit(runs)

    def _run_of_call(
        self,
        spec: TaskSpec[..., Any] | str,
        parameters: Mapping[str, Any],
        options: SubmitOptions,
        queue: str | None = None,
        wait_for: Iterable[Any] = (),
    ) -> NewRun:
        known = None if isinstance(spec, str) else spec
        name = queue or (known.queue if known else "default")
        return new_run(
            known.key if known else str(spec),
            name,
            parameters,
            self.settings,
            options=options,
            spec=known,
            wait_for=wait_for,
            check=self.check_is_mine,
        )

    def check_is_mine(self, value: Any) -> None:
        """Refuse a future of another Redis.

        Raises:
            InvalidValue: it is one.
        """
        if isinstance(value, RunFuture) and value.watch_with()[1].address != self._ledger.address:
            raise InvalidValue(f"{value!r} is a run of another Redis: what it returns cannot be waited for here")

    def _run_of(
        self,
        task: TaskLike[..., Any] | str,
        parameters: Mapping[str, Any],
        queue: str | None,
        **once: float | datetime | str | None,
    ) -> NewRun:
        options = replace(options_of(task), **check_submit_options(once)) if once else options_of(task)
        spec = registry.get(task) if isinstance(task, str) else task.spec
        name = queue_name("queue", queue or (spec.queue if spec else "default"))
        if spec is None:
            return self._run_of_call(str(task), parameters, options, name)
        args, kwargs = spec.binding.unbind(parameters)
        return self._run_of_call(spec, spec.binding.bind(args, kwargs), options, name)

    def _submit(self, runs: Sequence[NewRun]) -> RunFutureList[Any]:
        if self._closed:
            raise Closed
        try:
            if not self._checked:
                self._ledger.check(PRODUCER)
                self._checked = True
            if self._embedded is not None:
                self._embedded.serve()
            tags = self._ledger.submit(runs)
        except RedisUnavailable as error:
            raise SubmitError(f"not submitted: {error}") from error
        return self._answers(runs, tags)

    def _answers(self, runs: Sequence[NewRun], tags: Sequence[str]) -> RunFutureList[Any]:
        """A future for each run.

        Raises:
            SubmitError: one was refused; of several, with an answer for each.
        """
        answers = [self._answer(run, tag) for run, tag in zip(runs, tags, strict=True)]
        refused = [answer for answer in answers if isinstance(answer, SubmitError)]
        if not refused:
            return RunFutureList(answer for answer in answers if isinstance(answer, RunFuture))
        if len(runs) == 1:
            raise refused[0]
        told = SubmitError(f"{len(refused)} of {len(runs)} runs were not accepted; the first: {refused[0]}")
        told.answers = answers
        raise told from refused[0]

    def _answer(self, run: NewRun, tag: str) -> RunFuture[Any] | SubmitError:
        """The future of a run that was accepted, or why it was not."""
        if tag in ACCEPTED:
            return RunFuture(run.id, self._ledger, self._watch, _name(run))
        word, *rest = tag.split()
        if word == "SAME":
            return RunFuture(rest[0], self._ledger, self._watch)
        if word == "OTHER":
            key, digest = (next(value for kind, value in run.ties if kind == wanted) for wanted in ("idem", "digest"))
            text = f"the idempotency key {key!r} was used for run {rest[0]} with other parameters"
            digests = (rest[1], str(digest))
            text = f"{text}: their digest is {digests[0]}, that of these {digests[1]}"
            return IdempotencyConflict(text, run_id=rest[0], digests=digests)
        if word == "FULL":
            depth, cap = map(int, rest)
            return QueueFull(f"queue {run.queue} is full: {depth} runs wait, its cap is {cap}", depth=depth, cap=cap)
        return SubmitError(f"run {run.id} of {run.task} was not accepted: {tag}")


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

    def recorder(self) -> LedgerRecorder | None:
        """Where inline runs are recorded; None where no Redis was named."""
        known = self._known()
        return known.recorder if known is not None else None

    def children(self) -> FlowChildren | None:
        """Who knows the runs that bodies submit; None where no Redis was named."""
        known = self._known()
        return known.children if known is not None else None

    def _known(self) -> Orchestrator | None:
        with self._lock:
            known = self._open[-1] if self._open else None
        return Orchestrator() if known is None and names_a_redis() else known

    def current(self) -> Orchestrator:
        with self._lock:
            if self._open:
                return self._open[-1]
        if not names_a_redis():
            raise ConfigError("no Orchestrator is open and BATON_REDIS_URL is not set: say which Redis to submit to")
        return Orchestrator()


_default = _Default()
record_with(_default.recorder)
children_with(_default.children)


def current_orchestrator() -> Orchestrator:
    """The Orchestrator that `task.submit` uses here.

    Raises:
        ConfigError: none is open, and the environment names no Redis.
    """
    return _default.current()
