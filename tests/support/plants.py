"""A busy story that leaves a run in every state, and raw commands that each break one thing in it, for the doctor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared.commands import Claim, Seat
from shared.ledger import RunLedger
from shared.upkeep import Death
from tests.support.ledgers import (
    CANCELLED,
    COMPLETED,
    FAILED,
    RETRYING,
    asked_to_cancel,
    begun,
    one_begun,
    one_submitted,
    report,
    reported,
    retry_in,
    seated,
    submitted,
)
from tests.support.waiting import eventually

OTHER = "01a1f879-5eda-7005-8876-23ab1bc095ff"
"""An id that the story does not have."""


@dataclass(frozen=True)
class Story:
    """Runs of queue `q`, one in each state that there is today; `w1` holds those that run."""

    pending: str
    scheduled: str
    running: Claim
    cancelling: str
    completed: str
    failed: str
    cancelled: str
    crashed: str


def told(ledger: RunLedger) -> Story:
    """A busy story: runs in every state, and behind them retries, losses, runs given back, and tombstones."""
    crashed = one_submitted(ledger, fields={"on_crash": "fail"})
    begun(ledger, seated(ledger, "w0"))
    ledger.reap([Death("w0", "killed by signal 9")])
    cancelled, tombstone = submitted(ledger, 2)
    for run_id in (cancelled, tombstone):
        assert ledger.propose(run_id, CANCELLED, "cancel", seq=1, actor="alice").tag == "OK"
    seat = seated(ledger)
    completed = _completed_after_trouble(ledger, seat)
    failed = one_submitted(ledger)
    assert reported(ledger, seat, report(one_begun(ledger, seat), FAILED)) == ["OK"]
    scheduled = one_submitted(ledger)
    assert reported(ledger, seat, report(one_begun(ledger, seat), retry_in(60))) == ["OK"]
    cancelling = one_submitted(ledger)
    one_begun(ledger, seat)
    asked_to_cancel(ledger, cancelling)
    one_submitted(ledger)
    running = one_begun(ledger, seat)
    again = ledger.propose(running.run_id, RETRYING, "again", token=running.token, worker="w1")
    assert again.tag == "OK"
    pending = one_submitted(ledger, at_front=True)
    one_submitted(ledger, queue="other", delay=60)
    return Story(pending, scheduled, running, cancelling, completed, failed, cancelled, crashed)


def _completed_after_trouble(ledger: RunLedger, seat: Seat) -> str:
    """A run that was due later, given back, lost with its worker and retried before it completed."""
    run_id = one_submitted(ledger, delay=0.001)
    assert eventually(lambda: ledger.promote().moved) == 1
    claim = one_begun(ledger, seat)
    assert ledger.give_back("w1", [(run_id, claim.token)], "Not started: the worker is busy.") == ["OK"]
    begun(ledger, seated(ledger, "w2"))
    ledger.reap([Death("w2", "killed by signal 9")])
    assert reported(ledger, seat, report(one_begun(ledger, seat), retry_in(0.001))) == ["OK"]
    assert eventually(lambda: ledger.promote().moved) == 1
    assert reported(ledger, seat, report(one_begun(ledger, seat), COMPLETED)) == ["OK"]
    return run_id


Plant = Callable[[Any, Story], str]
"""Breaks something with a raw client; the id, key or member that the doctor should name."""


def lost_from_queue(client: Any, story: Story) -> str:
    client.lrem("rq:queue:q", 0, story.pending)
    return story.pending


def in_two_places(client: Any, story: Story) -> str:
    client.zadd("rq:deferred:q", {story.pending: 1})
    return story.pending


def not_due_any_more(client: Any, story: Story) -> str:
    client.zrem("rq:scheduled:q", story.scheduled)
    return story.scheduled


def due_elsewhere(client: Any, story: Story) -> str:
    client.zadd("rq:scheduled:other", {story.scheduled: 1})
    return story.scheduled


def running_and_due(client: Any, story: Story) -> str:
    client.zadd("rq:scheduled:q", {story.running.run_id: 1})
    return story.running.run_id


def ended_and_paused(client: Any, story: Story) -> str:
    client.zadd("baton:paused", {story.failed: 1})
    return story.failed


def ended_without_registry(client: Any, story: Story) -> str:
    client.zrem("rq:finished:q", story.completed)
    return story.completed


def ended_in_two_registries(client: Any, story: Story) -> str:
    client.zadd("rq:failed:q", {story.cancelled: 1})
    return story.cancelled


def due_without_a_run(client: Any, _story: Story) -> str:
    client.zadd("rq:scheduled:q", {OTHER: 1})
    return OTHER


def history_lost_its_first_row(client: Any, story: Story) -> str:
    client.lpop(f"baton:run:{story.running.run_id}:history")
    return story.running.run_id


def history_shorter_than_seq(client: Any, story: Story) -> str:
    client.rpop(f"baton:run:{story.running.run_id}:history")
    return story.running.run_id


def history_gone(client: Any, story: Story) -> str:
    client.delete(f"baton:run:{story.failed}:history")
    return story.failed


def history_with_junk(client: Any, story: Story) -> str:
    client.rpush(f"baton:run:{story.pending}:history", '{"seq":2,"type":"BOGUS\x1b"}')
    return story.pending


def history_of_another_state(client: Any, story: Story) -> str:
    row = '{"seq":1,"type":"RUNNING","name":"Running","time":"2026-11-20T09:15:00.000250Z"}'
    client.lset(f"baton:run:{story.pending}:history", 0, row)
    return story.pending


def lives_after_its_end(client: Any, story: Story) -> str:
    key, seq = f"rq:job:{story.completed}", int(client.hget(f"rq:job:{story.completed}", "seq"))
    for number, state in ((seq + 1, "RUNNING"), (seq + 2, "COMPLETED")):
        row = f'{{"seq":{number},"type":"{state}","name":"x","time":"2026-11-20T09:15:00.000250Z"}}'
        client.rpush(f"baton:run:{story.completed}:history", row)
    client.hset(key, "seq", seq + 2)
    return story.completed


def held_by_nobody(client: Any, story: Story) -> str:
    client.hdel("baton:worker:w1:runs", story.running.run_id)
    return story.running.run_id


def held_by_two(client: Any, story: Story) -> str:
    client.hset("baton:worker:w9:runs", story.running.run_id, "1 1 1")
    return story.running.run_id


def held_with_junk(client: Any, story: Story) -> str:
    client.hset("baton:worker:w1:runs", story.cancelling, "junk")
    return story.cancelling


def held_though_it_waits(client: Any, story: Story) -> str:
    client.hset("baton:worker:w1:runs", story.pending, "1 1 1")
    return story.pending


def held_without_a_run(client: Any, _story: Story) -> str:
    client.hset("baton:worker:w1:runs", OTHER, "1 1 1")
    return OTHER


def not_in_the_index_of_running(client: Any, story: Story) -> str:
    client.zrem("baton:running", story.cancelling)
    return story.cancelling


def in_the_index_of_running_after_its_end(client: Any, story: Story) -> str:
    client.zadd("baton:running", {story.completed: 1})
    return story.completed


def wip_without_run(client: Any, _story: Story) -> str:
    client.zadd("rq:wip:q", {f"{OTHER}:1": "inf"})
    return OTHER


def wip_of_an_older_token(client: Any, story: Story) -> str:
    client.zadd("rq:wip:q", {f"{story.running.run_id}:1": "inf"})
    return story.running.run_id


def running_without_wip(client: Any, story: Story) -> str:
    token = client.hget(f"rq:job:{story.cancelling}", "token")
    client.zrem("rq:wip:q", f"{story.cancelling}:{token}")
    return story.cancelling


def another_status(client: Any, story: Story) -> str:
    client.hset(f"rq:job:{story.failed}", "status", "queued")
    return story.failed


def another_call(client: Any, story: Story) -> str:
    client.hset(f"rq:job:{story.pending}", "data", "(Vos.system\nN(Vtrue\nt(dt.")
    return story.pending


def wip_with_an_end(client: Any, story: Story) -> str:
    token = client.hget(f"rq:job:{story.running.run_id}", "token")
    client.zadd("rq:wip:q", {f"{story.running.run_id}:{token}": 5})
    return story.running.run_id


def wip_malformed(client: Any, _story: Story) -> str:
    client.zadd("rq:wip:q", {"junk": "inf"})
    return "junk"


def never_swept(client: Any, story: Story) -> str:
    client.zadd("rq:failed:q", {story.crashed: "inf"})
    return story.crashed


def record_of_another_type(client: Any, story: Story) -> str:
    client.delete(f"rq:job:{story.scheduled}")
    client.set(f"rq:job:{story.scheduled}", "x")
    return story.scheduled


def history_of_another_type(client: Any, story: Story) -> str:
    client.delete(f"baton:run:{story.running.run_id}:history")
    client.set(f"baton:run:{story.running.run_id}:history", "x")
    return story.running.run_id


def left_behind(client: Any, _story: Story) -> str:
    client.set(f"baton:run:{OTHER}:result", "x")
    return OTHER


def kept_for_ever(client: Any, story: Story) -> str:
    client.persist(f"rq:job:{story.cancelled}")
    return story.cancelled


def deleted_while_it_waits(client: Any, story: Story) -> str:
    client.expire(f"rq:job:{story.pending}", 1000)
    return story.pending


PLANTS: list[tuple[str, Plant]] = [
    ("I1", lost_from_queue),
    ("I1", in_two_places),
    ("I1", not_due_any_more),
    ("I1", due_elsewhere),
    ("I1", running_and_due),
    ("I1", ended_and_paused),
    ("I1", ended_without_registry),
    ("I1", ended_in_two_registries),
    ("I1", due_without_a_run),
    ("I2", history_lost_its_first_row),
    ("I2", history_shorter_than_seq),
    ("I2", history_gone),
    ("I2", history_with_junk),
    ("I2", history_of_another_state),
    ("I3", lives_after_its_end),
    ("I4", held_by_nobody),
    ("I4", held_by_two),
    ("I4", held_with_junk),
    ("I4", held_though_it_waits),
    ("I4", held_without_a_run),
    ("I4", not_in_the_index_of_running),
    ("I4", in_the_index_of_running_after_its_end),
    ("I4", wip_without_run),
    ("I4", wip_of_an_older_token),
    ("I4", running_without_wip),
    ("I8", another_status),
    ("I8", another_call),
    ("I8", wip_with_an_end),
    ("I8", wip_malformed),
    ("I8", never_swept),
    ("keys", record_of_another_type),
    ("keys", history_of_another_type),
    ("keys", left_behind),
    ("lifetime", kept_for_ever),
    ("lifetime", deleted_while_it_waits),
]
