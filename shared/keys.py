"""Every key and channel of Baton in Redis, with type and lifetime. Names only: no other file spells one.

Names that begin with `rq:` are RQ's own keyspace, which RQ's classes and tools read; those that begin with `baton:`
are what RQ lacks. `LUA` gives the scripts their names, so that Python and Lua cannot drift apart.
"""

from dataclasses import dataclass
from typing import Literal

KeyType = Literal["string", "list", "set", "zset", "hash", "stream", "channel"]

# --- queues -----------------------------------------------------------------------------------------------------------
QUEUES = "rq:queues"
QUEUE = "rq:queue:"
WAKE = "baton:wake:"
WAKE_AWAITED = "baton:wake:awaited:"
WAKE_DUE = "baton:wake:due"
AWAITED = "baton:awaited:"
QUEUE_SETTINGS = "baton:queue:"
HOOKS = "baton:hooks:"
HOOKS_TAKEN = "baton:hooks:of:"
HOOKED = "baton:hooked"
SUSPENDED = "rq:suspended"
INTERMEDIATE = ":intermediate"

# --- a run ------------------------------------------------------------------------------------------------------------
JOB = "rq:job:"
RESULTS = "rq:results:"
RUN = "baton:run:"
RUN_PARTS = (
    "parameters",
    "result",
    "input",
    "history",
    "traceback",
    "upstream",
    "waits",
    "feeds",
    "children",
    "tags",
    "logs",
)
STATE_PATTERN = f"{RUN}*:state"

# --- places of runs ---------------------------------------------------------------------------------------------------
WIP = "rq:wip:"
SCHEDULED = "rq:scheduled:"
DEFERRED = "rq:deferred:"
FINISHED = "rq:finished:"
FAILED = "rq:failed:"
CANCELED = "rq:canceled:"
PAUSED = "baton:paused"
RUNNING = "baton:running"
DEADLINES = "baton:deadlines"

# --- processes --------------------------------------------------------------------------------------------------------
WORKERS = "rq:workers"
WORKERS_OF = "rq:workers:"
WORKER = "rq:worker:"
HELD = "baton:worker:"
LEASES = "baton:leases"
INLINE = "inline-"
"""What names of leases begin with whose process executes runs itself."""
FLEET = "baton:fleet:"
SERVICE = "baton:service:"

# --- counts and finders -----------------------------------------------------------------------------------------------
COUNTS = "baton:counts"
STATS = "baton:stats:"
TASKS = "baton:tasks"
TASK = "baton:task:"
TAG = "baton:tag:"
TAGS = "baton:tags"

# --- the rest ---------------------------------------------------------------------------------------------------------
LIMITS = "baton:limits"
LIMIT = "baton:limit:"
SLOTS = "baton:slots:"
SLOT = "baton:slot:"
RATED = "baton:rated:"
RESULT = "baton:result:"
IDEMPOTENCY = "baton:idem:"
SCHEDULES = "baton:schedules"
SCHEDULE = "baton:schedule:"
CONTINUE = "baton:continue"
EVENTS = "baton:events"
QUARANTINE = "baton:quarantine"
META = "baton:meta"

# --- patterns of everything that is RQ's or ours ----------------------------------------------------------------------
EVERYTHING = ("rq:*", "baton:*")
EVERY_CHANNEL = "baton:*"
RQ_CHANNEL = "rq:pubsub:*"


def queue(name: str) -> str:
    """Run ids that wait, left = next."""
    return QUEUE + name


def wake(queue_name: str) -> str:
    """Wake-up tokens for idle workers of this queue."""
    return WAKE + queue_name


def wake_awaited(queue_name: str) -> str:
    """Wake-up tokens for workers that begin only what somebody waits for."""
    return WAKE_AWAITED + queue_name


def queue_settings(name: str) -> str:
    """What an operator set for this queue: paused, cap."""
    return QUEUE_SETTINGS + name


def awaited(queue_name: str) -> str:
    """Hints of this queue: ids that somebody waits for."""
    return AWAITED + queue_name


