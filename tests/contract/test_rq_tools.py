"""What RQ's own classes, commands and workers do to our runs behind our back, and what becomes of them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from rq import Queue
from rq.job import Job
from rq.registry import (
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.scheduler import RQScheduler

from orchestrator.doctor import examine
from shared.commands import Report, Seat
from shared.errors import RunGone
from shared.upkeep import Ended, Pulse
from tests.support import places
from tests.support.invariants import faults
from tests.support.ledgers import (
    CANCELLED,
    FAILED,
    KEPT,
    Store,
    begun,
    ended,
    fields_of,
    held_by,
    keyspace,
    lifetimes_of,
    one_begun,
    one_submitted,
    quarantined,
    queued,
    report,
    reported,
    rows_of,
    seated,
    seq_of,
    state_of,
    submitted,
    told_by,
)

ROLE = "operator"
REGISTRIES = (
    *(StartedJobRegistry, ScheduledJobRegistry, DeferredJobRegistry),
    *(FinishedJobRegistry, FailedJobRegistry, CanceledJobRegistry),
)
IS_QUEUED = ("PENDING", "Pending", None)


@pytest.fixture
def rq(real: Store) -> Iterator[redis.Redis]:
    """A connection as RQ's users make it."""
    with redis.Redis.from_url(real.settings.redis_url) as client:
        yield client


