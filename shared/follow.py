"""Following transitions as they happen: of one run, and of all. Changes nothing, and judges no state but the end.

# Order: subscribe, wait for the server's confirmation, only then read. A transition between an earlier read and the
# confirmation would be missed.
# Of one run, what is heard is a hint to read its record: messages can be lost, late, double or forged. Of all runs
# there is no record to read, so what is heard is passed on as it came.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from shared import keys
from shared.clock import monotonic
from shared.errors import BadEnvelope, RedisUnavailable, RunGone
from shared.retries import backoff
from shared.run_fields import row_of
from shared.settings import Settings
from shared.state_types import TERMINAL_STATES
from shared.transport import Exchange, Line
from shared.walks import text_of

log = logging.getLogger("baton.follow")
_MESSAGES: Final = (b"message", b"pmessage")


def follow(exchange: Exchange, run_id: str, settings: Settings) -> Iterator[str]:
    """The rows of a run's history as they are stored: those that are there, then each new one, until the run is final.

    Raises:
        RunGone: there is no such run, or no longer.
        BadEnvelope: Redis does not read its history.
        RedisUnavailable: no answer for as long as a producer would try.
    """
    known = 0
    for _ in _heard(exchange, settings, "SUBSCRIBE", keys.state_channel(run_id)):
        is_final, rows = _read(exchange, run_id)
        for row in rows:
            place = row_of(row)
            is_new = known == 0 if isinstance(place, str) else place.seq > known
            if is_new:
                yield text_of(row)
        known = max((place.seq for place in map(row_of, rows) if not isinstance(place, str)), default=known)
        if is_final:
            return


def follow_all(exchange: Exchange, settings: Settings) -> Iterator[tuple[str, str]]:
    """The id of a run and what was told of its transition, of every run, from now on and without an end.

    Raises:
        RedisUnavailable: no answer for as long as a producer would try.
    """
    for message in _heard(exchange, settings, "PSUBSCRIBE", keys.STATE_PATTERN):
        if message is not None:
            _, _, channel, told = message
            yield keys.run_id_of_channel(text_of(channel)), text_of(told)


class Overheard:
    """The transitions of all runs since the last look, for who looks often. Never waits; what is lost is lost."""

    def __init__(self, exchange: Exchange) -> None:
        """Subscribe.

        Raises:
            RedisUnavailable: no connection.
        """
        self._line = exchange.line()
        self._line.send("PSUBSCRIBE", keys.STATE_PATTERN)

    def heard(self) -> Iterator[tuple[str, str]]:
        """As `follow_all`, what is there by now; ends with it.

        Raises:
            RedisUnavailable: the connection is lost.
        """
        while (message := self._line.hear(0)) is not None:
            if _tells(message):
                yield keys.run_id_of_channel(text_of(message[2])), text_of(message[3])

    def close(self) -> None:
        """Hear no more."""
        self._line.close()


def _read(exchange: Exchange, run_id: str) -> tuple[bool, Sequence[bytes]]:
    """True if the run is final, and its history; which is read second, so that it tells at least as much."""
    record, rows = exchange.read(
        [("HGET", keys.job(run_id), "state_type"), ("LRANGE", keys.run_part(run_id, "history"), 0, -1)]
    )
    for answer in (record, rows):
        if isinstance(answer, Exception):
            raise BadEnvelope(f"run {run_id}: {answer}")
    if record is None:
        raise RunGone(f"Run {run_id} is not in Redis: it was deleted, is past its retention, or never was.")
    return text_of(record) in TERMINAL_STATES, rows


def _heard(exchange: Exchange, settings: Settings, command: str, channel: str) -> Iterator[Any | None]:
    """Messages of a subscription; None when it is confirmed, also anew, and now and then while nothing is heard.

    Raises:
        RedisUnavailable: it could not be had for as long as a producer would try.
    """
    line = exchange.line()
    tries, give_up_at = 0, 0.0
    try:
        while True:
            try:
                _subscribe(line, settings, command, channel)
                tries = 0
                yield None
                yield from _messages(line, settings)
            except RedisUnavailable as error:
                give_up_at = give_up_at if tries else monotonic() + settings.producer_budget
                pause = backoff(tries)
                if monotonic() + pause >= give_up_at:
                    raise
                log.warning("%s", error)
                tries += 1
                time.sleep(pause)
    finally:
        line.close()


def _subscribe(line: Line, settings: Settings, command: str, channel: str) -> None:
    line.close()
    line.send(command, channel)
    if line.hear(settings.socket_timeout) is None:
        raise _silent(line)


def _messages(line: Line, settings: Settings) -> Iterator[Any | None]:
    """What comes in, until the connection is lost. It is asked after each silence: one that is half open never errs."""
    asked = False
    while True:
        message = line.hear(settings.future_sweep)
        if message is not None:
            asked = False
            if _tells(message):
                yield message
        elif asked:
            raise _silent(line)
        else:
            line.send("PING")
            asked = True
            yield None


def _tells(message: Any) -> bool:
    """True for what tells something. What is empty only tried whether its sender may send: see `probing.py`."""
    return message[0] in _MESSAGES and message[-1] != b""


def _silent(line: Line) -> RedisUnavailable:
    return RedisUnavailable(f"Redis at {line.address} fell silent", line.address)
