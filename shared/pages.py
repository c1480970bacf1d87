"""Reads what may be long page by page, so that no command takes long: names of keys, lists, sets, sorted sets, hashes.

Only reads, and never KEYS. Judges nothing.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from shared import keys
from shared.errors import RedisUnavailable
from shared.transport import Command, Transport
from shared.walks import BATCH, Steps, accepted, bytes_of, fields_of, text_of

PAGE: Final = 1000
"""Members of one key in one answer."""


def key_names(transport: Transport, pattern: str) -> Iterator[str]:
    """The names of all keys that match, each at least once.

    Raises:
        RedisUnavailable: no answer, or this user may not scan.
    """
    cursor: Any = 0
    while True:
        (answer,) = transport.read([("SCAN", cursor, "MATCH", pattern, "COUNT", PAGE)])
        if isinstance(answer, Exception):
            raise RedisUnavailable(f"Redis at {transport.address} refuses SCAN: {answer}", transport.address)
        cursor, names = answer
        for name in names:
            yield text_of(name)
        if int(cursor) == 0:
            return


def whole_list(key: bytes) -> Steps[Counter[str]]:
    """The members of a list, with how often each was seen.

    It is read from its tail. Ids leave it at its head: in pages counted from there, those that stay would move up and
    be missed. What is pushed at the tail meanwhile only shows an id twice.

    Raises:
        Refused: it is no list.
    """
    found: Counter[str] = Counter()
    end = -1
    while True:
        (answer,) = yield [("LRANGE", key, end - PAGE + 1, end)]
        found.update(text_of(member) for member in accepted(answer))
        if len(answer) < PAGE:
            return found
        end -= PAGE


def whole_zset(key: bytes) -> Steps[dict[str, float]]:
    """The members of a sorted set, with their scores.

    Raises:
        Refused: it is no sorted set.
    """
    found: dict[str, float] = {}
    cursor: Any = 0
    while True:
        (answer,) = yield [("ZSCAN", key, cursor, "COUNT", PAGE)]
        cursor, flat = accepted(answer)
        found.update((text_of(flat[i]), float(flat[i + 1])) for i in range(0, len(flat), 2))
        if int(cursor) == 0:
            return found


def some_of_zset(key: bytes, members: Sequence[str]) -> Steps[dict[str, float]]:
    """Those of these members that a sorted set has, with their scores.

    Raises:
        Refused: it is no sorted set.
    """
    found: dict[str, float] = {}
    for start in range(0, len(members), BATCH):
        page = members[start : start + BATCH]
        (answer,) = yield [("ZMSCORE", key, *map(bytes_of, page))]
        scores = zip(page, accepted(answer), strict=True)
        found.update((member, float(score)) for member, score in scores if score is not None)
    return found


def whole_set(key: bytes) -> Steps[list[str]]:
    """The members of a set; one that moves meanwhile may be missing or shown twice.

    Raises:
        Refused: it is no set.
    """
    found: list[str] = []
    cursor: Any = 0
    while True:
        (answer,) = yield [("SSCAN", key, cursor, "COUNT", PAGE)]
        cursor, members = accepted(answer)
        found += map(text_of, members)
        if int(cursor) == 0:
            return found


def whole_hash(key: bytes) -> Steps[dict[str, str]]:
    """The fields of a hash.

    Raises:
        Refused: it is no hash.
    """
    (answer,) = yield [("HGETALL", key)]
    return fields_of(accepted(answer))


def stored_parts(transport: Transport, run_id: str, most: Mapping[str, int]) -> dict[str, Any]:
    """What is stored of one run, by name: `record`, `lifetime`, `history`, and parts with how many bytes at most.

    The answers are as Redis gives them, an exception for what it refuses.

    Raises:
        RedisUnavailable: no answer.
    """
    record, history = bytes_of(keys.job(run_id)), bytes_of(keys.run_part(run_id, "history"))
    commands: dict[str, Command] = {
        "record": ("HGETALL", record),
        "lifetime": ("TTL", record),
        "history": ("LRANGE", history, 0, -1),
    }
    for part, size in most.items():
        commands[part] = ("GETRANGE", bytes_of(keys.run_part(run_id, part)), 0, size - 1)
    return dict(zip(commands, transport.read(list(commands.values())), strict=True))
