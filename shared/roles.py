"""The users that a Redis of Baton has, and what each may do: keys, channels and commands, as data. Sends nothing.

`python -m shared.roles` writes them as `users.acl`, which a server loads. A role may call what its scripts call, and
send what its modules send; so it grows with them.
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from shared import keys
from shared.errors import InvalidValue
from shared.naming import own_limit
from shared.options import queue_name
from shared.scripts import SCRIPTS, Script

CONNECTION: Final = frozenset({"AUTH", "HELLO", "PING", "QUIT", "SELECT"})

# What the modules that name commands send, besides scripts. A test reads the modules and compares.
SENT: Final = {
    "shared/channels.py": ("HGET", "PING", "SUBSCRIBE", "UNSUBSCRIBE"),
    "shared/connections.py": ("BLPOP", "EVAL", "EVALSHA"),
    "shared/follow.py": ("HGET", "LRANGE", "PING", "PSUBSCRIBE", "SUBSCRIBE"),
    "shared/ledger.py": ("GET", "LRANGE", "SMEMBERS"),
    "shared/look.py": ("EXISTS", "GET", "HGET", "HGETALL", "HMGET", "LRANGE", "TTL"),
    "shared/on_server.py": ("HGET", "INFO", "TIME"),
    "shared/pages.py": ("GETRANGE", "HGETALL", "LRANGE", "SCAN", "SSCAN", "TTL", "ZMSCORE", "ZSCAN"),
    "shared/patrol.py": ("HGET", "HGETALL", "LINDEX", "LLEN", "LPOS", "SCAN", "TTL", "ZCARD", "ZSCORE"),
    "shared/records.py": ("GET", "GETRANGE", "HGETALL", "LINDEX"),
    "shared/result_redis.py": ("GETRANGE",),
    "shared/slots.py": ("EXISTS",),
    "shared/snapshot.py": ("HGETALL", "HMGET", "SMEMBERS", "TIME", "ZRANGE"),
    "shared/views/limits.py": ("HGET", "SMEMBERS", "TIME", "ZCARD", "ZRANGE", "ZSCORE"),
    "shared/views/quarantine.py": ("XLEN", "XRANGE", "XREVRANGE"),
    "shared/views/queues.py": ("HMGET", "LLEN", "LRANGE", "SMEMBERS", "TIME", "ZCARD", "ZRANGE"),
    "shared/views/runs.py": (
        *("HGETALL", "LLEN", "LRANGE", "SMEMBERS", "ZCARD", "ZCOUNT", "ZRANGE", "ZREVRANGEBYSCORE"),
    ),
    "shared/views/schedules.py": ("GET", "HGETALL", "TIME", "ZRANGE", "ZSCORE"),
    "shared/views/server.py": ("CONFIG GET", "HGET", "INFO"),
    "shared/views/tasks.py": ("HGETALL", "SMEMBERS"),
    "shared/views/workers.py": ("HGETALL", "HKEYS", "HMGET", "SMEMBERS", "TIME", "ZRANGE", "ZSCORE"),
    "worker/ears.py": ("SUBSCRIBE",),
    "worker/housekeeping.py": ("BLPOP",),
}
_FUTURES: Final = tuple(f"shared/{name}.py" for name in ("channels", "connections", "ledger", "on_server", "records"))
_WORKING: Final = (
    *_FUTURES,
    *("shared/patrol.py", "shared/result_redis.py", "shared/slots.py", "worker/ears.py", "worker/housekeeping.py"),
)
_CHEAT_SHEET: Final = ("LPOS", "MEMORY USAGE", "SORT_RO")
_RQ_TOOLS: Final = (*("EXEC", "LMOVE", "MULTI", "SCRIPT LOAD", "UNWATCH", "WATCH", "ZREMRANGEBYSCORE"),)
SINCE_REDIS_7: Final = frozenset({"SORT_RO"})

# What a submit writes, of whichever queue, and what of its own one.
_SUBMITTED: Final = (
    keys.QUEUES,
    keys.TASKS,
    keys.TAGS,
    keys.COUNTS,
    keys.DEADLINES,
    keys.WAKE_DUE,
    keys.LIMITS,
    *(key.pattern for key in keys.TABLE if key.pattern.startswith((keys.JOB, keys.RUN)) and key.type != "channel"),
    f"{keys.STATS}<yyyy-mm-dd>",
    f"{keys.TASK}<key>:counts",
    f"{keys.TAG}<tag>:runs",
    f"{keys.IDEMPOTENCY}<key>",
    keys.limit(own_limit("<key>")),
)
_OF_ITS_QUEUE: Final = tuple(
    f"{prefix}<q>" for prefix in (keys.QUEUE, keys.WAKE, keys.SCHEDULED, keys.DEFERRED, keys.CANCELED, keys.HOOKS)
)


@dataclass(frozen=True)
class Role:
    """What one kind of users may do. Keys and channels are named as in `keys.TABLE`, or by a pattern.

    `writes`, `reads` and `hears` are what Redis is told. `touches` are the keys, and `tells` the channels, that its
    scripts use without declaring them, and `looks_at` what they only read so: what is missing strikes half way.
    """

    name: str
    scripts: Sequence[Script] = ()
    sends: frozenset[str] = frozenset()
    writes: Sequence[str] = ()
    reads: Sequence[str] = ()
    hears: Sequence[str] = ()
    touches: Sequence[str] = ()
    tells: Sequence[str] = ()
    looks_at: Sequence[str] = ()

    @property
    def calls(self) -> frozenset[str]:
        """The commands that its scripts call."""
        return frozenset(command for script in self.scripts for command in calls_of(script))

    @property
    def commands(self) -> frozenset[str]:
        """All commands that it may use; one with a subcommand is two words."""
        return self.sends | self.calls | CONNECTION


def calls_of(script: Script) -> list[str]:
    """The commands that a script calls, as its header lists them."""
    listed = re.search(r"^-- Calls:(.*(?:\n--.*)*)", script.text, re.MULTILINE)
    return re.findall(r"[A-Z]+", listed[1]) if listed else []


def _sent_by(modules: Iterable[str], *more: str) -> frozenset[str]:
    return frozenset(command for module in modules for command in SENT[module]).union(more)


_ALL_SCRIPTS: Final = tuple(SCRIPTS.values())
_STATES: Final = (keys.STATE_PATTERN,)
_READING: Final = _sent_by((*_FUTURES, *(module for module in SENT if module.startswith("shared/"))), *_CHEAT_SHEET)

PRODUCER: Final = Role(
    "producer",
    scripts=(SCRIPTS["probe"], SCRIPTS["submit"]),
    sends=_sent_by(_FUTURES) - {"BLPOP"},
    writes=(*_SUBMITTED, *_OF_ITS_QUEUE),
    reads=(keys.META, keys.HOOKED, f"{keys.QUEUE_SETTINGS}<q>"),
    hears=_STATES,
    touches=_SUBMITTED,
    tells=_STATES,
    looks_at=(keys.HOOKED,),
)
WORKER: Final = Role(
    "worker",
    scripts=_ALL_SCRIPTS,
    sends=_sent_by(_WORKING),
    writes=keys.EVERYTHING,
    hears=(keys.EVERY_CHANNEL,),
    touches=tuple(key.pattern for key in keys.TABLE if key.type != "channel"),
    tells=tuple(key.pattern for key in keys.TABLE if key.type == "channel"),
)
# Who hears a pattern needs that very pattern.
SERVER: Final = replace(
    WORKER, name="server", sends=_sent_by(SENT) - {"CONFIG GET"}, hears=(keys.EVERY_CHANNEL, keys.STATE_PATTERN)
)
OPERATOR: Final = replace(
    SERVER,
    name="operator",
    sends=SERVER.sends.union(_CHEAT_SHEET, _RQ_TOOLS),
    hears=(*SERVER.hears, keys.RQ_CHANNEL),
)
# Who only looks runs no script and does not go through all keys. SORT with GET asks for the right to read every key.
OBSERVER: Final = Role(
    "observer",
    sends=_READING - {"BLPOP", "CONFIG GET", "EVAL", "EVALSHA", "SCAN"},
    reads=("*",),
    hears=_STATES,
)
ROLES: Final = (PRODUCER, WORKER, SERVER, OPERATOR, OBSERVER)


# --- as Redis reads it ------------------------------------------------------------------------------------------------


def pattern_of(family: str, queue: str = "*") -> str:
    """The pattern that stands for a family of keys: what varies is a `*`, but a queue is this one."""
    fixed, placeholder, _ = family.replace("<q>", queue).partition("<")
    return f"{fixed}*" if placeholder else fixed


def rule(role: Role, queue: str = "*", *, knows_reading: bool = True) -> str:
    """A role as a line of `users.acl`; the one of a producer is for a queue. `knows_reading`: Redis 7 or newer.

    What stands for the password is no hash that a server takes, so that it does not start before it is replaced.
    """
    name = f"{role.name}-{queue}" if role is PRODUCER else role.name
    written = dict.fromkeys(pattern_of(family, queue) for family in role.writes)
    read = dict.fromkeys(pattern_of(family, queue) for family in role.reads)
    allowed = sorted(role.commands if knows_reading else role.commands - SINCE_REDIS_7)
    words = [f"user {name} on #sha256-of-the-password-of-{name}", "resetchannels"]
    words += (f"&{channel}" for channel in role.hears)
    words += (f"~{key}" for key in written)
    words += (f"%R~{key}" if knows_reading else f"~{key}" for key in read)
    words += ["-@all", *(f"+{command.lower().replace(' ', '|')}" for command in allowed)]
    return " ".join(words)


def users(queues: Sequence[str] = ("default",), *, knows_reading: bool = True) -> list[str]:
    """The lines of `users.acl`, with a producer for each of these queues."""
    producers = [rule(PRODUCER, queue, knows_reading=knows_reading) for queue in queues]
    others = [rule(role, knows_reading=knows_reading) for role in ROLES if role is not PRODUCER]
    admin = "user admin on #sha256-of-the-password-of-admin ~* &* +@all"
    return ["user default off", *producers, *others, admin]


def main(words: Sequence[str] | None = None) -> None:
    """Print `users.acl`: `python -m shared.roles`."""
    parser = argparse.ArgumentParser(prog="python -m shared.roles", description="Print users.acl.")
    parser.add_argument("--queue", action="append", help="a queue with a producer of its own; may be repeated")
    parser.add_argument("--redis", choices=["6.2", "7"], default="7", help="6.2: without what that server lacks")
    given = parser.parse_args(words)
    try:
        queues = [queue_name("--queue", queue) for queue in given.queue or ["default"]]
    except InvalidValue as error:
        parser.error(str(error))
    print("\n".join(users(queues, knows_reading=given.redis != "6.2")))  # noqa: T201 - it is called for printing


if __name__ == "__main__":
    main()
