"""What type checkers see of hooks and of tasks that are run right here: read, never run."""

from collections.abc import Generator
from typing import Any, assert_type

from orchestrator import get_run_logger, tags, task
from shared.retries import exponential_backoff
from shared.runs import TaskRun
from shared.specs import TaskSpec
from shared.states import State
from shared.transactions import Transaction
from worker.engine import run_generator_task_sync, run_task_async, run_task_sync


def is_worth_it(spec: TaskSpec[..., Any], run: TaskRun, state: State[Any]) -> bool:
    return run.run_count < spec.retries or state.is_failed()


@task(retries=3, retry_delay_seconds=exponential_backoff(2), retry_condition_fn=is_worth_it, log_prints=True)
def extract(url: str) -> bytes:
    get_run_logger().info("got %s", url)
    return url.encode()


@extract.on_failure
def tell(spec: TaskSpec[..., Any], run: TaskRun, state: State[Any]) -> int:
    return len(f"{spec.name} {run.name} {state.name}")


@extract.on_completion
async def atell(*given: object) -> None:
    tell(*given)  # type: ignore[arg-type]


@extract.on_commit
def count(txn: Transaction) -> int:
    return len(txn.children)


@extract.on_rollback
async def undo(txn: Transaction) -> None:
    assert_type(count(txn), int)


async def a_hook_stays_the_function_that_it_is(spec: TaskSpec[..., Any], run: TaskRun, state: State[Any]) -> None:
    assert_type(tell(spec, run, state), int)
    await atell(spec, run, state)


def what_is_no_hook_is_an_error() -> None:
    extract.on_failure(5)  # type: ignore[type-var]
    extract.on_rollback(5)  # type: ignore[type-var]
    extract.with_options(on_failure=5)  # type: ignore[arg-type]
    extract.with_options(on_failure=[tell, atell], task_run_name="of {url}")


async def a_run_right_here_gives_what_the_function_gives() -> None:
    with tags("a", "b") as all_of_them:
        assert_type(all_of_them, tuple[str, ...])
    assert_type(run_task_sync(extract, parameters={"url": "u"}), bytes | State[Any] | None)
    assert_type(await run_task_async(extract.spec, return_type="state"), bytes | State[Any] | None)
    assert_type(run_generator_task_sync(extract), Generator[Any, None, Any])
    run_task_sync(extract, return_type="value")  # type: ignore[arg-type]
