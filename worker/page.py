"""The memory that a supervisor shares with a child: what it has started, its body, the last beat, what it is to do.

# Never locked: each field has one writer, see the two sides. The supervisor trusts what the child wrote about runs only
# once the child is dead.
"""

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass

from shared.clock import monotonic

_SIZE = 4096
_BEAT = struct.Struct("<d")
_ROUND = struct.Struct("<Qd")
_STARTED = struct.Struct("<36s")
_BODY = struct.Struct("<dQd")
_CANCELS = struct.Struct("<32Q")
_CANCEL = struct.Struct("<Q")
_COUNT = struct.Struct("<Q")
_FLAG = struct.Struct("<?")
_BEAT_AT, _ROUND_AT, _STARTED_AT, _BODY_AT, _CANCELS_AT = 0, 64, 128, 192, 256
_RUNS_AT, _HOOKS_AT, _MOST_RUNS_AT, _QUIET_AT, _AHEAD_AT, _PARKED_AT = 512, 576, 640, 704, 768, 832
_HOOKS_TOLD_AT, _HOOK_AT, _EXTRA_AT = 896, 960, 1024


@dataclass(frozen=True)
class Body:
    """An attempt in its body, since a moment of this machine's monotonic clock; `seconds` is its limit, 0 for none."""

    run_id: str
    since: float
    token: int = 0
    seconds: float = 0.0


class Page:
    """One anonymous page of shared memory; made before the fork, it is both sides' own.

    `ring` is called on the child's side when there is something in it that the supervisor does not wait for.
    """

    def __init__(self, ring: Callable[[], object] = lambda: None) -> None:
        self._ring = ring
        self._memory = mmap.mmap(-1, _SIZE)
        self._rounds = 0
        self._runs = 0
        self._cancels = 0

    # --- the child's side ---------------------------------------------------------------------------------------------

    def round(self) -> None:
        """The child's loop has come round once more."""
        self._rounds += 1
        _ROUND.pack_into(self._memory, _ROUND_AT, self._rounds, monotonic())

    def start(self, run_id: str) -> None:
        """This run is executed from now on."""
        self._runs += 1
        _COUNT.pack_into(self._memory, _RUNS_AT, self._runs)
        _STARTED.pack_into(self._memory, _STARTED_AT, run_id.encode())

    def begin_body(self, token: int, seconds: float | None) -> None:
        """The body of the run's attempt with this token begins, with this time limit."""
        _BODY.pack_into(self._memory, _BODY_AT, monotonic(), token, seconds or 0.0)

    def end_body(self) -> None:
        """The body has ended; its outcome is not recorded yet."""
        _BODY.pack_into(self._memory, _BODY_AT, 0.0, 0, 0.0)

    def rest(self) -> None:
        """Of all that was started the outcomes are recorded."""
        _STARTED.pack_into(self._memory, _STARTED_AT, b"")

    def hold_ahead(self, *, on: bool) -> None:
        """Beside the run that is started, others are held that have not started; or there are none any more."""
        _FLAG.pack_into(self._memory, _AHEAD_AT, on)

    def begin_hook(self) -> None:
        """Code of the user's outside of a body begins: a hook, a condition."""
        _BEAT.pack_into(self._memory, _HOOK_AT, monotonic())

    def end_hook(self) -> None:
        """It has ended."""
        _BEAT.pack_into(self._memory, _HOOK_AT, 0.0)

    def park(self, *, on: bool) -> None:
        """What is executed waits for other runs, and lends its slot to them; or goes on."""
        if on != self.is_parked():
            _FLAG.pack_into(self._memory, _PARKED_AT, on)
            self._ring()

    def in_start_hooks(self, *, on: bool) -> None:
        """The child runs its start hooks, which may take any time; or has done so."""
        _FLAG.pack_into(self._memory, _HOOKS_AT, on)

    def most_runs(self) -> int:
        """After how many runs the child is to end; 0 for any number."""
        return int(_COUNT.unpack_from(self._memory, _MOST_RUNS_AT)[0])

    def is_quiet(self) -> bool:
        """True if the child is to begin nothing more."""
        return bool(_FLAG.unpack_from(self._memory, _QUIET_AT)[0])

    def hooks_told(self) -> int:
        """How often the supervisor told of hooks that are due."""
        return int(_COUNT.unpack_from(self._memory, _HOOKS_TOLD_AT)[0])

    def is_extra(self) -> bool:
        """True if the child is to begin only what somebody waits for."""
        return bool(_FLAG.unpack_from(self._memory, _EXTRA_AT)[0])

    def is_cancelled(self, token: int) -> bool:
        """True if the supervisor wants the attempt with this token ended."""
        return token in _CANCELS.unpack_from(self._memory, _CANCELS_AT)

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

    def runs(self) -> int:
        """How many runs the child has started."""
        return int(_COUNT.unpack_from(self._memory, _RUNS_AT)[0])

    def is_spent(self) -> bool:
        """True if the child has started as many runs as it may."""
        return 0 < self.most_runs() <= self.runs()

    def holds_ahead(self) -> bool:
        """True if the child may hold runs that have not started."""
        return bool(_FLAG.unpack_from(self._memory, _AHEAD_AT)[0])

    def is_in_start_hooks(self) -> bool:
        """True while the child runs its start hooks."""
        return bool(_FLAG.unpack_from(self._memory, _HOOKS_AT)[0])

    def in_hook_for(self) -> float | None:
        """Seconds since code of the user's outside of a body began; None if there is none."""
        (since,) = _BEAT.unpack_from(self._memory, _HOOK_AT)
        return float(monotonic() - since) if since else None

    def is_parked(self) -> bool:
        """True while what the child executes waits for other runs."""
        return bool(_FLAG.unpack_from(self._memory, _PARKED_AT)[0])

    def make_extra(self) -> None:
        """Have the child, from its birth on, begin only what somebody waits for."""
        _FLAG.pack_into(self._memory, _EXTRA_AT, True)

    def limit(self, runs: int) -> None:
        """Have the child end after so many runs."""
        _COUNT.pack_into(self._memory, _MOST_RUNS_AT, runs)

    def quiet(self, *, on: bool) -> None:
        """Have the child begin nothing more, or begin again. A child that waits has to be told to look."""
        _FLAG.pack_into(self._memory, _QUIET_AT, on)

    def tell_of_hooks(self) -> None:
        """Have the child look for hooks that are due. A child that waits has to be told to look here."""
        _COUNT.pack_into(self._memory, _HOOKS_TOLD_AT, self.hooks_told() + 1)

    def cancel(self, token: int) -> None:
        """Have the attempt with this token ended. The last 32 are kept."""
        _CANCEL.pack_into(self._memory, _CANCELS_AT + _CANCEL.size * (self._cancels % 32), token)
        self._cancels += 1

    def body(self) -> Body | None:
        """The attempt that is in its body, if one is."""
        since, token, seconds = _BODY.unpack_from(self._memory, _BODY_AT)
        return Body(self.started(), since, token, seconds) if since else None

    def started(self) -> str:
        """The run that was started last, until its outcome is recorded: a child that dies loses it. '' for none."""
        (run_id,) = _STARTED.unpack_from(self._memory, _STARTED_AT)
        return str(run_id.rstrip(b"\0").decode())

    def close(self) -> None:
        """Give the memory back, on this side."""
        self._memory.close()
