"""Workers as operators see them: registration, lease, what they hold. Only reads."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from shared import keys
from shared.transport import Transport
from shared.views.reading import Look, chosen, index, moment, ordered, present, readable, texts, whole
from shared.walks import Steps, bytes_of, fields_of, read_all, text_of

LOST = "lost"
DEAD = "dead"
UNREGISTERED = "unregistered"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process. What it does not tell, or Redis does not read, is None or empty; `problems` are by key."""

    name: str
    fleet: str | None
    host: str | None
    pid: int | None
    state: str
    """`busy` or `idle`, as it last said; `lost`: its lease is over; `dead`: it was buried; `unregistered`."""
    queues: tuple[str, ...]
    tasks: str
    """The keys that it announces, joined by spaces."""
    version: str | None
    birth: str | None
    heartbeat: str | None
    heartbeat_age: float | None
    lease_left: float | None
    """Seconds; negative if the lease is over, None if it has none, as RQ's own workers."""
    current_run: str | None
    current_task: str | None
    current_for: float | None
    """Seconds since its present run was begun."""
    is_draining: bool
    """True if it was asked to finish what runs and to end."""
    held: tuple[str, ...]
    """Runs that it has begun and not finished."""
    problems: Mapping[str, str]

    @property
    def is_live(self) -> bool:
        """True if it has a lease that is not over."""
        return self.lease_left is not None and self.lease_left > 0

    def announces(self, task: str) -> bool:
        """True if it says that it knows this task. A key may hold spaces."""
        return f" {task} " in f" {self.tasks} "


def worker_names(transport: Transport) -> tuple[float, list[str]]:
    """The server's time, and the names of all that are registered or have a lease, sorted.

    Raises:
        RedisUnavailable: no answer, or one of the two indexes cannot be read.
    """
    time, registered, leased = transport.read([("TIME",), ("SMEMBERS", keys.WORKERS), ("ZRANGE", keys.LEASES, 0, -1)])
    names = {member.removeprefix(keys.WORKER) for member in index(transport, keys.WORKERS, registered)}
    return present(transport, time), sorted(names.union(index(transport, keys.LEASES, leased)))


def workers(transport: Transport, only: Collection[str] | None = None) -> Look[Worker]:
    """Every worker, or those of these names that there are, by name: three round trips, and more for each 160.

    Raises:
        RedisUnavailable: no answer, or an index of workers cannot be read.
    """
    at, known = worker_names(transport)
    names = chosen(known, only)
    found: dict[str, Worker] = {}
    read_all(transport, (_worker(name, at, found) for name in names))
    return Look(at, ordered(found, names))


def _worker(name: str, at: float, found: dict[str, Worker]) -> Steps[None]:
    of = {"fields": keys.worker(name), "lease": keys.LEASES, "held": keys.held(name)}
    fields, lease, held = yield [
        ("HGETALL", bytes_of(of["fields"])),
        ("ZSCORE", keys.LEASES, bytes_of(name)),
        ("HKEYS", bytes_of(of["held"])),
    ]
    problems: dict[str, str] = {}
    told = readable({"fields": fields, "lease": lease, "held": held}, of, problems)
    registered = fields_of(told["fields"] or ())
    lease_left = float(told["lease"]) - at if told["lease"] is not None else None
    current = registered.get("current_job")
    answers = yield [("HMGET", bytes_of(keys.job(current)), "task", "started_at")] if current else []
    begun = answers[0] if answers and not isinstance(answers[0], Exception) else None
    found[name] = _row(name, at, registered, lease_left, texts(begun, 2), told["held"] or (), problems)


def _row(
    name: str,
    at: float,
    fields: Mapping[str, str],
    lease_left: float | None,
    current: Sequence[str | None],
    held: Sequence[bytes],
    problems: Mapping[str, str],
) -> Worker:
    field = fields.get
    return Worker(
        name=name,
        fleet=field("fleet"),
        host=field("hostname"),
        pid=whole(field("pid")),
        state=_state(fields, lease_left),
        queues=tuple(part for part in field("queues", "").split(",") if part),
        tasks=field("tasks", ""),
        version=field("version"),
        birth=field("birth"),
        heartbeat=field("last_heartbeat"),
        heartbeat_age=_since(field("last_heartbeat"), at),
        lease_left=lease_left,
        current_run=field("current_job"),
        current_task=current[0],
        current_for=_since(current[1], at),
        is_draining=bool(field("drain")),
        held=tuple(sorted(map(text_of, held))),
        problems=problems,
    )


def _since(text: str | None, at: float) -> float | None:
    began = moment(text)
    return None if began is None else max(0.0, at - began)


def _state(fields: Mapping[str, str], lease_left: float | None) -> str:
    if not fields:
        return UNREGISTERED
    if "death" in fields:
        return DEAD
    return LOST if lease_left is not None and lease_left <= 0 else fields.get("state", "?")
