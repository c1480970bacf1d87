"""Waiting for others from an event loop, in a thread that nothing else needs."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


async def waited_for(call: Callable[[], T]) -> T:
    """What this gives, called in a thread of its own with the context that holds here. Cancelled, it is left to itself.

    The threads that a loop has for such calls are few: those who wait for something would take them all, and whoever
    is to give it could not go on.
    """
    answer, context = Future[T](), copy_context()
    answer.set_running_or_notify_cancel()  # from now on no cancelling of the waiting task reaches the thread

    def work() -> None:
        try:
            answer.set_result(context.run(call))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the task waits
            answer.set_exception(error)

    threading.Thread(target=work, name="baton-waits", daemon=True).start()
    return await asyncio.wrap_future(answer)
