"""The cheat sheet: what redis-cli answers about Baton, a question and a command each. Asks nothing itself.

`baton cheatsheet` prints it with one's own address; `python -m orchestrator.cheatsheet > docs/redis-cli.md` writes it
down. Tests run every command of it on a real server.
"""

import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from shared import keys
from shared.errors import ConfigError

EXAMPLE: Final[Mapping[str, str]] = {
    "queue": "mail",
    "run": "R",
    "worker": "W",
    "task": "T",
    "day": "2026-11-20",
    "limit": "tag:db",
    "tag": "daily",
    "key": "K",
}
"""What stands where nobody named a queue, a run, a worker, a task, a day, a limit, a tag or an idempotency key."""

LEGEND: Final = (
    "mail stands for a queue, R for the id of a run, W for the name of a worker, T for the key of a task, "
    "2026-11-20 for a day in UTC, tag:db for the limit of the tag db, daily for a tag, K for an idempotency key."
)
NOTES: Final = (
    "Where a text has several lines, as a traceback has, `redis-cli --raw` shows them.",
    "A user who may only read says SORT_RO instead of SORT (Redis 7, Valkey), and needs the right `%R~*`.",
    "Change nothing by hand: raw writes skip the rules. `baton doctor` tells what they have broken.",
)
_QUEUE, _RUN, _WORKER, _TASK, _DAY, _LIMIT, _TAG, _KEY = (f"{{{name}}}" for name in EXAMPLE)
_WAITING: Final = keys.queue(_QUEUE)
_NEXT: Final = f"SORT {_WAITING} BY nosort LIMIT 0"
_DUE: Final = f"{keys.SCHEDULED}{_QUEUE}"
_FAILED: Final = f"{keys.FAILED}{_QUEUE}"
_RECORD: Final = keys.job(_RUN)
_JOBS: Final = keys.job("*->")
_WORKING: Final = "'*->current_job_working_time'"
_MOST: Final = 10


@dataclass(frozen=True, slots=True)
class Question:
    """What one may want to know, the command that tells, and what its answer is."""

    number: int
    question: str
    command: str
    answer: str

    def about(self, names: Mapping[str, str]) -> "Question":
        """The same about this queue, run, worker, task and day."""
        return replace(self, command=self.command.format(**names))


