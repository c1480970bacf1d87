"""What a server tells of itself, as far as Baton depends on it. Only reads; what it means is judged elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared import keys
from shared.transport import Transport
from shared.walks import fields_of, text_of

_SECTIONS: Final = ("server", "memory", "persistence", "replication")


@dataclass(frozen=True, slots=True)
class Server:
    """A server's own account."""

    info: Mapping[str, str]
    """What INFO says; empty where it is refused, as by the in-process server."""
    info_refused: str | None
    """What Redis says where it refuses INFO; so with the other two."""
    layout: str | None
    """The layout of the data, None where Baton has written nothing."""
    layout_refused: str | None
    compact: Mapping[str, str]
    """Options of the compact encoding of hashes; empty where CONFIG is refused."""
    compact_refused: str | None


def server(transport: Transport) -> Server:
    """Ask the server about itself: one round trip.

    Raises:
        RedisUnavailable: no answer.
    """
    sections = [("INFO", section) for section in _SECTIONS]
    *told, compact, layout = transport.read(
        [*sections, ("CONFIG", "GET", "hash-max-*-value"), ("HGET", keys.META, "layout")]
    )
    info: dict[str, str] = {}
    for text in told:
        if not isinstance(text, Exception):
            info.update(line.partition(":")[::2] for line in text_of(text).splitlines())
    info_refused, layout_refused, compact_refused = map(_refusal, (told[0], layout, compact))
    return Server(
        info=info,
        info_refused=info_refused,
        layout=None if layout is None or layout_refused else text_of(layout),
        layout_refused=layout_refused,
        compact={} if compact_refused else fields_of(compact),
        compact_refused=compact_refused,
    )


def _refusal(answer: Any) -> str | None:
    return str(answer) if isinstance(answer, Exception) else None
