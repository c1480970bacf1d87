"""What type checkers see of tasks: read, never run. A line that must not pass says so in its `type: ignore`."""

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from datetime import timedelta
from typing import Any, TypeAlias, assert_type

from orchestrator import RunFuture, RunFutureList, Task, task
from shared.cache import INPUTS
from shared.states import State

Page: TypeAlias = dict[str, str]


@task
def extract(url: str, depth: int = 1) -> Page:
    return {url: "x" * depth}


@task(retries=3, retry_delay_seconds=[1, 5, 30], queue="mail", on_crash="fail")
def send(to: str, *, subject: str | None = None) -> None:
    print(to, subject)  # noqa: T201


@task(cache_policy=INPUTS - "client", cache_expiration=timedelta(hours=1), refresh_cache=True)
def parse(page: str, client: object = None) -> int:
    return len(page) if client is None else 0


@task(cache_key_fn=lambda context, parameters: f"{context.task_run.id}/{parameters['page']}")
def count_words(page: str) -> int:
    return len(page.split())


@task()
async def fetch(url: str) -> bytes:
    return url.encode()


@task
def count(end: int) -> Iterator[int]:
    yield from range(end)


@task
def told(end: int) -> Generator[int, None, str]:
    yield end
    return "what a generator returns is not in its result"


@task
async def stream(end: int) -> AsyncIterator[float]:
    yield end


@task
def anything(value: Any) -> Any:
    return value


def the_kinds_of_tasks() -> None:
    assert_type(extract, Task[[str, int], Page])  # type: ignore[assert-type] # the names and the default are known too
    function: Callable[[str, int], Page] = extract
    by_default: Callable[[str], Page] = extract
    any_task: Task[..., object] = extract
    assert_type(parse.submit("page"), RunFuture[int])
    assert_type(count_words.submit("page"), RunFuture[int])
    print(function, by_default, any_task)  # noqa: T201


def a_call_is_that_of_the_function() -> None:
    assert_type(extract("u"), Page)
    assert_type(extract(url="u", depth=2), Page)
    assert_type(count(3), Iterator[int])
    pending: Coroutine[Any, Any, bytes] = fetch("u")
    pending.close()


async def an_async_function_is_awaited_where_it_is_called() -> None:
    assert_type(await fetch("u"), bytes)


def a_future_knows_what_the_run_gives() -> None:
    assert_type(extract.submit("u"), RunFuture[Page])
    assert_type(extract.submit(url="u", depth=2), RunFuture[Page])
    assert_type(send.submit("me", subject="s"), RunFuture[None])
    assert_type(fetch.submit("u"), RunFuture[bytes])
    assert_type(count.submit(3), RunFuture[list[int]])
    assert_type(told.submit(3), RunFuture[list[int]])
    assert_type(stream.submit(3), RunFuture[list[float]])
    assert_type(anything.submit(3), RunFuture[Any])


async def on_an_event_loop_too() -> None:
    assert_type(await extract.asubmit("u"), RunFuture[Page])
    assert_type(await fetch.asubmit("u"), RunFuture[bytes])
    assert_type(await count.asubmit(3), RunFuture[list[int]])
    assert_type(await (await fetch.asubmit("u")), bytes)


def many_at_once() -> None:
    assert_type(extract.map(["u", "v"]), RunFutureList[Page])
    assert_type(fetch.map(["u", "v"]), RunFutureList[bytes])
    assert_type(count.map([1, 2]), RunFutureList[list[int]])
    assert_type(extract.map(["u"], return_state=True), list[State[Any]])


def other_options_leave_the_type() -> None:
    assert_type(extract.with_options(queue="gpu", retries=None, delay=30).submit("u"), RunFuture[Page])
    assert_type(fetch.with_options(at_front=True).submit("u"), RunFuture[bytes])
    extract.with_options(at_front=True)("u")


def a_wrong_call_is_an_error() -> None:
    extract()  # type: ignore[call-arg]
    extract(5)  # type: ignore[arg-type]
    extract("u", 1, 2)  # type: ignore[call-arg]
    extract("u", colour="red")  # type: ignore[call-arg]
    send("me", "positional")  # type: ignore[call-arg]


def so_is_a_wrong_submit() -> None:
    extract.submit()  # type: ignore[call-overload]
    extract.submit(5)  # type: ignore[call-overload]
    extract.submit("u", 1, 2)  # type: ignore[call-overload]
    extract.submit("u", colour="red")  # type: ignore[call-overload]
    extract.submit(extract.submit("u"))  # type: ignore[call-overload] # a future is no text, yet
    fetch.submit(5)  # type: ignore[call-overload]
    count.submit("u")  # type: ignore[call-overload]
    extract.with_options(retries=2).submit(5)  # type: ignore[call-overload]


async def and_on_an_event_loop() -> None:
    await extract.asubmit(5)  # type: ignore[call-overload]
    await fetch.asubmit("u", colour="red")  # type: ignore[call-overload]


def wrong_options_are_errors() -> None:
    extract.with_options(retries="3")  # type: ignore[arg-type]
    extract.with_options(colour="red")  # type: ignore[call-arg]
    task(queue=5)  # type: ignore[call-overload]
    task(on_crash="ignore")  # type: ignore[call-overload]
    task(delay=5)  # type: ignore[call-overload] # belongs to a submit
    task(5)  # type: ignore[call-overload]
