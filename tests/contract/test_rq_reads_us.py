"""What RQ's own classes and tools read of our runs and workers, and that their reading changes nothing of ours."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis
from rq import Queue, Worker
from rq.job import Job
from rq.registry import (
    BaseRegistry,
    CanceledJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.suspension import resume, suspend

from shared.clock import parse_iso
from shared.upkeep import Death, Pulse
from tests.support.ledgers import (
    CANCELLED,
    FAILED,
    Store,
    asked_to_cancel,
    fields_of,
    keyspace,
    one_begun,
    one_submitted,
    report,
    reported,
    seated,
)

ROLE = "operator"
REGISTRIES: dict[str, type[BaseRegistry]] = {
    "scheduled": ScheduledJobRegistry,
    "started": StartedJobRegistry,
    "finished": FinishedJobRegistry,
    "failed": FailedJobRegistry,
    "canceled": CanceledJobRegistry,
}


@pytest.fixture
def rq(real: Store) -> Iterator[redis.Redis]:
    """A connection as RQ's users make it."""
    with redis.Redis.from_url(real.settings.redis_url) as client:
        yield client


@pytest.fixture
def runs(real: Store) -> dict[str, str]:
    """A run in every state that can be reached, with a busy worker, an idle one and a dead one."""
    ledger = real.ledger
    seat = seated(ledger, "busy")
    ids = {"scheduled": one_submitted(ledger, delay=100)}
    for name, outcome in (
        ("completed", None),
        ("failed", FAILED._replace(traceback="Traceback")),
        ("cancelled", CANCELLED),
    ):
        ids[name] = one_submitted(ledger)
        claim = one_begun(ledger, seat)
        reported(ledger, seat, report(claim, outcome) if outcome else report(claim))
    ids["crashed"] = one_submitted(ledger, fields={"on_crash": "fail"})
    one_begun(ledger, seated(ledger, "dead"))
    ledger.reap([Death("dead", "it was killed")])
    for name in ("cancelling", "running"):
        ids[name] = one_submitted(ledger, fields={"timeout_seconds": 5, "result_ttl": 60, "max_retries": 1})
        one_begun(ledger, seat)
    asked_to_cancel(ledger, ids["cancelling"])
    ids["pending"] = one_submitted(ledger)
    seated(ledger, "idle", "q", "other")
    return ids


def test_every_state_has_a_status_that_rq_knows(runs: dict[str, str], rq: redis.Redis) -> None:
    assert {name: Job.fetch(run_id, connection=rq).get_status().value for name, run_id in runs.items()} == {
        "scheduled": "scheduled",
        "pending": "queued",
        "running": "started",
        "cancelling": "started",
        "completed": "finished",
        "failed": "failed",
        "crashed": "failed",
        "cancelled": "canceled",
    }


def test_queues_and_their_ids_are_rqs(runs: dict[str, str], rq: redis.Redis) -> None:
    queues = Queue.all(connection=rq)
    assert [(queue.name, queue.get_job_ids(), queue.count) for queue in queues] == [("q", [runs["pending"]], 1)]


def test_registries_hold_what_is_in_their_state(runs: dict[str, str], rq: redis.Redis) -> None:
    found = {
        name: set(registry("q", connection=rq).get_job_ids(cleanup=False)) for name, registry in REGISTRIES.items()
    }
    assert found == {
        "scheduled": {runs["scheduled"]},
        "started": {runs["running"], runs["cancelling"]},
        "finished": {runs["completed"]},
        "failed": {runs["failed"], runs["crashed"]},
        "canceled": {runs["cancelled"]},
    }


def test_a_job_tells_whose_it_is_and_when_it_was_what(real: Store, runs: dict[str, str], rq: redis.Redis) -> None:
    job, fields = Job.fetch(runs["failed"], connection=rq), fields_of(real, runs["failed"])
    assert (job.func_name, job.args, job.kwargs, job.origin, job.description, job.worker_name) == (
        "worker.entry.run",
        (job.id,),
        {},
        "q",
        "shop.add",
        "busy",
    )
    assert [job.created_at, job.enqueued_at, job.started_at, job.ended_at] == [
        parse_iso(fields[name]) for name in ("created_at", "enqueued_at", "started_at", "ended_at")
    ]


def test_every_run_can_be_fetched_and_no_callback_of_a_user_is_named(runs: dict[str, str], rq: redis.Redis) -> None:
    jobs = Job.fetch_many(list(runs.values()), connection=rq)
    callbacks = [(job.success_callback, job.failure_callback, job.stopped_callback) for job in jobs if job]
    assert callbacks == [(None, None, None)] * len(runs)


def test_workers_are_listed_with_queues_state_and_current_job(runs: dict[str, str], rq: redis.Redis) -> None:
    workers = {worker.name: worker for worker in Worker.all(connection=rq)}
    current = {name: worker.get_current_job_id() for name, worker in workers.items()}
    assert {name: (worker.queue_names(), worker.get_state()) for name, worker in workers.items()} == {
        "busy": (["q"], "busy"),
        "idle": (["q", "other"], "idle"),
    }
    assert current == {"busy": runs["running"], "idle": None}
    assert {worker.name for worker in Worker.all(queue=Queue("other", connection=rq))} == {"idle"}


def test_a_beat_is_a_heartbeat_for_rq(real: Store, rq: redis.Redis) -> None:
    fields = {"birth": "2026-11-20T09:15:00.000250Z", "pid": 7, "hostname": "here", "queues": "q", "state": "idle"}
    real.ledger.beat([Pulse("w1", ["q"], fields, is_new=True)])
    (worker,) = Worker.all(connection=rq)
    assert (worker.birth_date, worker.pid, worker.hostname) == (parse_iso("2026-11-20T09:15:00.000250Z"), 7, "here")
    assert worker.last_heartbeat == parse_iso(real.client.hget("rq:worker:w1", "last_heartbeat"))
    assert 470 < real.client.ttl("rq:worker:w1") <= 480


@pytest.mark.parametrize("options", [[], ["--raw", "--by-queue"]])
@pytest.mark.usefixtures("runs")
def test_rq_info_in_the_middle_of_it_all_changes_nothing(real: Store, options: list[str]) -> None:
    before = keyspace(real)
    command = [sys.executable, "-m", "rq.cli", "info", "-u", real.settings.redis_url, *options]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stderr, keyspace(real)) == (0, "", before)
    assert ("2 executing, 1 finished, 2 failed" in told.stdout, "busy" in told.stdout) == (True, True)


def test_rqs_cleanup_of_registries_finds_nothing_to_do(real: Store, runs: dict[str, str], rq: redis.Redis) -> None:
    before = keyspace(real)
    for registry in REGISTRIES.values():
        registry("q", connection=rq).cleanup()
    assert (keyspace(real), len(runs)) == (before, 8)


def test_rqs_own_suspension_holds_our_workers_back(real: Store, rq: redis.Redis) -> None:
    run_id = one_submitted(real.ledger)
    seat = seated(real.ledger)
    suspend(rq)
    suspended = real.ledger.cycle(seat, [], 1).claims
    resume(rq)
    assert (suspended, one_begun(real.ledger, seat).run_id) == ([], run_id)