def limit(name: str) -> str:
    """A limit: its slots, and how fast they free themselves."""
    return LIMIT + name


def limit_part(name: str, part: Literal["holders", "waiters"]) -> str:
    """Who holds the slots of a limit, or waits for one."""
    return f"{LIMIT}{name}:{part}"


def process_of(member: str) -> str:
    """The process that holds a slot or waits for some, of its row there; '' for the row of a run."""
    process, *rest = member.split("/")
    return process if len(rest) == len(("hold", "number")) else ""


def slots(process: str) -> str:
    """What a process holds of limits, or waits for."""
    return SLOTS + process


def slot(hold: str) -> str:
    """Wake-up tokens for a thread that waits for slots under this name."""
    return SLOT + hold


def rated(operation: str) -> str:
    """What a call for slots that free themselves was answered."""
    return RATED + operation


def tag_runs(tag: str) -> str:
    """The index of the runs with a tag."""
    return f"{TAG}{tag}:runs"


def schedule(schedule_id: str) -> str:
    """A schedule: when it is due, and what it has fired."""
    return SCHEDULE + schedule_id


def schedule_call(schedule_id: str) -> str:
    """What a schedule submits."""
    return f"{SCHEDULE}{schedule_id}:call"


def job(run_id: str) -> str:
    """The run itself."""
    return JOB + run_id


def run_part(run_id: str, part: str) -> str:
    """One of `RUN_PARTS` of a run."""
    return f"{RUN}{run_id}:{part}"


def state_channel(run_id: str) -> str:
    """The channel that carries a run's transitions."""
    return f"{RUN}{run_id}:state"


def run_id_of_channel(channel: str) -> str:
    """The inverse of `state_channel`."""
    return channel[len(RUN) : -len(":state")]


def run_keys(run_id: str) -> list[str]:
    """Every key that may belong to a run alone."""
    return [job(run_id), *(run_part(run_id, part) for part in RUN_PARTS)]


def worker(name: str) -> str:
    """RQ's registration of a worker."""
    return WORKER + name


def held(worker_name: str) -> str:
    """What a worker has begun and not finished."""
    return f"{HELD}{worker_name}:runs"


def result(cache_key: str) -> str:
    """The result that is cached under this key."""
    return RESULT + cache_key


def hooks(queue_name: str) -> str:
    """Ends of this queue's runs whose hooks are due."""
    return HOOKS + queue_name


def hooks_taken(worker_name: str) -> str:
    """What a worker has taken of those and not confirmed."""
    return HOOKS_TAKEN + worker_name


def fleet(name: str) -> str:
    """The channel that tells a fleet to look at its runs."""
    return FLEET + name


def task_counts(task_key: str) -> str:
    """Counters and durations of a task."""
    return f"{TASK}{task_key}:counts"


def stats(day: str) -> str:
    """Counters of a day, `yyyy-mm-dd` in UTC."""
    return STATS + day


@dataclass(frozen=True)
class Key:
    """A row of the key table: how a key is called, what it is and how long it lives."""

    pattern: str
    type: KeyType
    lifetime: str
    what: str


