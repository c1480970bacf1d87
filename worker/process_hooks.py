"""What user code does once in each worker process, around its runs: open a pool of connections, close it.

Registered when the modules of a fleet are imported, in that order; run in the child, after the fork.
"""

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from shared.errors import ConfigError, InvalidCall, qualified_name

log = logging.getLogger("baton.worker")
Hook = Callable[[], object]
H = TypeVar("H", bound=Hook)
_starting: Final[list[Hook]] = []
_stopping: Final[list[Hook]] = []


def on_worker_start(hook: H) -> H:
    """Have this function called in each worker process before it begins its first run.

    An error in it ends the process; its fleet starts another, after a pause that grows. A coroutine function is awaited
    on the event loop of its runs; only fleets with async slots take one.

    Raises:
        InvalidCall: it is no function that can be called without arguments.
    """
    return _register(_starting, hook, "on_worker_start")


def on_worker_stop(hook: H) -> H:
    """Have this function called in each worker process after its last run has been reported.

    An error in it is logged. A process that is killed calls nothing.

    Raises:
        InvalidCall: as `on_worker_start`.
    """
    return _register(_stopping, hook, "on_worker_stop")


def refuse_coroutine_hooks() -> None:
    """See that what was registered can be called where no event loop runs.

    Raises:
        ConfigError: a hook is a coroutine function.
    """
    for hook in (*_starting, *_stopping):
        if inspect.iscoroutinefunction(hook):
            raise ConfigError(
                f"the worker hook {_name(hook)} is a coroutine function: only workers with async slots await it"
            )


def run_start_hooks() -> None:
    """Call what was registered. Whatever one raises comes out, with a note that names it.

    Raises:
        ConfigError: as `refuse_coroutine_hooks`.
    """
    refuse_coroutine_hooks()
    for hook in _starting:
        with _noted(hook):
            hook()


async def arun_start_hooks() -> None:
    """The same as `run_start_hooks`, on the event loop of a worker: coroutine functions are awaited."""
    for hook in _starting:
        with _noted(hook):
            await _awaited(hook())


def run_stop_hooks() -> None:
    """Call what was registered. What one raises is logged, and the next is called."""
    for hook in _stopping:
        with _logged(hook):
            hook()


async def arun_stop_hooks() -> None:
    """The same as `run_stop_hooks`, on the event loop of a worker: coroutine functions are awaited."""
    for hook in _stopping:
        with _logged(hook):
            await _awaited(hook())


async def _awaited(returned: Any) -> None:
    if inspect.isawaitable(returned):
        await returned


@contextmanager
def _noted(hook: Hook) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(f"raised by the on_worker_start hook {_name(hook)}")
        raise


@contextmanager
def _logged(hook: Hook) -> Iterator[None]:
    try:
        yield
    except Exception:
        log.exception("the on_worker_stop hook %s failed", _name(hook))


def _register(hooks: list[Hook], hook: H, what: str) -> H:
    if not callable(hook):
        raise InvalidCall(f"@{what} stands before a function, got {hook!r}; write it without parentheses")
    needed = [name for name, parameter in inspect.signature(hook).parameters.items() if _is_needed(parameter)]
    if needed:
        raise InvalidCall(f"@{what} calls {_name(hook)} without arguments, and it needs {', '.join(needed)}")
    hooks.append(hook)
    return hook


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def _name(hook: Any) -> str:
    return qualified_name(hook) if hasattr(hook, "__qualname__") else repr(hook)
