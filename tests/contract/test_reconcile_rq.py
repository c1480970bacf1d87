"""What RQ's own tools do to runs: the doctor finds it, `reconcile` adopts it, and all runs go on to their ends."""

from collections.abc import Callable

import pytest
import redis
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry, StartedJobRegistry

from orchestrator.doctor import examine
from orchestrator.reconcile import reconcile
from tests.support.ledgers import Store, state_of
from tests.support.plants import Story, told
from tests.support.tied_plants import Tied, tied
from tests.support.working_off import worked_off

ROLE = "operator"
Tool = Callable[[redis.Redis, Story, Tied], object]


def requeued(client: redis.Redis, story: Story, _tied: Tied) -> None:
    Job.fetch(story.failed, client).requeue()


def requeued_by_its_registry(client: redis.Redis, story: Story, _tied: Tied) -> None:
    FailedJobRegistry("q", client).requeue(story.crashed)


def cancelled_while_it_waits(client: redis.Redis, story: Story, _tied: Tied) -> None:
    Job.fetch(story.pending, client).cancel()


def cancelled_before_it_is_due(client: redis.Redis, story: Story, _tied: Tied) -> None:
    Job.fetch(story.scheduled, client).cancel()


def cancelled_while_it_waits_for_others(client: redis.Redis, _story: Story, tied: Tied) -> None:
    Job.fetch(tied.deferred, client).cancel()


def cancelled_while_others_wait_for_it(client: redis.Redis, _story: Story, tied: Tied) -> None:
    Job.fetch(tied.needed, client).cancel()


def enqueued_before_its_upstream_ended(client: redis.Redis, _story: Story, tied: Tied) -> None:
    Queue("t", client).enqueue_job(Job.fetch(tied.deferred, client))


def deleted_while_it_waits(client: redis.Redis, story: Story, _tied: Tied) -> None:
    Job.fetch(story.pending, client).delete()


def deleted_while_others_wait_for_it(client: redis.Redis, _story: Story, tied: Tied) -> None:
    Job.fetch(tied.needed, client).delete()


def saved(client: redis.Redis, _story: Story, tied: Tied) -> None:
    job = Job.fetch(tied.deferred, client)
    job.meta["by"] = "hand"
    job.save()


def queue_emptied(client: redis.Redis, _story: Story, _tied: Tied) -> None:
    Queue("t", client).empty()


def queue_deleted(client: redis.Redis, _story: Story, _tied: Tied) -> None:
    Queue("t", client).delete(delete_jobs=False)


def queue_deleted_with_its_jobs(client: redis.Redis, _story: Story, _tied: Tied) -> None:
    Queue("t", client).delete(delete_jobs=True)


def taken_by_a_worker_that_died(client: redis.Redis, _story: Story, tied: Tied) -> None:
    assert Queue.lmove(client, "rq:queue:t", None) == ("rq:queue:t", tied.needed.encode())


def cleaned_up(client: redis.Redis, _story: Story, _tied: Tied) -> None:
    for queue in ("q", "t", "f"):
        StartedJobRegistry(queue, client).cleanup()


TOOLS: tuple[Tool, ...] = (
    requeued,
    requeued_by_its_registry,
    cancelled_while_it_waits,
    cancelled_before_it_is_due,
    cancelled_while_it_waits_for_others,
    cancelled_while_others_wait_for_it,
    enqueued_before_its_upstream_ended,
    deleted_while_it_waits,
    deleted_while_others_wait_for_it,
    saved,
    queue_emptied,
    queue_deleted,
    queue_deleted_with_its_jobs,
    taken_by_a_worker_that_died,
    cleaned_up,
)
HARMLESS = (enqueued_before_its_upstream_ended, cleaned_up)
"""What these do is no fault: a second id in a queue is dropped in its turn, and nothing of ours is ever abandoned."""


@pytest.mark.parametrize("tool", TOOLS)
def test_what_rqs_tools_do_is_found_and_adopted_and_all_runs_go_on(real: Store, tool: Tool) -> None:
    stories = told(real.ledger), tied(real.ledger)
    with redis.Redis.from_url(real.settings.redis_url) as client:
        tool(client, *stories)
    told_of = reconcile(real.exchange, real.ledger, lambda: None)
    assert (told_of.found.violations == (), told_of.left.violations) == (tool in HARMLESS, ())
    worked_off(real, *(key.removeprefix("rq:job:") for key in real.client.keys("rq:job:*")))
    assert examine(real.exchange, lambda: None).violations == ()


@pytest.mark.parametrize(
    ("tool", "name", "state"),
    [
        (requeued, "failed", ("PENDING", "Pending", None)),
        (requeued_by_its_registry, "crashed", ("PENDING", "Pending", None)),
        (cancelled_while_it_waits, "pending", ("CANCELLED", "Cancelled", None)),
        (cancelled_before_it_is_due, "scheduled", ("CANCELLED", "Cancelled", None)),
        (cancelled_while_it_waits_for_others, "deferred", ("CANCELLED", "Cancelled", None)),
        (enqueued_before_its_upstream_ended, "deferred", ("PENDING", "Pending", "deferred")),
        (saved, "deferred", ("PENDING", "Pending", "deferred")),
        (taken_by_a_worker_that_died, "needed", ("PENDING", "Pending", None)),
    ],
)
def test_what_rqs_tools_ask_for_is_done(real: Store, tool: Tool, name: str, state: tuple[str, str, str | None]) -> None:
    stories = told(real.ledger), tied(real.ledger)
    run_id = next(getattr(story, name) for story in stories if hasattr(story, name))
    with redis.Redis.from_url(real.settings.redis_url) as client:
        tool(client, *stories)
    reconcile(real.exchange, real.ledger, lambda: None)
    assert (state_of(real, run_id), real.ledger.get(run_id).state.type) == (state, state[0])


def test_a_run_that_was_requeued_can_be_read_before_anybody_took_it(real: Store) -> None:
    story = told(real.ledger)
    with redis.Redis.from_url(real.settings.redis_url) as client:
        Job.fetch(story.failed, client).requeue()
    assert (real.ledger.get(story.failed).state.type, real.ledger.get(story.failed).end_time) == ("FAILED", None)
