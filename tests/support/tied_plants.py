"""A story of runs tied to others, to limits, deadlines and idempotency keys, and what one command can break in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.commands import Claim, Outcome
from shared.ledger import RunLedger
from shared.upkeep import Pulse
from tests.support.ledgers import (
    Seat,
    one_begun,
    one_submitted,
    report,
    reported,
    seated,
)
from tests.support.plants import OTHER

SLOT: dict[str, Any] = {"fields": {"limits": "tag:db", "ties": "1"}}
PAUSED = Outcome("PAUSED", "Paused", delay=600)
SUSPENDED = Outcome("PAUSED", "Suspended", delay=600)


@dataclass(frozen=True)
class Tied:
    """Runs of queue `t` and others, one of each kind; `t1` holds those of `t`, `t4` the flow."""

    needed: str
    deferred: str
    done: str
    handed: Claim
    holder: Claim
    waiter: str
    eager: str
    reserved: str
    passed: str
    paused: Claim
    suspended: str
    within: str
    keyed: str
    keyed_done: str
    cancelling: str
    kid: str


def tied(ledger: RunLedger) -> Tied:
    """One run of each kind, none of which has anything wrong."""
    ledger.set_limit("tag:db", 1)
    seat = seated(ledger, "t1", "t")
    done, handed = _handed_out(ledger, seat)
    holder, waiter = _at_a_limit(ledger, seat)
    cancelling, kid = _cancelled_with_its_child(ledger, seat)
    within = one_submitted(ledger, queue="w", ties=[("within", 600)])
    keyed = one_submitted(ledger, queue="w", ties=_key("k1"))
    keyed_done = one_submitted(ledger, queue="t", ties=_key("k2"))
    assert reported(ledger, seat, report(one_begun(ledger, seat))) == ["OK"]
    needed = one_submitted(ledger, queue="t")
    deferred = one_submitted(ledger, queue="t", ties=[("up", needed)])
    return Tied(
        needed,
        deferred,
        done,
        handed,
        holder,
        waiter,
        one_submitted(ledger, queue="w", **SLOT),
        _with_a_reservation(ledger),
        _passed_on(ledger),
        _paused_in_its_process(ledger),
        _suspended(ledger),
        within,
        keyed,
        keyed_done,
        cancelling,
        kid,
    )


def _key(key: str) -> list[tuple[str, str]]:
    return [("idem", key), ("digest", "d")]


def _handed_out(ledger: RunLedger, seat: Seat) -> tuple[str, Claim]:
    """A run that has ended, whose result one needs that a worker holds before its start."""
    done = one_submitted(ledger, queue="t")
    claim = one_begun(ledger, seat)
    one_submitted(ledger, queue="t", ties=[("up", done)])
    assert reported(ledger, seat, report(claim)) == ["OK"]
    handed = one_begun(ledger, seat)
    assert handed.state == "PENDING"
    return done, handed


def _at_a_limit(ledger: RunLedger, seat: Seat) -> tuple[Claim, str]:
    """A run that has the only slot of a limit, and one that waits for it."""
    one_submitted(ledger, queue="t", **SLOT)
    holder = one_begun(ledger, seat)
    waiter = one_submitted(ledger, queue="t", **SLOT)
    assert ledger.cycle(seat, [], 1).claims == []
    return holder, waiter


def _with_a_reservation(ledger: RunLedger) -> str:
    """A run for which a slot is kept."""
    ledger.set_limit("net", 1)
    slot: dict[str, Any] = {"fields": {"limits": "net", "ties": "1"}, "queue": "u"}
    seat = seated(ledger, "t2", "u")
    one_submitted(ledger, **slot)
    first = one_begun(ledger, seat)
    reserved = one_submitted(ledger, **slot)
    assert ledger.cycle(seat, [], 1).claims == []
    assert reported(ledger, seat, report(first)) == ["OK"]
    return reserved


def _cancelled_with_its_child(ledger: RunLedger, seat: Seat) -> tuple[str, str]:
    """A run that its process has to end, and its child, which never began."""
    parent = one_submitted(ledger, queue="t")
    one_begun(ledger, seat)
    kid = one_submitted(ledger, queue="w", fields={"parent": parent})
    assert [answer.state_type for answer in ledger.cancel([parent])] == ["CANCELLING"]
    assert ledger.go_on() == 0
    return parent, kid


def _passed_on(ledger: RunLedger) -> str:
    """A run whose task the worker of its queue does not know."""
    assert ledger.beat([Pulse("t3", ("v",), {"tasks": "shop.other"}, is_new=True)]).buried == []
    passed = one_submitted(ledger, queue="v")
    assert ledger.cycle(Seat("t3", ("v",)), [], 1).claims == []
    return passed


def _paused_in_its_process(ledger: RunLedger) -> Claim:
    """A flow that waits for a person while its process waits with it."""
    one_submitted(ledger, queue="f", fields={"kind": "flow", "ties": "1"})
    claim = one_begun(ledger, seated(ledger, "t4", "f"))
    assert ledger.propose(claim.run_id, PAUSED, "pause", token=claim.token, worker="t4").tag == "OK"
    return claim


def _suspended(ledger: RunLedger) -> str:
    """A run that waits for a person, and no process with it."""
    run_id = one_submitted(ledger, queue="s")
    seat = seated(ledger, "t5", "s")
    assert reported(ledger, seat, report(one_begun(ledger, seat), SUSPENDED)) == ["OK"]
    return run_id


# --- plants -----------------------------------------------------------------------------------------------------------


TiedPlant = Callable[[Any, Tied], str]
"""Breaks something with a raw client; the id, key or member that the doctor should name."""


def deferred_no_more(client: Any, tied: Tied) -> str:
    client.zrem("rq:deferred:t", tied.deferred)
    return tied.deferred


def deferred_and_due(client: Any, tied: Tied) -> str:
    client.zadd("rq:scheduled:t", {tied.deferred: 1})
    return tied.deferred


def passed_on_to_nowhere(client: Any, tied: Tied) -> str:
    client.zrem("rq:scheduled:v", tied.passed)
    return tied.passed


def waits_for_a_slot_nowhere(client: Any, tied: Tied) -> str:
    client.zrem("baton:limit:tag:db:waiters", tied.waiter)
    return tied.waiter


def suspended_nowhere(client: Any, tied: Tied) -> str:
    client.zrem("baton:paused", tied.suspended)
    return tied.suspended


def handed_to_nobody(client: Any, tied: Tied) -> str:
    client.hdel("baton:worker:t1:runs", tied.handed.run_id)
    return tied.handed.run_id


def handed_without_wip(client: Any, tied: Tied) -> str:
    client.zrem("rq:wip:t", f"{tied.handed.run_id}:{tied.handed.token}")
    return tied.handed.run_id


def paused_in_nobodys_process(client: Any, tied: Tied) -> str:
    client.hdel("baton:worker:t4:runs", tied.paused.run_id)
    return tied.paused.run_id


def held_with_a_later_token(client: Any, tied: Tied) -> str:
    client.hset("baton:worker:t1:runs", tied.holder.run_id, f"{int(tied.holder.token) + 1} 1 1")
    return tied.holder.run_id


def wip_of_a_later_token(client: Any, tied: Tied) -> str:
    client.zadd("rq:wip:t", {f"{tied.holder.run_id}:{int(tied.holder.token) + 1}": "inf"})
    return tied.holder.run_id


def history_of_a_later_attempt(client: Any, tied: Tied) -> str:
    row = '{"seq":2,"type":"RUNNING","name":"Running","time":"2026-11-20T09:15:00.000250Z","attempt":7}'
    client.lset(f"baton:run:{tied.holder.run_id}:history", -1, row)
    return tied.holder.run_id


def slot_of_a_run_that_is_gone(client: Any, _tied: Tied) -> str:
    client.zadd("baton:limit:tag:db:holders", {f"{OTHER}:5": 1})
    return OTHER


def slot_of_an_older_attempt(client: Any, tied: Tied) -> str:
    client.zadd("baton:limit:tag:db:holders", {f"{tied.holder.run_id}:5": 1})
    return tied.holder.run_id


def slot_of_a_run_that_ended(client: Any, tied: Tied) -> str:
    client.zadd("baton:limit:tag:db:holders", {f"{tied.done}:5": 1})
    return tied.done


def slot_kept_too_long(client: Any, tied: Tied) -> str:
    client.zadd("baton:limit:tag:db:holders", {f"{tied.eager}:reserved": 1})
    return tied.eager


def slot_of_a_run_that_needs_none(client: Any, tied: Tied) -> str:
    client.zadd("baton:limit:net:holders", {f"{tied.holder.run_id}:{tied.holder.token}": 1})
    return tied.holder.run_id


def slot_of_junk(client: Any, _tied: Tied) -> str:
    client.zadd("baton:limit:tag:db:holders", {"junk": 1})
    return "junk"


def waits_for_a_slot_too(client: Any, tied: Tied) -> str:
    client.zadd("baton:limit:tag:db:waiters", {tied.needed: 1})
    return tied.needed


def waits_for_a_slot_without_a_run(client: Any, _tied: Tied) -> str:
    client.zadd("baton:limit:tag:db:waiters", {OTHER: 1})
    return OTHER


def limit_that_nobody_looks_at(client: Any, tied: Tied) -> str:
    client.srem("baton:limits", "tag:db")
    return tied.waiter


def calls_back(client: Any, tied: Tied) -> str:
    client.hset(f"rq:job:{tied.deferred}", "failure_callback_name", "os.abort")
    return tied.deferred


def taken_by_a_stock_worker(client: Any, tied: Tied) -> str:
    client.lmove("rq:queue:t", "rq:queue:t:intermediate", "RIGHT", "LEFT")
    return tied.needed


def parked_after_its_end(client: Any, tied: Tied) -> str:
    client.lpush("rq:queue:t:intermediate", tied.done)
    return tied.done


def deferred_with_another_status(client: Any, tied: Tied) -> str:
    client.hset(f"rq:job:{tied.deferred}", "status", "queued")
    return tied.deferred


def place_of_another_state(client: Any, tied: Tied) -> str:
    client.hset(f"rq:job:{tied.suspended}", mapping={"place": "passed", "ties": "1"})
    return tied.suspended


def ties_without_their_mark(client: Any, tied: Tied) -> str:
    client.hdel(f"rq:job:{tied.waiter}", "ties")
    return tied.waiter


def parameters_gone(client: Any, tied: Tied) -> str:
    client.delete(f"baton:run:{tied.deferred}:parameters")
    return tied.deferred


def deleted_while_others_need_it(client: Any, tied: Tied) -> str:
    client.expire(f"rq:job:{tied.done}", 1000)
    return tied.done


def would_not_be_told(client: Any, tied: Tied) -> str:
    client.srem(f"baton:run:{tied.needed}:feeds", tied.deferred)
    return tied.deferred


def waits_for_nobody(client: Any, tied: Tied) -> str:
    client.srem(f"baton:run:{tied.deferred}:waits", tied.needed)
    return tied.deferred


def waits_for_one_that_ended(client: Any, tied: Tied) -> str:
    client.sadd(f"baton:run:{tied.deferred}:waits", tied.done)
    return tied.deferred


def tells_one_that_does_not_wait(client: Any, tied: Tied) -> str:
    client.sadd(f"baton:run:{tied.needed}:feeds", tied.keyed)
    return tied.needed


def needed_by_more_than_there_are(client: Any, tied: Tied) -> str:
    client.hset(f"rq:job:{tied.done}", "consumers", 3)
    return tied.done


def needed_by_fewer_than_there_are(client: Any, tied: Tied) -> str:
    client.hdel(f"rq:job:{tied.needed}", "consumers")
    return tied.needed


def deadline_of_nothing(client: Any, tied: Tied) -> str:
    client.zadd("baton:deadlines", {tied.needed: 9e9})
    return tied.needed


def deadline_after_its_end(client: Any, tied: Tied) -> str:
    client.zadd("baton:deadlines", {tied.done: 9e9})
    return tied.done


def deadline_without_a_run(client: Any, _tied: Tied) -> str:
    client.zadd("baton:deadlines", {OTHER: 9e9})
    return OTHER


def deadline_gone(client: Any, tied: Tied) -> str:
    client.zrem("baton:deadlines", tied.within)
    return tied.within


def key_of_junk(client: Any, _tied: Tied) -> str:
    client.set("baton:idem:k9", "\x1b")
    return "baton:idem:k9"


def key_of_another_run(client: Any, tied: Tied) -> str:
    client.set("baton:idem:k9", f"{tied.needed} d")
    return tied.needed


def key_of_a_run_that_is_gone(client: Any, _tied: Tied) -> str:
    client.set("baton:idem:k9", f"{OTHER} d")
    return OTHER


def key_that_ends_before_its_run(client: Any, tied: Tied) -> str:
    client.expire("baton:idem:k1", 1000)
    return tied.keyed


def key_without_an_end(client: Any, tied: Tied) -> str:
    client.persist("baton:idem:k2")
    return tied.keyed_done


TIED_PLANTS: Sequence[tuple[str, TiedPlant]] = [
    ("I1", deferred_no_more),
    ("I1", deferred_and_due),
    ("I1", passed_on_to_nowhere),
    ("I1", waits_for_a_slot_nowhere),
    ("I1", suspended_nowhere),
    ("I4", handed_to_nobody),
    ("I4", handed_without_wip),
    ("I4", paused_in_nobodys_process),
    ("I5", held_with_a_later_token),
    ("I5", wip_of_a_later_token),
    ("I5", history_of_a_later_attempt),
    ("I6", slot_of_a_run_that_is_gone),
    ("I6", slot_of_an_older_attempt),
    ("I6", slot_of_a_run_that_ended),
    ("I6", slot_kept_too_long),
    ("I6", slot_of_a_run_that_needs_none),
    ("I6", slot_of_junk),
    ("I6", waits_for_a_slot_too),
    ("I6", waits_for_a_slot_without_a_run),
    ("I6", limit_that_nobody_looks_at),
    ("I8", calls_back),
    ("I8", taken_by_a_stock_worker),
    ("I8", parked_after_its_end),
    ("I8", deferred_with_another_status),
    ("fields", place_of_another_state),
    ("fields", ties_without_their_mark),
    ("keys", parameters_gone),
    ("lifetime", deleted_while_others_need_it),
    ("ties", would_not_be_told),
    ("ties", waits_for_nobody),
    ("ties", waits_for_one_that_ended),
    ("ties", tells_one_that_does_not_wait),
    ("consumers", needed_by_more_than_there_are),
    ("consumers", needed_by_fewer_than_there_are),
    ("deadlines", deadline_of_nothing),
    ("deadlines", deadline_after_its_end),
    ("deadlines", deadline_without_a_run),
    ("deadlines", deadline_gone),
    ("idem", key_of_junk),
    ("idem", key_of_another_run),
    ("idem", key_of_a_run_that_is_gone),
    ("idem", key_that_ends_before_its_run),
    ("idem", key_without_an_end),
]
