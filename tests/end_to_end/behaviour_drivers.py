"""Every way in which a run is driven, each as one call: what was seen of a run of this case."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis

from orchestrator import Orchestrator, RunFuture, Task
from shared import keys
from shared.ids import new_id
from shared.runs import TaskRun
from shared.states import Failed, Scheduled, State
from tests.end_to_end.behaviour_bodies import fails, noted
from tests.end_to_end.behaviours import Case, Expected, Row
from tests.support.waiting import eventually
from worker.engine import run_generator_task_async, run_generator_task_sync, run_task_async, run_task_sync
from worker.engine.recording import PrivateRecorder, record_with

DELAY = 0.15
LONGEST = 500


class Seen:
    """What came of a run, and the interrupt that its caller got."""

    def __init__(self, expected: Expected, raised: str, upstream: str) -> None:
        self.expected = expected
        self.raised = raised
        self.upstream = upstream


def rows_of(states: Sequence[State[Any]]) -> tuple[Row, ...]:
    return tuple((state.type.value, state.name, short(state.message)) for state in states)


def short(text: str | None) -> str | None:
    """The text, or its beginning and its length; not what else there is."""
    if text is not None and text.startswith("Task 'no.such.task' is not registered"):
        return "Task 'no.such.task' is not registered"
    return text if text is None or len(text) < LONGEST else f"{text[:20]}... {len(text)}"


def result_of(state: State[Any]) -> tuple[str, object]:
    try:
        return "value", state.result()
    except BaseException as error:  # noqa: BLE001 - an interrupt is a result too
        return type(error).__name__, short(text_of(error))


def text_of(error: BaseException) -> str:
    try:
        return str(error)
    except LookupError:
        return "no text"


class Inline:
    """Runs the task in this process; recorded privately, or where the current Orchestrator has its runs."""

    def __init__(self, run: Callable[..., Any], folder: Path, baton: Orchestrator | None) -> None:
        self.upstream = new_id()
        self.run_id = new_id()
        self._run = run
        self._folder = folder
        self._baton = baton
        self._wanted = threading.Event()

    def cancel(self) -> None:
        """By the record, or by the event that a private run has."""
        if self._baton is None:
            self._wanted.set()
        else:
            self._baton.cancel(self.run_id)

    def __call__(self, case: Case, task: Task[..., Any]) -> Seen:
        recorder = PrivateRecorder()
        before = record_with(lambda: recorder) if self._baton is None else None
        helper = threading.Thread(target=self._during, args=(case,))
        raised = ""
        try:
            helper.start()
            self._run(task, **self._given(case, task))
        except BaseException as error:  # noqa: BLE001 - what the caller gets, whatever it is
            raised = type(error).__name__
        finally:
            helper.join()
            if before is not None:
                record_with(before)
        if self._baton is None:
            run, states = recorder.find(self.run_id), recorder.history(self.run_id)
        else:
            run, states = self._baton.get_run(self.run_id), self._baton.history(self.run_id)
        assert run is not None
        hooks = tuple(noted(self._folder, self.run_id))
        expected = Expected(rows_of(states), result_of(run.state), hooks, run.run_count, run.crashes)
        return Seen(expected, raised, self.upstream)

    def _given(self, case: Case, task: Task[..., Any]) -> dict[str, Any]:
        given: dict[str, Any] = {"task_run_id": self.run_id, "context": {"cancel_event": self._wanted}}
        match case.setting:
            case "delay":
                due = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(seconds=DELAY))
                spec = task.spec
                del given["task_run_id"]
                given["task_run"] = TaskRun(id=self.run_id, task=spec.key, name=spec.name, queue=spec.queue, state=due)
            case "upstream":
                given["parameters"] = {"given": (Failed(state_details={"task_run_id": self.upstream}),)}
            case "cancelled":
                self._wanted.set()
        return given

    def leave(self) -> None:
        """There is no worker that could."""
        raise AssertionError

    def _during(self, case: Case) -> None:
        if case.during is not None:
            eventually(lambda: noted(self._folder, self.run_id, bodies=True))
            case.during(self)


def in_this_thread(task: Task[..., Any], **given: Any) -> Any:
    return run_task_sync(task, return_type="state", **given)


def on_a_loop(task: Task[..., Any], **given: Any) -> Any:
    return asyncio.run(run_task_async(task, return_type="state", **given))


def streamed(task: Task[..., Any], **given: Any) -> Any:
    return list(run_generator_task_sync(task, **given))


def streamed_on_a_loop(task: Task[..., Any], **given: Any) -> Any:
    async def read() -> list[Any]:
        return [item async for item in run_generator_task_async(task, **given)]

    return asyncio.run(read())


class Submitted:
    """Submits the task to workers elsewhere."""

    def __init__(
        self, baton: Orchestrator, folder: Path, queue: str = "default", successor: Callable[[], object] | None = None
    ) -> None:
        self.upstream = ""
        self._queue = queue
        self._successor = successor
        self._baton = baton
        self._folder = folder
        self._future: RunFuture[Any] | None = None

    def cancel(self) -> None:
        """By the record."""
        assert self._future is not None
        self._future.cancel()

    def leave(self) -> None:
        """Stop the fleet, and start another one."""
        assert self._successor is not None
        self._successor()

    def __call__(self, case: Case, task: Task[..., Any]) -> Seen:
        self._future = future = self._submitted(case, task)
        if case.during is not None:
            eventually(lambda: noted(self._folder, future.run_id, bodies=True))
            case.during(self)
        state = future.wait(20)
        assert state is not None
        hooks = case.on("fleet", "plain").hooks
        with suppress(AssertionError):  # those of ends that scripts make come later; what is missing the caller sees
            eventually(lambda: len(noted(self._folder, future.run_id)) >= len(hooks), 5)
        run = self._baton.get_run(future.run_id)
        expected = Expected(
            rows_of(self._baton.history(future.run_id)),
            result_of(state),
            tuple(noted(self._folder, future.run_id)),
            run.run_count,
            run.crashes,
        )
        return Seen(expected, "", self.upstream)

    def _submitted(self, case: Case, task: Task[..., Any]) -> RunFuture[Any]:
        begin = {
            "delay": self._delayed,
            "upstream": self._behind_a_failure,
            "cancelled": self._cancelled,
            "paused queue": self._expired,
            "limit": self._one_too_many,
            "unknown": self._unknown,
            "damaged": self._damaged,
        }
        return begin.get(case.setting, self._usual)(task)

    def _submit(self, task: Any, parameters: dict[str, Any] | None = None, **options: Any) -> RunFuture[Any]:
        return self._baton.submit(task, parameters, queue=self._queue, **options)

    def _usual(self, task: Task[..., Any]) -> RunFuture[Any]:
        return self._submit(task)

    def _delayed(self, task: Task[..., Any]) -> RunFuture[Any]:
        return self._submit(task, delay=DELAY)

    def _behind_a_failure(self, task: Task[..., Any]) -> RunFuture[Any]:
        upstream = self._submit(fails["plain"])
        self.upstream = upstream.run_id
        return self._submit(task, {"given": [upstream]})

    def _cancelled(self, task: Task[..., Any]) -> RunFuture[Any]:
        self._baton.pause_queue(self._queue)
        future = self._submit(task)
        future.cancel()
        self._baton.resume_queue(self._queue)
        return future

    def _expired(self, task: Task[..., Any]) -> RunFuture[Any]:
        self._baton.pause_queue(self._queue)
        future = self._submit(task)
        future.wait(10)
        self._baton.resume_queue(self._queue)
        return future

    def _one_too_many(self, task: Task[..., Any]) -> RunFuture[Any]:
        gate = self._folder / new_id()
        holder = self._submit(task, {"given": [str(gate)]})
        eventually(lambda: noted(self._folder, holder.run_id, bodies=True))
        future = self._submit(task, {"given": [str(gate)]})
        eventually(lambda: self._baton.get_run(future.run_id).state.name == "AwaitingConcurrencySlot")
        gate.touch()
        return future

    def _unknown(self, _task: Task[..., Any]) -> RunFuture[Any]:
        return self._submit("no.such.task")

    def _damaged(self, task: Task[..., Any]) -> RunFuture[Any]:
        future = self._submit(task, delay=DELAY)
        with redis.Redis.from_url(self._baton.settings.redis_url) as client:
            client.setrange(keys.run_part(future.run_id, "parameters"), 12, b"\xff\xff")
        return future
