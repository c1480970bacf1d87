"""Looks for runs that lie in no place, or that others than Baton have changed, a slice of the keyspace at a time.

# Only reads, and judges nothing for certain: a run may move between two reads. Whoever mends looks once more.
# Every run has a history, also one whose record was deleted: so one pattern finds them all.
"""

import contextlib
import random
from collections.abc import Sequence
from typing import Any, Final

from shared import keys
from shared.errors import RedisUnavailable
from shared.pages import whole_list
from shared.rq_words import word_of
from shared.run_fields import faults, is_ours
from shared.seen import SeenRun, own_place
from shared.transport import Command, Transport
from shared.walks import Refused, Steps, bytes_of, fields_of, read_all, text_of

SLICE: Final = 1000
"""Keys that one pass goes over, of which about a third belong to histories."""
SHORT: Final = 2000
"""Ids in a queue that is read whole. In a longer one only those runs are looked for that its head has overtaken."""
WALKED: Final = 200_000
"""Ids in long queues that Redis walks over for one pass, some 10 ms; who is not looked for may be in the next round."""
_END_OF_HISTORY: Final = keys.run_part("", "history").removeprefix(keys.RUN)


class Patrol:
    """Goes over the keyspace again and again. `rounds`: how often it was through."""

    def __init__(self, transport: Transport) -> None:
        self.rounds = 0
        self._transport = transport
        self._cursor: Any = 0
        self._suspects: dict[str, str] = {}
        self._waiting: dict[str, list[SeenRun]] = {}

    def look(self) -> tuple[dict[str, str], int]:
        """The next slice: runs that are not as they should be, as it seems, and how many workers have a lease.

        With each run its queue, '' for one that is gone.

        Raises:
            RedisUnavailable: no answer, or this user may not scan.
        """
        pattern = f"{keys.RUN}*{_END_OF_HISTORY}"
        found, leased = self._transport.read(
            [("SCAN", self._cursor, "MATCH", pattern, "COUNT", SLICE), ("ZCARD", keys.LEASES)]
        )
        if isinstance(found, Exception):
            raise RedisUnavailable(f"Redis at {self._transport.address} refuses SCAN: {found}", self._transport.address)
        cursor, names = found
        self._suspects, self._waiting = {}, {}
        ids = dict.fromkeys(text_of(name)[len(keys.RUN) : -len(_END_OF_HISTORY)] for name in names)
        read_all(self._transport, (self._look_at(run_id) for run_id in ids))
        read_all(self._transport, (self._look_through(queue, runs) for queue, runs in self._waiting.items()))
        self._cursor = cursor
        self.rounds += int(cursor) == 0
        return self._suspects, leased if isinstance(leased, int) else 0

    def _look_at(self, run_id: str) -> Steps[None]:
        flat, lifetime = yield [("HGETALL", bytes_of(keys.job(run_id))), ("TTL", bytes_of(keys.job(run_id)))]
        if isinstance(flat, Exception):
            return
        fields = fields_of(flat)
        run = SeenRun(run_id, fields, faults(fields), lifetime, (), (), (), ())
        if not fields:
            self._suspects[run_id] = ""
        elif is_ours(fields) and not run.faults:
            place = own_place(run)
            if not _is_worded(run):
                self._suspects[run_id] = run.queue
            elif place == keys.queue(run.queue):
                self._waiting.setdefault(run.queue, []).append(run)
            else:
                answers = yield ([("ZSCORE", bytes_of(place), bytes_of(run.id))] if place else _rows_of_held(run))
                # What is of another type is for the doctor: nobody could mend the run.
                if None in answers:
                    self._suspects[run_id] = run.queue

    def _look_through(self, queue: str, runs: Sequence[SeenRun]) -> Steps[None]:
        key = bytes_of(keys.queue(queue))
        length, head = yield [("LLEN", key), ("LINDEX", key, 0)]
        if not isinstance(length, int):
            return
        if length <= SHORT:
            with contextlib.suppress(Refused):
                listed = yield from whole_list(key)
                self._suspects |= {run.id: queue for run in runs if run.id not in listed}
            return
        if head is None:
            return
        (since,) = yield [("HGET", bytes_of(keys.JOB) + head, "enqueued_at")]
        moment = text_of(since) if isinstance(since, bytes) else ""
        overtaken = [run for run in runs if run.fields.get("enqueued_at", "") < moment]
        some = random.sample(overtaken, min(len(overtaken), max(1, WALKED // length)))
        if some:
            positions = yield [("LPOS", key, bytes_of(run.id)) for run in some]
            self._suspects |= {run.id: queue for run, at in zip(some, positions, strict=True) if at is None}


def _is_worded(run: SeenRun) -> bool:
    """True if RQ's word stands with it, and it has a lifetime if it has ended and nobody needs it, else none."""
    if run.fields.get("status") != word_of(run.state, run.place):
        return False
    return (run.lifetime >= 0) == (run.has_ended and "consumers" not in run.fields)


def _rows_of_held(run: SeenRun) -> Sequence[Command]:
    worker, member = run.fields["worker_name"], f"{run.id}:{run.fields['token']}"
    return [
        ("HGET", bytes_of(keys.held(worker)), bytes_of(run.id)),
        ("ZSCORE", keys.LEASES, bytes_of(worker)),
        ("ZSCORE", bytes_of(keys.WIP + run.queue), bytes_of(member)),
        ("ZSCORE", keys.RUNNING, bytes_of(run.id)),
    ]
