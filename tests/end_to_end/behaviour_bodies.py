"""Tasks for the table of behaviours, each in several forms. What their bodies and hooks do is noted in files."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator import Task, get_run_context, task
from shared import options
from shared.errors import TerminationSignal
from shared.runs import TaskRun
from shared.specs import TaskSpec
from shared.states import Cancelled, Completed, Failed, Paused, Running, Scheduled, State

PLAIN, ASYNC, GENERATOR, ASYNC_GENERATOR = FORMS = ("plain", "async", "generator", "async generator")


def note(*words: object) -> None:
    """Write a line at once: the process may end at any time."""
    line = " ".join(map(str, (time.monotonic_ns(), *words))) + "\n"
    handle = os.open(
        Path(os.environ["BODY_LOG"], f"{os.getpid()}.notes"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644
    )
    os.write(handle, line.encode())
    os.close(handle)


def noted(folder: Path, run_id: str, *, bodies: bool = False) -> list[str]:
    """What the hooks of a run noted, or its bodies, in the order of time."""
    lines = [line.split() for path in folder.rglob("*.notes") for line in path.read_text().splitlines()]
    rows = [words[2:] for words in sorted(lines, key=lambda words: int(words[0])) if words[1] == run_id]
    return [" ".join(words) for words in rows if (words[0] == "body") == bodies]


def tell(kind: str, _spec: TaskSpec[..., Any], run: TaskRun, state: State[Any]) -> None:
    """A hook: `on_failure TimedOut 2`, with the number of tries."""
    note(run.id, kind, state.name, run.run_count)


# --- bodies, written once for all forms -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wait:
    """What a body returns that is to wait as its form does, so many seconds or until its end is wanted."""

    seconds: float

    def is_over(self, since: float) -> bool:
        """True when the time is over.

        Raises:
            TerminationSignal: the run's end is wanted.
        """
        if get_run_context().cancelled:
            raise TerminationSignal(signal.SIGTERM)
        return time.monotonic() - since > self.seconds


def _begun(body: Callable[..., Any], given: tuple[Any, ...]) -> Any:
    note(get_run_context().run_id, "body", get_run_context().attempt)
    return body(*given)


def _waited(wait: Any) -> Any:
    began = time.monotonic()
    while isinstance(wait, Wait) and not wait.is_over(began):
        time.sleep(min(0.02, wait.seconds))
    return wait


async def _awaited(wait: Any) -> Any:
    began = time.monotonic()
    while isinstance(wait, Wait) and not wait.is_over(began):  # noqa: ASYNC110 - the end may be wanted by any thread
        await asyncio.sleep(min(0.02, wait.seconds))
    return wait


def _form(form: str, body: Callable[..., Any]) -> Callable[..., Any]:
    def plain(given: Any = ()) -> Any:
        return _waited(_begun(body, given))

    async def awaiting(given: Any = ()) -> Any:
        return await _awaited(_begun(body, given))

    def generator(given: Any = ()) -> Iterator[Any]:
        yield "first"
        return _waited(_begun(body, given))

    async def async_generator(given: Any = ()) -> AsyncIterator[Any]:
        yield "first"
        await _awaited(_begun(body, given))

    return dict(zip(FORMS, (plain, awaiting, generator, async_generator), strict=True))[form]


Tasks = dict[str, Task[..., Any]]


def in_forms(*forms: str, **given: Any) -> Callable[[Callable[..., Any]], Tasks]:
    """The tasks of a body, by form, with a note by each of their hooks."""

    def made(body: Callable[..., Any]) -> Tasks:
        hooks: dict[str, Any] = {kind: [partial(tell, kind)] for kind in options.HOOKS}
        return {
            form: task(key=f"behave.{body.__name__}.{form}".replace(" ", "-"), **hooks, **given)(_form(form, body))
            for form in forms or (PLAIN,)
        }

    return made


@in_forms(*FORMS)
def gives_five() -> int:
    return 5


@in_forms(*FORMS)
def fails() -> None:
    raise ValueError("x")


@in_forms(*FORMS, retries=2)
def fails_thrice() -> None:
    raise ValueError("x")


@in_forms(*FORMS, retries=2, retry_delay_seconds=0.1)
def fails_thrice_with_delay() -> None:
    raise ValueError("x")


@in_forms(PLAIN, ASYNC, retries=2)
def fails_once() -> int:
    if get_run_context().attempt == 1:
        raise ValueError("x")
    return get_run_context().attempt


@in_forms(*FORMS, timeout_seconds=0.2)
def overruns() -> Wait:
    return Wait(30)


@in_forms(PLAIN, ASYNC, timeout_seconds=0.2, retries=1)
def overruns_once() -> Wait | int:
    return Wait(30) if get_run_context().attempt == 1 else 5


@in_forms(*FORMS)
def times_itself_out() -> None:
    raise TimeoutError("mine")


@in_forms(PLAIN, ASYNC, retries=1)
def returns_failed() -> State[Any]:
    return Failed(message="manual")


@in_forms(PLAIN, ASYNC, retries=3)
def returns_cancelled() -> State[Any]:
    return Cancelled()


@in_forms(PLAIN, ASYNC)
def returns_some_failed() -> list[State[Any]]:
    return [Completed(), Failed()]


@in_forms(PLAIN, ASYNC)
def returns_later() -> State[Any] | int:
    if get_run_context().attempt == 1:
        return Scheduled(scheduled_time=datetime.now(UTC) + timedelta(seconds=0.2))
    return 5


@in_forms(PLAIN, ASYNC)
def returns_running() -> State[Any]:
    return Running()


@in_forms(PLAIN, ASYNC)
def returns_paused_and_completed() -> list[State[Any]]:
    return [Paused(), Completed()]


@in_forms(*FORMS, retries=3)
def is_interrupted() -> None:
    raise KeyboardInterrupt


@in_forms(*FORMS, retries=3)
def exits() -> None:
    raise SystemExit(3)


@in_forms(*FORMS, retries=3)
def is_cancelled_from_elsewhere() -> None:
    raise asyncio.CancelledError


@in_forms(*FORMS, retries=3)
def waits() -> Wait:
    return Wait(30)


@in_forms()
def stays_once() -> Wait | int:
    return Wait(30) if get_run_context().attempt == 1 else 5


@in_forms(PLAIN, ASYNC)
def takes(given: object) -> object:
    return given


@in_forms()
def takes_nothing() -> None:
    raise AssertionError("it is not to be called")


@in_forms(start_within=0.1)
def starts_soon() -> int:
    return 5


@in_forms(limit=1)
def is_alone(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.01)
    return "alone"


# --- lost with their process ------------------------------------------------------------------------------------------


@in_forms()
def is_killed_twice() -> int:
    if get_run_context().attempt < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 5


@in_forms(retries=5)
def is_always_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@in_forms(on_crash="fail", retries=5)
def may_be_lost_once() -> None:
    os._exit(4)


# --- odd values and exceptions ----------------------------------------------------------------------------------------


LOCK = threading.Lock()
ELEVEN_MEGABYTES = b"x" * 11_000_000


class Odd(BaseException):
    """No exception that anybody expects."""


class Unprintable(Exception):
    """One whose text cannot be had."""

    def __str__(self) -> str:
        raise LookupError("no text")


class Unread(Exception):
    """One that no reader registers."""


@in_forms(PLAIN, ASYNC, retries=3)
def returns_lock() -> Any:
    return {"lock": LOCK}


@in_forms(PLAIN, ASYNC, retries=3)
def returns_eleven_megabytes() -> bytes:
    return ELEVEN_MEGABYTES


async def _never() -> int:
    await asyncio.sleep(0)
    return 5


@in_forms(PLAIN)
def returns_coroutine() -> Any:
    return _never()


@in_forms(PLAIN)
def returns_generator() -> Any:
    return (number for number in range(3))


@in_forms(PLAIN, ASYNC)
def raises_base_exception() -> None:
    raise Odd("odd")


@in_forms(PLAIN, ASYNC)
def raises_unprintable() -> None:
    raise Unprintable


@in_forms(PLAIN, ASYNC)
def raises_group() -> None:
    raise ExceptionGroup("both", [ValueError("x"), KeyError("y")])


@in_forms(PLAIN, ASYNC)
def raises_a_megabyte() -> None:
    raise ValueError("x" * 1_000_000)


@in_forms(PLAIN, ASYNC)
def raises_unread() -> None:
    raise Unread("who knows")


@in_forms(*FORMS)
def raises_generator_exit() -> None:
    raise GeneratorExit


@in_forms(PLAIN)
def raises_stop_iteration() -> None:
    raise StopIteration("x")