_TABLE: Final = (
    # question, command, answer
    ("Which queues are there?", f"SMEMBERS {keys.QUEUES}", "the key of each, in no order"),
    ("How many runs wait?", f"LLEN {_WAITING}", "a number"),
    (
        "Which are next, and what are they?",
        f"{_NEXT} {_MOST} GET '#' GET '{_JOBS}task'",
        "id and task of each, the next one first",
    ),
    ("Since when does the next one wait?", f"{_NEXT} 1 GET '#' GET '{_JOBS}enqueued_at'", "its id and a time"),
    ("At what place is R?", f"LPOS {_WAITING} {_RUN}", "0 is the next one; nothing: it does not wait there"),
    (
        "What runs now, where, since when?",
        f"SORT {keys.RUNNING} BY nosort GET '#' GET '{_JOBS}task' GET '{_JOBS}worker_name' GET '{_JOBS}start_time'",
        "id, task, worker and start of each, over all queues",
    ),
    ("How many run?", f"ZCARD {keys.WIP}{_QUEUE}", "a number"),
    ("How many are due later?", f"ZCARD {_DUE}", "a number"),
    ("How many wait for other runs?", f"ZCARD {keys.DEFERRED}{_QUEUE}", "a number"),
    ("How many failed or crashed?", f"ZCARD {_FAILED}", "a number"),
    ("How many completed?", f"ZCARD {keys.FINISHED}{_QUEUE}", "a number"),
    ("How many were cancelled?", f"ZCARD {keys.CANCELED}{_QUEUE}", "a number"),
    ("What is due next?", f"ZRANGE {_DUE} 0 {_MOST - 1} WITHSCORES", "id and time of each, in seconds since 1970"),
    (
        "Is it paused, and by whom? How many may wait?",
        f"HMGET {keys.queue_settings(_QUEUE)} paused paused_by cap",
        "1, a name and a number, each empty where it is not so",
    ),
    ("Show R.", f"HGETALL {_RECORD}", "names and values; nothing: it is gone"),
    (
        "Why did R fail?",
        f"HMGET {_RECORD} task state_name attempt worker_name error",
        "these five, empty where there is none",
    ),
    ("Where in the code did R fail?", f"GET {keys.run_part(_RUN, 'traceback')}", "the last traceback"),
    (
        "What happened to R, step by step?",
        f"LRANGE {keys.run_part(_RUN, 'history')} 0 -1",
        "a JSON row for each transition, oldest first",
    ),
    (
        "What does R wait for?",
        f"SMEMBERS {keys.run_part(_RUN, 'waits')}",
        "ids of runs that have not ended, in no order",
    ),
    ("Who waits for R?", f"SMEMBERS {keys.run_part(_RUN, 'feeds')}", "ids, in no order"),
    ("What did R submit?", f"SMEMBERS {keys.run_part(_RUN, 'children')}", "ids, in no order"),
    ("Which limits does R need a slot of?", f"HGET {_RECORD} limits", "their names; nothing: none"),
    ("How much memory does the record of R take?", f"MEMORY USAGE {_RECORD}", "bytes"),
    (
        "What failed lately, and why?",
        f"SORT {_FAILED} BY nosort DESC LIMIT 0 {_MOST} GET '#' GET '{_JOBS}task' GET '{_JOBS}error'",
        "id, task and error of each, newest first as long as all are kept equally long",
    ),
    (
        "How many runs are in each state?",
        f"HGETALL {keys.COUNTS}",
        "states that are not final, each with a number, over all queues",
    ),
    ("Which limits are there?", f"SMEMBERS {keys.LIMITS}", "their names, in no order"),
    ("How many slots has a limit?", f"HGET {keys.limit(_LIMIT)} slots", "a number; nothing: no limit"),
    (
        "Who holds its slots, since when?",
        f"ZRANGE {keys.limit_part(_LIMIT, 'holders')} 0 -1 WITHSCORES",
        "id and token of each run, or `reserved` while its slot is kept for it; in seconds since 1970",
    ),
    (
        "Who waits for a slot, in which order?",
        f"SORT {keys.limit_part(_LIMIT, 'waiters')} BY nosort LIMIT 0 {_MOST} GET '#' GET '{_JOBS}task'",
        "id and task of each, the next one first",
    ),
    (
        "Which runs have a tag?",
        f"ZRANGE {keys.tag_runs(_TAG)} 0 {_MOST - 1} REV",
        "ids, the newest first; one whose run is gone leaves soon",
    ),
    ("Which run has an idempotency key?", f"GET {keys.IDEMPOTENCY}{_KEY}", "its id, and a digest of its call"),
    (
        "What has to begin, go on or end by when?",
        f"ZRANGE {keys.DEADLINES} 0 {_MOST - 1} WITHSCORES",
        "id and time of each, in seconds since 1970, the next one first",
    ),
    ("Which tasks were ever submitted?", f"SMEMBERS {keys.TASKS}", "their keys, in no order"),
    (
        "How did T go?",
        f"HGETALL {keys.task_counts(_TASK)}",
        "ends by state, seconds in all, bodies by the seconds they took at most",
    ),
    ("How did a day go?", f"HGETALL {keys.stats(_DAY)}", "what was submitted, ended, retried and lost"),
    (
        "Which workers are alive?",
        f"SORT {keys.WORKERS} BY nosort GET '#' GET '*->last_heartbeat' GET '*->state'",
        "key, last heartbeat and state of each; empty: dead, and not yet cleaned",
    ),
    (
        "Which worker is longest at its run?",
        f"SORT {keys.WORKERS} BY {_WORKING} DESC LIMIT 0 {_MOST} GET {_WORKING} GET '*->current_job' GET '#'",
        "seconds, run and worker's key of each, as of its last heartbeat",
    ),
    ("Show W.", f"HGETALL {keys.worker(_WORKER)}", "names and values"),
    ("What does W hold?", f"HKEYS {keys.held(_WORKER)}", "ids of what it has begun and not finished"),
    (
        "Whose lease is over?",
        f'ZRANGE {keys.LEASES} -inf "$(date +%s)" BYSCORE WITHSCORES',
        "workers and ends in seconds since 1970; for the eye only, by the clock of your machine",
    ),
    ("Is all work suspended?", f"EXISTS {keys.SUSPENDED}", "1: yes, by `rq suspend`; 0: no"),
    (
        "What could not be read, or came too late?",
        f"XREVRANGE {keys.QUARANTINE} + - COUNT {_MOST}",
        "entries of the quarantine, newest first",
    ),
    ("Which layout has the data?", f"HGETALL {keys.META}", "names and values"),
    ("Watch it live.", f"PSUBSCRIBE '{keys.STATE_PATTERN}'", "each transition as JSON, until Ctrl-C"),
)
QUESTIONS: Final = tuple(Question(number, *row) for number, row in enumerate(_TABLE, start=1))


def redis_cli(url: str) -> str:
    """The words that begin a command line to this address.

    Raises:
        ConfigError: redis-cli cannot reach such a place.
    """
    place, _, options = url.partition("?")
    scheme, _, rest = place.partition("://")
    numbers = [text.partition("=")[2] for text in options.split("&") if text.startswith("db=")]
    more = "".join(f" -n {shlex.quote(text)}" for text in numbers)
    if scheme in ("redis", "rediss"):
        # An empty user means the default one to the client library; redis-cli would take it for a name.
        user = "default" if rest.startswith(":") and "@" in rest else ""
        return f"redis-cli -u {shlex.quote(f'{scheme}://{user}{rest}')}{more}"
    if scheme == "unix":
        return f"redis-cli -s {shlex.quote('/' + rest.partition('/')[2])}{more}"
    raise ConfigError("redis-cli reaches redis://, rediss:// and unix:// only, and this is another address")


def page() -> Iterator[str]:
    """The cheat sheet as Markdown, line by line."""
    yield "# What redis-cli answers"
    yield ""
    yield f"{LEGEND} `baton cheatsheet` prints this with your address filled in."
    yield ""
    yield "| # | question | `redis-cli ...` | answer |"
    yield "|---|---|---|---|"
    for one in QUESTIONS:
        yield f"| {one.number} | {one.question} | `{one.about(EXAMPLE).command}` | {one.answer} |"
    yield ""
    for note in NOTES:
        yield f"- {note}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{text}\n" for text in page())