TABLE = (
    Key(QUEUES, "set", "-", "RQ: known queues"),
    Key(f"{QUEUE}<q>", "list", "-", "RQ: run ids that wait, left = next; an id may occur twice, begin takes it once"),
    Key(f"{WAKE}<q>", "list", "-", "wake-up tokens for idle workers, at most 8"),
    Key(f"{WAKE_AWAITED}<q>", "list", "-", "wake-up tokens for children that begin awaited runs only"),
    Key(WAKE_DUE, "list", "-", "wake-up tokens for promoters: an earlier due time was set"),
    Key(f"{AWAITED}<q>", "list", "-", "hints: ids that a parked run waits for; no place of a run"),
    Key(f"{QUEUE_SETTINGS}<q>", "hash", "-", "paused, paused_by, paused_at, cap"),
    Key(f"{HOOKS}<q>", "list", "-", "id, seq and times lost of ends whose hooks are due, since no process was there"),
    Key(f"{HOOKS_TAKEN}<w>", "list", "with the worker", "what a worker has taken of those and not confirmed"),
    Key(HOOKED, "set", "-", "state type and task key of every end for which a task has hooks"),
    Key(SUSPENDED, "string", "-", "RQ: set by `rq suspend`; nothing begins while it is there"),
    Key(f"{JOB}<id>", "hash", "until retention", "the run: RQ's fields and ours, text of at most 64 bytes each"),
    Key(f"{RUN}<id>:parameters", "string", "with the run", "envelope of the parameters"),
    Key(f"{RUN}<id>:result", "string", "with the run", "envelope of the result, or of the exception"),
    Key(f"{RUN}<id>:input", "string", "with the run", "input given to a paused run"),
    Key(f"{RUN}<id>:history", "list", "with the run", "one JSON row per transition, 1,000 at most"),
    Key(f"{RUN}<id>:traceback", "string", "with the run", "plain text of the last failure"),
    Key(f"{RUN}<id>:upstream", "set", "with the run", "upstream ids"),
    Key(f"{RUN}<id>:waits", "set", "with the run", "upstream ids that are not final yet"),
    Key(f"{RUN}<id>:feeds", "set", "until empty", "ids that wait for this run"),
    Key(f"{RUN}<id>:children", "set", "with the run", "ids that this run submitted"),
    Key(f"{RUN}<id>:tags", "set", "with the run", "tags"),
    Key(f"{RUN}<id>:logs", "list", "with the run", "captured log rows, capped"),
    Key(f"{RUN}<id>:state", "channel", "-", "each transition as JSON: the history row and the run id"),
    Key(f"{WIP}<q>", "zset", "-", "RQ's started registry: <id>:<token>, score +inf"),
    Key(f"{SCHEDULED}<q>", "zset", "-", "ids due later, score = due time with microseconds"),
    Key(f"{DEFERRED}<q>", "zset", "-", "ids that wait for upstreams"),
    Key(f"{FINISHED}<q>", "zset", "retention", "COMPLETED ids, score = expiry"),
    Key(f"{FAILED}<q>", "zset", "retention", "FAILED and CRASHED ids, score = expiry"),
    Key(f"{CANCELED}<q>", "zset", "retention", "CANCELLED ids, score = expiry"),
    Key(PAUSED, "zset", "-", "PAUSED ids that no process holds, score = time-out"),
    Key(RUNNING, "zset", "-", "every run held by a process, score = start time"),
    Key(DEADLINES, "zset", "-", "ids with a time by which they must have begun or resumed"),
    Key(WORKERS, "set", "-", "RQ: keys of registered workers"),
    Key(f"{WORKERS_OF}<q>", "set", "-", "RQ: keys of the workers of a queue"),
    Key(f"{WORKER}<w>", "hash", "8 min after the last beat", "RQ: a worker's registration, with our fields"),
    Key(f"{HELD}<w>:runs", "hash", "with the worker", "id -> token, cycle and place in it, of what the worker holds"),
    Key(LEASES, "zset", "-", "worker -> end of its lease, in the server's seconds"),
    Key(f"{FLEET}<f>", "channel", "-", "tells a fleet to look at its runs"),
    Key(f"{SERVICE}<name>", "hash", "ttl", "liveness of a service"),
    Key(COUNTS, "hash", "-", "runs now in each non-terminal state"),
    Key(f"{STATS}<yyyy-mm-dd>", "hash", "90 d", "counters of a day"),
    Key(TASKS, "set", "-", "task keys that were ever submitted"),
    Key(f"{TASK}<key>:counts", "hash", "-", "counters and durations of a task"),
    Key(f"{TASK}<key>:runs", "zset", "trimmed with retention", "ids of a task by submit time; off unless switched on"),
    Key(TAGS, "set", "-", "tags that were ever given"),
    Key(f"{TAG}<tag>:runs", "zset", "trimmed with retention", "ids with a tag by submit time"),
    Key(LIMITS, "set", "-", "names of limits"),
    Key(f"{LIMIT}<name>", "hash", "-", "a limit: slots, decay; used, used_at; lock, if it goes with its last holder"),
    Key(f"{LIMIT}<name>:holders", "zset", "-", "<id>:<token>, <id>:reserved or <process>/<hold>/<number>, since when"),
    Key(f"{LIMIT}<name>:waiters", "zset", "-", "ids, and <process>/<hold>/<how many>, that wait for slots, by time"),
    Key(f"{SLOTS}<process>", "hash", "with its lease", "hold -> state, last asked, since, how many, attempt, limits"),
    Key(f"{SLOT}<hold>", "list", "60 s", "wake-up tokens for a thread that waits for slots"),
    Key(f"{RATED}<operation>", "string", "20 s after it", "what a call for slots that free themselves was answered"),
    Key(f"{RESULT}<cache key>", "string", "cache expiration", "a cached result"),
    Key(f"{IDEMPOTENCY}<key>", "string", "24 h after the end", "the run of an idempotency key, and its digest"),
    Key(SCHEDULES, "zset", "-", "schedules by next due time"),
    Key(f"{SCHEDULE}<id>", "hash", "-", "a schedule: when, what it is for, what it has fired"),
    Key(f"{SCHEDULE}<id>:call", "string", "-", "what the schedule submits, as an envelope"),
    Key(CONTINUE, "list", "-", "work that was too long for one call"),
    Key(EVENTS, "stream", "100,000 entries", "every transition; off unless switched on"),
    Key(QUARANTINE, "stream", "10,000 entries", "what could not be read, and late results of fenced attempts"),
    Key(META, "hash", "-", "layout version and who created it"),
)

