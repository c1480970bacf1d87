"""Futures of runs on a fleet: results, patience, many at once, other threads, loops and processes."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from orchestrator import Orchestrator, allow_failure, as_completed, resolve_futures_to_data
from shared.errors import Closed, InvalidValue, RunGone, TaskRunTimeoutError, WaitTimeout
from shared.ids import new_id
from shared.settings import Settings
from shared.states import State
from tests.end_to_end.bodies import add, fail, held, oversleep
from tests.support.fleets import command, in_thread, is_heard
from tests.support.server import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("resident")
READER = """
import sys
from orchestrator import Orchestrator, allow_failure, as_completed, resolve_futures_to_data
with Orchestrator() as baton:
    print(baton.future(sys.argv[1]).result(timeout=20))
"""

BLOCKS = """
import asyncio, sys
from orchestrator import Orchestrator, as_completed, wait
async def block():
    with Orchestrator() as baton:
        future = baton.future(sys.argv[1])
        print(future.wait(0.01), len(wait([future], 0.01).done), await future.wait_async(0.01))
asyncio.run(block())
"""


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """What the held bodies of a test wait for; they do not outlast it."""
    gate = tmp_path / "gate"
    yield gate
    gate.touch()


def test_patience_ends_and_the_future_goes_on(baton: Orchestrator, gate: Path) -> None:
    future = baton.submit(held, {"path": str(gate)})
    eventually(lambda: future.get_state().is_running())
    assert future.wait(0.05) is None
    with pytest.raises(WaitTimeout) as caught:
        future.result(timeout=0.05)
    assert str(caught.value) == f"Task run {future.run_id} did not complete within 0.05 seconds"
    assert (future.done(), future.wait(0)) == (False, None)
    gate.touch()
    assert future.result() == str(gate)
    assert future.done()


def test_a_wait_of_no_time_looks_once(baton: Orchestrator) -> None:
    future = baton.submit(add, {"x": 1, "y": 2})
    later = baton.future(future.run_id)
    future.wait()
    assert later.wait(timeout=0).is_completed()
    assert later.result(timeout=0) == 3


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_time_that_is_none_is_refused(baton: Orchestrator, timeout: float) -> None:
    future = baton.future(new_id())
    for ask in future.wait, future.result, lambda timeout: asyncio.run(future.wait_async(timeout)):
        with pytest.raises(InvalidValue, match="'timeout' must be a non-negative number, got "):
            ask(timeout)


def test_a_run_that_never_was_is_gone(baton: Orchestrator) -> None:
    future = baton.future(new_id())
    for ask in future.wait, future.get_state, future.result, lambda: asyncio.run(future.aresult()):
        with pytest.raises(RunGone, match=future.run_id):
            ask()
    assert future.done()


def test_a_failure_is_raised_or_given_back(baton: Orchestrator) -> None:
    future = baton.submit(fail, {"text": "x"})
    with pytest.raises(ValueError, match=r"^x$"):
        future.result(timeout=20)
    given = future.result(raise_on_failure=False)
    assert (type(given), given.args) == (ValueError, ("x",))


def test_any_number_of_futures_of_one_run_hear_of_its_end(
    baton: Orchestrator, client: "redis.Redis", gate: Path
) -> None:
    run_id = baton.submit(held, {"path": str(gate)}).run_id
    answers = [in_thread(baton.future(run_id).result) for _ in range(20)]
    eventually(lambda: is_heard(client, run_id))
    gate.touch()
    assert [answer() for answer in answers] == [str(gate)] * 20
    eventually(lambda: not is_heard(client, run_id))


def test_whoever_asks_while_the_end_is_told_hears_of_it_too(baton: Orchestrator) -> None:
    def ask(run_id: str) -> State:
        return baton.future(run_id).wait(20)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            run_id = baton.submit(add, {"x": 1, "y": 1}).run_id
            assert all(state.is_completed() for state in pool.map(ask, [run_id] * 8))


def test_five_hundred_futures_are_awaited_at_once(baton: Orchestrator) -> None:
    futures = baton.submit_many((add, {"x": number, "y": 0}) for number in range(500))

    async def all_of_them() -> list[object]:
        return await asyncio.gather(*futures)

    assert asyncio.run(all_of_them()) == list(range(500))


def test_results_of_a_fleet_come_as_they_end_and_resolve_in_nested_data(baton: Orchestrator, gate: Path) -> None:
    waiting = baton.submit(held, {"path": str(gate)})
    quick = baton.submit_many((add, {"x": number, "y": 0}) for number in range(20))
    ended = iter(as_completed([waiting, *quick], 20))
    assert {next(ended) for _ in quick} == set(quick)
    gate.touch()
    assert next(ended) == waiting
    assert quick.result() == list(range(20))
    failed = baton.submit(fail, {"text": "x"})
    resolved = resolve_futures_to_data({"sum": [quick[3], (quick[4],)], "failed": allow_failure(failed)})
    assert (resolved["sum"], repr(resolved["failed"])) == ([3, (4,)], "allow_failure(ValueError('x'))")


def test_a_time_out_is_heard_like_any_other_end(baton: Orchestrator) -> None:
    future, called = baton.submit(oversleep, {"seconds": 20}), list[str]()
    future.add_done_callback(lambda future: called.append(future.get_state().name))
    with pytest.raises(TaskRunTimeoutError):
        future.result(timeout=20)
    eventually(lambda: called == ["TimedOut"])


def test_a_loop_goes_on_while_a_future_is_awaited(baton: Orchestrator, gate: Path) -> None:
    future = baton.submit(held, {"path": str(gate)})

    async def open_while_waiting() -> tuple[object, object]:
        impatient = await future.wait_async(0.01)
        result = asyncio.create_task(future.aresult())
        await asyncio.sleep(0)
        await asyncio.to_thread(gate.touch)
        return impatient, await result

    assert asyncio.run(open_while_waiting()) == (None, str(gate))


def test_a_loop_that_is_closed_while_it_waits_takes_nothing_from_others(
    baton: Orchestrator, client: "redis.Redis", gate: Path
) -> None:
    run_id = baton.submit(held, {"path": str(gate)}).run_id
    loop = asyncio.new_event_loop()
    abandoned = loop.create_task(baton.future(run_id).wait_async())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    answer = in_thread(baton.future(run_id).result)
    eventually(lambda: is_heard(client, run_id))
    gate.touch()
    assert answer() == str(gate)
    assert baton.submit(add, {"x": 1, "y": 1}).result(timeout=20) == 2
    abandoned._log_destroy_pending = False  # this test's own doing, of which asyncio would tell


def test_a_wait_that_holds_up_a_loop_is_warned_about_once(
    baton: Orchestrator, module_server: RedisServer, gate: Path
) -> None:
    run_id = baton.submit(held, {"path": str(gate)}).run_id
    told = command(sys.executable, "-W", "always", "-c", BLOCKS, run_id, url=module_server.url)
    assert (told.stdout, told.returncode) == ("None 0 None\n", 0), told.stderr
    (line,) = told.stderr.splitlines()
    assert line.endswith(
        "UserWarning: waiting for a future in the thread of a running event loop holds up that loop; "
        "write `await future`"
    )


def test_another_process_makes_a_future_of_the_id(baton: Orchestrator, module_server: RedisServer) -> None:
    run_id = baton.submit(add, {"x": 20, "y": 1}).run_id
    reader = command(sys.executable, "-c", READER, run_id, url=module_server.url)
    assert (reader.stdout, reader.returncode) == ("21\n", 0), reader.stderr


def test_whoever_waits_when_it_is_closed_hears_so(
    module_server: RedisServer, client: "redis.Redis", gate: Path
) -> None:
    before = set(threading.enumerate())
    baton = Orchestrator(settings=Settings.load({}, redis_url=module_server.url))
    future = baton.submit(held, {"path": str(gate)})
    answers = [in_thread(future.wait), in_thread(lambda: asyncio.run(future.wait_async()))]
    eventually(lambda: is_heard(client, future.run_id))
    baton.close()
    for answer in answers:
        with pytest.raises(Closed):
            answer()
    for ask in future.wait, lambda: baton.submit(add, {"x": 1, "y": 1}):
        with pytest.raises(Closed):
            ask()
    assert [each.name for each in threading.enumerate() if "baton" in each.name and each not in before] == []


def test_a_forked_producer_submits_and_waits_for_itself(baton: Orchestrator, client: "redis.Redis", gate: Path) -> None:
    future = baton.submit(held, {"path": str(gate)})
    answer = in_thread(future.result)
    eventually(lambda: is_heard(client, future.run_id))
    child = os.fork()
    if child == 0:
        is_right = (
            baton.submit(add, {"x": 1, "y": 1}).result(timeout=20) == 2 and baton.future(future.run_id).wait(0) is None
        )
        os._exit(0 if is_right else 1)
    _, status = os.waitpid(child, 0)
    gate.touch()
    assert os.waitstatus_to_exitcode(status) == 0
    assert answer() == str(gate)
    assert baton.submit(add, {"x": 2, "y": 1}).result(timeout=20) == 3
