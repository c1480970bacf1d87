"""The words of the contract tests: a ledger with its Redis, runs and workers on it, and what is stored, read back."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import redis

from shared import codec
from shared.commands import Claim, NewRun, Outcome, Report, Seat
from shared.connections import Connections
from shared.ids import new_id
from shared.ledger import RunLedger
from shared.settings import Settings
from shared.upkeep import Pulse

T = TypeVar("T")
PARAMETERS = codec.encode({"a": 1, "b": 2})
RESULT = codec.encode(3)
KEPT = 3600

COMPLETED = Outcome("COMPLETED", "Completed", result=RESULT, retention=KEPT, result_retention=KEPT)
FAILED = Outcome("FAILED", "Failed", "ValueError: no", error="ValueError: no", retention=KEPT, result_retention=KEPT)
CANCELLED = Outcome("CANCELLED", "Cancelled", retention=KEPT)
CANCELLING = Outcome("CANCELLING", "Cancelling")
RUNNING = Outcome("RUNNING", "Running")
RETRYING = Outcome("RUNNING", "Retrying", "ValueError: no")
PENDING = Outcome("PENDING", "Pending", "Again.")
PAUSED_IN_PLACE = Outcome("PAUSED", "Paused", delay=KEPT)


@dataclass(frozen=True)
class Store:
    """A ledger, and plain clients that look at what it stores: one reads texts, one bytes."""

    ledger: RunLedger
    exchange: Connections
    settings: Settings
    client: redis.Redis
    raw: redis.Redis


def opened(connections: Callable[[Settings], Connections], client: Callable[..., redis.Redis], **changes: Any) -> Store:
    """A store whose leases are short."""
    settings = Settings(**{"lease": 0.25, "beat": 0.1, "reap": 0.1, "future_sweep": 0.2, **changes})
    exchange = connections(settings)
    texts = client(decode_responses=True, encoding_errors="backslashreplace")
    return Store(RunLedger(exchange, settings), exchange, settings, texts, client())


def closed(store: Store) -> None:
    store.exchange.close()
    store.client.close()
    store.raw.close()


# --- runs and workers -------------------------------------------------------------------------------------------------


def new_run(**given: Any) -> NewRun:
    """A run of `shop.add` on queue `q`; what else is given are its other fields."""
    return NewRun(**{"id": new_id(), "task": "shop.add", "queue": "q", "parameters": PARAMETERS, **given})


def new_runs(number: int, **given: Any) -> list[NewRun]:
    return [new_run(**given) for _ in range(number)]


def submitted(ledger: RunLedger, number: int = 1, **given: Any) -> list[str]:
    """The ids of so many accepted runs."""
    runs = new_runs(number, **given)
    assert set(ledger.submit(runs)) == {"OK"}
    return [run.id for run in runs]


def one_submitted(ledger: RunLedger, **given: Any) -> str:
    return submitted(ledger, **given)[0]


def seated(ledger: RunLedger, worker: str = "w1", *queues: str) -> Seat:
    """A worker with a lease."""
    listens = queues or ("q",)
    assert (
        ledger.beat([Pulse(worker, listens, {"queues": ",".join(listens), "state": "idle"}, is_new=True)]).buried == []
    )
    return Seat(worker, listens)


def begun(ledger: RunLedger, seat: Seat, want: int = 1) -> list[Claim]:
    """So many runs, begun by this worker."""
    claims = ledger.cycle(seat, [], want).claims
    assert len(claims) == want
    return claims


def one_begun(ledger: RunLedger, seat: Seat) -> Claim:
    return begun(ledger, seat)[0]


def held_by(ledger: RunLedger, worker: str = "w1", **given: Any) -> tuple[Seat, Claim]:
    """A new worker that holds a new run."""
    one_submitted(ledger, **given)
    seat = seated(ledger, worker)
    return seat, one_begun(ledger, seat)


def report(claim: Claim, outcome: Outcome = COMPLETED) -> Report:
    return Report(claim.run_id, claim.token, outcome)


def reported(ledger: RunLedger, seat: Seat, *reports: Report) -> list[str]:
    """The verdicts on these reports; nothing new is begun."""
    return ledger.cycle(seat, reports, 0).verdicts


def retry_in(delay: float) -> Outcome:
    return Outcome("SCHEDULED", "AwaitingRetry", "ValueError: no", error="ValueError: no", retention=KEPT, delay=delay)


def suspended_for(seconds: float) -> Outcome:
    """A pause without a process, for so long at most; 0 is without end."""
    return Outcome("PAUSED", "Suspended", delay=seconds)


def started(ledger: RunLedger, seat: Seat, claim: Claim) -> Claim:
    """The attempt of a run that was handed out before its start, and may start."""
    answer = ledger.propose(claim.run_id, RUNNING, f"start-{claim.token}", token=claim.token, worker=seat.worker)
    assert answer.tag == "OK"
    return claim._replace(token=answer.token, attempt=answer.attempt, state="RUNNING")


def ended(ledger: RunLedger, seat: Seat, run_id: str, outcome: Outcome = COMPLETED) -> None:
    """Begins the next run, which has to be this one, and ends it so."""
    claim = one_begun(ledger, seat)
    assert claim.run_id == run_id
    attempt = claim if claim.state == "RUNNING" else started(ledger, seat, claim)
    assert reported(ledger, seat, report(attempt, outcome)) == ["OK"]


def asked_to_cancel(ledger: RunLedger, run_id: str) -> None:
    """A client asked that this run, which is held, should end."""
    seq = ledger.get(run_id).seq
    assert ledger.propose(run_id, CANCELLING, "cancel", seq=seq, actor="alice").tag == "OK"


def side_by_side(store: Store, number: int, work: Callable[[RunLedger, int], T]) -> list[T]:
    """The answers of so many threads, each with a number and with a ledger on a connection of its own."""
    lines = [store.exchange.line() for _ in range(number)]
    ledgers = [RunLedger(line, store.settings) for line in lines]
    try:
        with ThreadPoolExecutor(number) as threads:
            return list(threads.map(work, ledgers, range(number)))
    finally:
        for line in lines:
            line.close()


# --- what is stored ---------------------------------------------------------------------------------------------------


def fields_of(store: Store, run_id: str) -> dict[str, str]:
    """The run's hash."""
    fields: dict[str, str] = store.client.hgetall(f"rq:job:{run_id}")
    return fields


