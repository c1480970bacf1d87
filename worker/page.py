"""The memory that a supervisor shares with a child: which run it started, since when, and when the last good beat was.

# Written by the child but for `beat`, which the supervisor writes. Never locked: each field has one writer, and the
# supervisor trusts what the child wrote about runs only once the child is dead.
"""

import mmap
import struct
from dataclasses import dataclass

from shared.clock import monotonic

_SIZE = 4096
_BEAT = struct.Struct("<d")
_ROUND = struct.Struct("<Qd")
_SINCE = struct.Struct("<d")
_BODY = struct.Struct("<d36s")
_BEAT_AT, _ROUND_AT, _BODY_AT = 0, 64, 128


@dataclass(frozen=True)
class Body:
    """A run in its body, since a moment of this machine's monotonic clock."""

    run_id: str
    since: float


class Page:
    """One anonymous page of shared memory; made before the fork, it is both sides' own."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE)
        self._rounds = 0

    # --- the child's side ---------------------------------------------------------------------------------------------

    def round(self) -> None:
        """The child's loop has come round once more."""
        self._rounds += 1
        _ROUND.pack_into(self._memory, _ROUND_AT, self._rounds, monotonic())

    def enter(self, run_id: str) -> None:
        """This run's body begins now."""
        _BODY.pack_into(self._memory, _BODY_AT, monotonic(), run_id.encode())

    def leave(self) -> None:
        """The body has ended; its outcome is not recorded yet."""
        _SINCE.pack_into(self._memory, _BODY_AT, 0.0)

    def rest(self) -> None:
        """Of all that was started the outcomes are recorded."""
        _BODY.pack_into(self._memory, _BODY_AT, 0.0, b"")

    def since_beat(self) -> float:
        """Seconds since the supervisor's last good beat."""
        (beat,) = _BEAT.unpack_from(self._memory, _BEAT_AT)
        return float(monotonic() - beat)

    # --- the supervisor's side ----------------------------------------------------------------------------------------

    def beaten(self, at: float) -> None:
        """The lease was renewed by a beat that was sent at this moment."""
        _BEAT.pack_into(self._memory, _BEAT_AT, at)

    def rounds(self) -> tuple[int, float]:
        """How often the child's loop came round, and when it last did."""
        number, at = _ROUND.unpack_from(self._memory, _ROUND_AT)
        return int(number), float(at)

    def body(self) -> Body | None:
        """The run that is in its body, if one is."""
        since, run_id = _BODY.unpack_from(self._memory, _BODY_AT)
        return Body(run_id.decode(), since) if since else None

    def started(self) -> str:
        """The run that was started last, until its outcome is recorded: a child that dies loses it. '' for none."""
        _, run_id = _BODY.unpack_from(self._memory, _BODY_AT)
        return str(run_id.rstrip(b"\0").decode())

    def close(self) -> None:
        """Give the memory back, on this side."""
        self._memory.close()