def told_to_rq(store: Store, command: str, *arguments: str) -> str:
    """What a command of RQ's printed."""
    line = [sys.executable, "-m", "rq.cli", command, "-u", store.settings.redis_url, *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    told = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert told.returncode == 0, told.stderr
    return told.stdout + told.stderr


def ended_as_failed(store: Store) -> str:
    run_id = one_submitted(store.ledger)
    ended(store.ledger, seated(store.ledger), run_id, FAILED._replace(traceback="Traceback"))
    return run_id


def is_well(store: Store) -> bool:
    """Nothing is broken, neither by the tests' own oracle nor by the doctor's laws."""
    assert (faults(store), examine(store.exchange, lambda: None).violations) == ([], ())
    return True


def runs_on(store: Store, run_id: str) -> bool:
    """A worker of ours begins the run, once, and completes it."""
    seat = seated(store.ledger, "later")
    claims = store.ledger.cycle(seat, [], 16).claims
    assert [claim.run_id for claim in claims] == [run_id]
    assert reported(store.ledger, seat, report(claims[0])) == ["OK"]
    return is_well(store) and state_of(store, run_id)[0] == "COMPLETED"


# --- cleaning registries ----------------------------------------------------------------------------------------------


def test_cleanup_just_after_a_lease_has_ended_leaves_the_run_to_the_reaper(real: Store, rq: redis.Redis) -> None:
    _, claim = held_by(real.ledger)
    real.client.zadd("baton:leases", {"w1": 1})
    before = keyspace(real)
    StartedJobRegistry("q", connection=rq).cleanup()
    told_to_rq(real, "info")
    assert keyspace(real) == before
    real.ledger.reap()
    assert (told_by(rows_of(real, claim.run_id)[-1:], "type", "message"), is_well(real)) == (
        [("PENDING", "Attempt 1 was lost: the lease of w1 ended.")],
        True,
    )


def test_cleanup_by_a_clock_that_is_ahead_takes_no_attempt_from_its_worker(real: Store, rq: redis.Redis) -> None:
    seat, claim = held_by(real.ledger)
    one_submitted(real.ledger, delay=10)
    one_submitted(real.ledger, ties=[("up", claim.run_id)])
    before = keyspace(real)
    for registry in REGISTRIES:
        registry("q", connection=rq).cleanup(timestamp=time.time() + 60)
    assert (keyspace(real), reported(real.ledger, seat, report(claim)), is_well(real)) == (before, ["OK"], True)


def test_an_attempt_that_cleanup_called_abandoned_is_taken_back_with_its_token(real: Store, rq: redis.Redis) -> None:
    seat, claim = held_by(real.ledger, fields={"max_retries": 2})
    real.client.zadd("rq:wip:q", {f"{claim.run_id}:{claim.token}": 5})
    StartedJobRegistry("q", connection=rq).cleanup()
    hurt = (fields_of(real, claim.run_id)["status"], FailedJobRegistry("q", connection=rq).get_job_ids())
    real.ledger.reconcile([claim.run_id])
    assert (hurt, fields_of(real, claim.run_id)["token"]) == (("failed", [claim.run_id]), claim.token)
    assert (state_of(real, claim.run_id)[0], lifetimes_of(real, claim.run_id), is_well(real)) == ("RUNNING", {-1}, True)
    assert (reported(real.ledger, seat, report(claim)), is_well(real)) == (["OK"], True)


def test_what_cleanup_drops_from_the_registry_of_an_end_still_ends_with_its_readers(
    real: Store, rq: redis.Redis
) -> None:
    upstream = one_submitted(real.ledger)
    run_id = one_submitted(real.ledger, ties=[("up", upstream)])
    seat = seated(real.ledger)
    ended(real.ledger, seat, upstream)
    FinishedJobRegistry("q", connection=rq).cleanup(timestamp=time.time() + 2 * KEPT)
    kept = lifetimes_of(real, upstream)
    ended(real.ledger, seat, run_id)
    assert (kept, lifetimes_of(real, upstream), is_well(real)) == ({-1}, {60}, True)


# --- requeueing -------------------------------------------------------------------------------------------------------


def test_a_run_that_rq_requeued_is_retried(real: Store) -> None:
    run_id = ended_as_failed(real)
    told_to_rq(real, "requeue", "--queue", "q", run_id)
    assert real.ledger.reconcile([run_id])[0].endswith("retried, as RQ asked")
    assert (told_by(rows_of(real, run_id)[-1:], "type", "message", "actor"), lifetimes_of(real, run_id)) == (
        [("PENDING", "Requeued by RQ.", "rq")],
        {-1},
    )
    assert is_well(real)
    assert runs_on(real, run_id)


def test_all_that_rq_requeued_are_begun_each_once_by_whoever_is_first(real: Store) -> None:
    ids = {ended_as_failed(real)}
    seat = seated(real.ledger, "w2")
    for run_id in submitted(real.ledger, 2):
        ended(real.ledger, seat, run_id, FAILED)
        ids.add(run_id)
    told_to_rq(real, "requeue", "--queue", "q", "--all")
    claims = real.ledger.cycle(seat, [], 16).claims
    assert ({claim.run_id for claim in claims}, {claim.attempt for claim in claims}) == (ids, {2})
    real.ledger.reconcile(sorted(ids))
    assert (reported(real.ledger, seat, *map(report, claims)), is_well(real)) == (["OK"] * 3, True)


def test_a_requeue_that_was_killed_between_its_steps_is_finished(real: Store) -> None:
    run_id = ended_as_failed(real)
    real.client.zrem("rq:failed:q", run_id)
    assert real.ledger.reconcile([run_id]) == ["listed where it belongs"]
    assert (state_of(real, run_id)[0], is_well(real)) == ("FAILED", True)
    real.client.zrem("rq:failed:q", run_id)
    real.client.hset(f"rq:job:{run_id}", "status", "queued")
    assert real.ledger.reconcile([run_id]) == ["retried, as RQ asked"]
    assert runs_on(real, run_id)


# --- deleting ---------------------------------------------------------------------------------------------------------


def _empty(store: Store, _rq: redis.Redis, _run_id: str) -> None:
    told_to_rq(store, "empty", "q")


def _delete_queue(_store: Store, rq: redis.Redis, _run_id: str) -> None:
    Queue("q", connection=rq).delete(delete_jobs=True)


def _delete_job(_store: Store, rq: redis.Redis, run_id: str) -> None:
    Job.fetch(run_id, connection=rq).delete()


@pytest.mark.parametrize("delete", [_empty, _delete_queue, _delete_job])
def test_a_run_that_rq_deleted_is_gone_and_who_waits_for_it_goes_on(
    real: Store, rq: redis.Redis, delete: Callable[[Store, redis.Redis, str], None]
) -> None:
    run_id = one_submitted(real.ledger)
    waiting = one_submitted(real.ledger, ties=[("up", run_id)], queue="other")
    delete(real, rq, run_id)
    real.ledger.reconcile([run_id, waiting])
    with pytest.raises(RunGone):
        real.ledger.get(run_id)
    assert (real.client.keys(f"*{run_id}*"), queued(real, "other")) == ([], [waiting])
    assert begun(real.ledger, seated(real.ledger, "w1", "other"))[0].state == "PENDING"


# --- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [places.queued, places.scheduled, places.deferred])
def test_a_waiting_run_that_rq_cancelled_is_cancelled(
    real: Store, rq: redis.Redis, made: Callable[[Store], str]
) -> None:
    run_id = made(real)
    Job.fetch(run_id, connection=rq).cancel()
    assert real.ledger.reconcile([run_id])[0].endswith("cancelled, as RQ asked")
    assert (told_by(rows_of(real, run_id)[-1:], "type", "message", "actor"), is_well(real)) == (
        [("CANCELLED", "Cancelled with RQ.", "rq")],
        True,
    )


@pytest.mark.parametrize("made", [places.running, places.paused_in_place])
def test_a_held_run_that_rq_cancelled_is_its_processs_to_end(
    real: Store, rq: redis.Redis, made: Callable[[Store], str]
) -> None:
    run_id = made(real)
    Job.fetch(run_id, connection=rq).cancel()
    token = fields_of(real, run_id)["token"]
    beaten = real.ledger.beat([Pulse("w1", ["q"], {})])
    assert (beaten.to_cancel, state_of(real, run_id)[0]) == ([Ended("w1", run_id, token)], "CANCELLING")
    real.ledger.reconcile([run_id])
    assert is_well(real)
    verdicts = reported(real.ledger, Seat("w1", ["q"], 2), Report(run_id, token, CANCELLED))
    assert (verdicts, is_well(real)) == (["OK"], True)


# --- programs of RQ's -------------------------------------------------------------------------------------------------


def test_rqs_scheduler_beside_our_promoter_begins_nothing_twice(real: Store, rq: redis.Redis) -> None:
    ids = set(submitted(real.ledger, 4, delay=0.0))
    scheduler = RQScheduler(["q"], connection=rq, interval=1)
    scheduler.acquire_locks()
    moved_by_us = real.ledger.promote(2).moved
    scheduler.enqueue_scheduled_jobs()
    scheduler.release_locks()
    first = real.ledger.cycle(seated(real.ledger), [], 16).claims
    real.ledger.reconcile(sorted(ids))
    real.ledger.promote()
    second = real.ledger.cycle(seated(real.ledger, "w2"), [], 16).claims
    assert (moved_by_us, len(first) + len(second)) == (2, 4)
    assert ({claim.run_id for claim in [*first, *second]}, is_well(real)) == (ids, True)


def test_a_stock_worker_executes_nothing_says_why_and_the_run_goes_on(real: Store) -> None:
    run_id = one_submitted(real.ledger)
    told = told_to_rq(real, "worker", "--burst", "q")
    assert f"run {run_id} belongs to Baton: start `baton worker" in told
    assert (queued(real), state_of(real, run_id)) == ([], IS_QUEUED)
    real.ledger.reconcile([run_id])
    assert (queued(real), real.client.keys("rq:results:*")) == ([run_id], [])
    assert is_well(real)
    assert runs_on(real, run_id)


def test_a_run_that_a_stock_worker_took_and_died_with_goes_on(real: Store) -> None:
    run_id = one_submitted(real.ledger)
    real.client.lmove("rq:queue:q", "rq:queue:q:intermediate", "LEFT", "RIGHT")
    assert real.ledger.reconcile([run_id]) == ["put back where it waits"]
    real.client.delete("rq:queue:q:intermediate")
    assert is_well(real)
    assert runs_on(real, run_id)


def test_suspension_holds_beginnings_back_and_nothing_else(real: Store) -> None:
    seat, claim = held_by(real.ledger)
    waiting = one_submitted(real.ledger)
    told_to_rq(real, "suspend")
    suspended = real.ledger.cycle(seat, [report(claim)], 1)
    beaten = real.ledger.beat([Pulse("w1", ["q"], {})])
    real.client.delete("baton:wake:q")
    real.ledger.promote()
    asleep = real.client.exists("baton:wake:q")
    told_to_rq(real, "resume")
    real.ledger.promote()
    assert (suspended.verdicts, suspended.claims, beaten.buried, asleep) == (["OK"], [], [], 0)
    assert (real.client.llen("baton:wake:q"), one_begun(real.ledger, seat).run_id) == (1, waiting)
    assert is_well(real)


# --- pushed by hand ---------------------------------------------------------------------------------------------------


def _unknown(_store: Store) -> str:
    return "01a1f879-5eda-7005-8876-23ab1bc095ff"


@pytest.mark.parametrize(
    "made",
    [
        _unknown,
        places.running,
        places.completed,
        places.cancelled,
        places.scheduled,
        places.deferred,
    ],
)
def test_an_id_that_was_pushed_by_hand_begins_nothing(real: Store, made: Callable[[Store], str]) -> None:
    run_id = made(real)
    real.client.rpush("rq:queue:q", run_id, "junk", "")
    before = fields_of(real, run_id)
    answer = real.ledger.cycle(seated(real.ledger, "w2"), [], 4)
    assert (answer.claims, queued(real), fields_of(real, run_id), is_well(real)) == ([], [], before, True)


def test_an_id_that_was_pushed_twice_begins_once(real: Store) -> None:
    run_id = one_submitted(real.ledger)
    real.client.rpush("rq:queue:q", run_id, run_id)
    assert runs_on(real, run_id)
    assert (queued(real), fields_of(real, run_id)["attempt"]) == ([], "1")


def test_an_id_that_was_pushed_to_another_queue_begins_in_its_own_only(real: Store) -> None:
    run_id = one_submitted(real.ledger)
    real.client.sadd("rq:queues", "rq:queue:other")
    real.client.rpush("rq:queue:other", run_id)
    assert real.ledger.cycle(seated(real.ledger, "w1", "other"), [], 1).claims == []
    assert runs_on(real, run_id)


def test_pushed_ids_wake_somebody(real: Store) -> None:
    run_id = one_submitted(real.ledger)
    real.client.delete("baton:wake:q", "rq:queue:q")
    real.client.rpush("rq:queue:q", run_id)
    real.ledger.promote()
    assert real.client.llen("baton:wake:q") == 1


# --- jobs of RQ's own -------------------------------------------------------------------------------------------------


def test_jobs_of_rqs_own_go_to_quarantine_untouched_and_nothing_is_imported(
    real: Store, rq: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "canary.py").write_text(f"open({str(tmp_path / 'sang')!r}, 'w').close()\ndef sing(): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    job = Queue("q", connection=rq).enqueue("canary.sing", meta={"a": 1})
    run_id = one_submitted(real.ledger)
    before = rq.hgetall(f"rq:job:{job.id}")
    claims = real.ledger.cycle(seated(real.ledger), [], 4).claims
    assert ([claim.run_id for claim in claims], quarantined(real)) == (
        [run_id],
        [{"reason": "unreadable", "run": job.id, "queue": "q"}],
    )
    assert (rq.hgetall(f"rq:job:{job.id}"), "canary" in sys.modules, (tmp_path / "sang").exists()) == (
        before,
        False,
        False,
    )


@pytest.mark.parametrize("steer", ["cancel", "retry", "force", "resume", "reconcile"])
def test_jobs_of_rqs_own_are_steered_by_nobody(real: Store, rq: redis.Redis, steer: str) -> None:
    job = Queue("q", connection=rq).enqueue("canary.sing")
    before = keyspace_of_bytes(real)
    ledger = real.ledger
    answers = {
        "cancel": lambda: ledger.cancel([job.id])[0].tag,
        "retry": lambda: ledger.retry(job.id, 1, "again").tag,
        "force": lambda: ledger.force(job.id, 1, "again", FAILED).tag,
        "resume": lambda: ledger.resume(job.id, 1, "again").tag,
        "reconcile": lambda: ledger.reconcile([job.id])[0],
    }
    assert (answers[steer](), keyspace_of_bytes(real)) == ("" if steer == "reconcile" else "BROKEN", before)


def keyspace_of_bytes(store: Store) -> dict[bytes, bytes]:
    """Everything that is stored, as the server would write it down: what RQ stores is no text."""
    return {key: store.raw.dump(key) for key in store.raw.keys("*")}


def test_a_run_does_not_wait_for_a_job_of_rqs_own(real: Store, rq: redis.Redis) -> None:
    job = Queue("else", connection=rq).enqueue("canary.sing")
    before = rq.hgetall(f"rq:job:{job.id}")
    run_id = one_submitted(real.ledger, ties=[("up", job.id)])
    assert (state_of(real, run_id), rq.hgetall(f"rq:job:{job.id}"), seq_of(real, run_id)) == (IS_QUEUED, before, 1)