# What the scripts call these names. The loader puts them in as constants.
LUA = {
    "QUEUES": QUEUES,
    "QUEUE": QUEUE,
    "WAKE": WAKE,
    "WAKE_DUE": WAKE_DUE,
    "QUEUE_SETTINGS": QUEUE_SETTINGS,
    "SUSPENDED": SUSPENDED,
    "JOB": JOB,
    "RUN": RUN,
    "WIP": WIP,
    "SCHEDULED": SCHEDULED,
    "DEFERRED": DEFERRED,
    "FINISHED": FINISHED,
    "FAILED": FAILED,
    "CANCELED": CANCELED,
    "PAUSED": PAUSED,
    "RUNNING": RUNNING,
    "WORKERS": WORKERS,
    "WORKERS_OF": WORKERS_OF,
    "WORKER": WORKER,
    "HELD": HELD,
    "HOOKED": HOOKED,
    "HOOKS": HOOKS,
    "HOOKS_TAKEN": HOOKS_TAKEN,
    "INLINE": INLINE,
    "LEASES": LEASES,
    "COUNTS": COUNTS,
    "STATS": STATS,
    "TASKS": TASKS,
    "TASK": TASK,
    "TAG": TAG,
    "QUARANTINE": QUARANTINE,
    "AWAITED": AWAITED,
    "CONTINUE": CONTINUE,
    "DEADLINES": DEADLINES,
    "FLEET": FLEET,
    "IDEMPOTENCY": IDEMPOTENCY,
    "LIMIT": LIMIT,
    "LIMITS": LIMITS,
    "RATED": RATED,
    "SLOT": SLOT,
    "SLOTS": SLOTS,
    "RESULT": RESULT,
    "RESULTS": RESULTS,
    "SCHEDULE": SCHEDULE,
    "SCHEDULES": SCHEDULES,
    "TAGS": TAGS,
    "WAKE_AWAITED": WAKE_AWAITED,
}


def table() -> list[str]:
    """The key table as Markdown: `python -m shared.keys`."""
    rows = [f"| `{key.pattern}` | {key.type} | {key.lifetime} | {key.what} |" for key in TABLE]
    return ["| key | type | lifetime | what |", "|---|---|---|---|", *rows]


if __name__ == "__main__":
    print("\n".join(table()))  # noqa: T201 - printing is what it is called for
