"""What type checkers see of flows: read, never run. A line that must not pass says so in its `type: ignore`."""

from typing import assert_type

from orchestrator import RunFuture, RunFutureList, flow
from shared.states import State


@flow
def etl(day: str, depth: int = 1) -> int:
    return len(day) + depth


@flow(retries=3, flow_run_name="load {day}", unfinished="cancel", validate_parameters=False)
async def load(day: str) -> bytes:
    return day.encode()


async def called() -> None:
    assert_type(etl("today"), int)
    assert_type(etl("today", return_state=True), State[int])
    assert_type(await load("today"), bytes)
    assert_type(await load("today", return_state=True), State[bytes])
    etl(1)  # type: ignore[call-overload]


def submitted() -> None:
    assert_type(etl.submit("today"), RunFuture[int])
    assert_type(load.submit("today"), RunFuture[bytes])
    assert_type(etl.with_options(retries=1).submit("today", depth=2), RunFuture[int])
    assert_type(etl.map(["today"]), RunFutureList[int])
    etl.with_options(trigger=print)  # type: ignore[call-arg]