def rows_of(store: Store, run_id: str) -> list[dict[str, Any]]:
    """The run's history."""
    return [json.loads(row) for row in store.client.lrange(f"baton:run:{run_id}:history", 0, -1)]


def seq_of(store: Store, run_id: str) -> int:
    return int(fields_of(store, run_id)["seq"])


def state_of(store: Store, run_id: str) -> tuple[str | None, str | None, str | None]:
    """Type and name of the run's state, and the place that its field names."""
    kind, name, place = store.client.hmget(f"rq:job:{run_id}", "state_type", "state_name", "place")
    return kind, name, place


def lifetimes_of(store: Store, run_id: str) -> set[int]:
    """Seconds that the keys of a run still have, rounded up to minutes; -1 is for ever."""
    keys = [f"rq:job:{run_id}", *store.client.keys(f"baton:run:{run_id}:*")]
    return {-1 if ttl < 0 else -(-ttl // 60) * 60 for ttl in map(store.client.ttl, keys)}


def told_by(rows: Sequence[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    """These columns of the rows."""
    return [tuple(row.get(name) for name in names) for row in rows]


def queued(store: Store, queue: str = "q") -> list[str]:
    ids: list[str] = store.client.lrange(f"rq:queue:{queue}", 0, -1)
    return ids


def tokens_lying(store: Store, queue: str = "q") -> int:
    """How many wake-up tokens there are for this queue."""
    number: int = store.client.llen(f"baton:wake:{queue}")
    return number


def counts(store: Store) -> dict[str, int]:
    """Runs now in each state that is not final, as counted."""
    return {state: int(number) for state, number in store.client.hgetall("baton:counts").items() if number != "0"}


def quarantined(store: Store) -> list[dict[str, str]]:
    """What is in quarantine, without the times."""
    return [
        {name: value for name, value in entry.items() if name != "time"}
        for _, entry in store.client.xrange("baton:quarantine")
    ]


def server_time(store: Store) -> float:
    """The server's clock, in seconds since 1970."""
    seconds, microseconds = store.client.time()
    return float(seconds + microseconds / 1_000_000)


def keyspace(store: Store) -> dict[str, tuple[str, Any, bool]]:
    """Everything that is stored: per key its type, its value, and whether it has a lifetime."""
    return {key: _stored(store.client, key) for key in sorted(store.client.keys("*"))}


def _stored(client: redis.Redis, key: str) -> tuple[str, Any, bool]:
    kind = client.type(key)
    value: Any
    match kind:
        case "string":
            value = client.get(key)
        case "list":
            value = client.lrange(key, 0, -1)
        case "set":
            value = sorted(client.smembers(key))
        case "zset":
            value = client.zrange(key, 0, -1, withscores=True)
        case "hash":
            value = client.hgetall(key)
        case _:
            value = client.xrange(key)
    return kind, value, client.ttl(key) >= 0
